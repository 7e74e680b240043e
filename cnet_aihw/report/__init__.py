"""Tables, figures and the page of a run or a sweep, from its records alone."""

from typing import TYPE_CHECKING

from cnet_aihw.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from cnet_aihw.report.style import figure_style as figure_style
    from cnet_aihw.report.style import new_figure as new_figure
    from cnet_aihw.report.style import save_figure as save_figure
    from cnet_aihw.report.sweep_page import write_report as write_report

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
