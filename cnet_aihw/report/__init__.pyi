from .style import figure_style as figure_style
from .style import new_figure as new_figure
from .style import save_figure as save_figure
from .write import write_report as write_report

__all__ = ["figure_style", "new_figure", "save_figure", "write_report"]
