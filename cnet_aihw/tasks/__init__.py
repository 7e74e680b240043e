"""Tasks: loss, metric, direction and formatting; nothing outside this room knows of them."""

from typing import TYPE_CHECKING

from cnet_aihw.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from cnet_aihw.tasks.base import Metric as Metric
    from cnet_aihw.tasks.base import Task as Task
    from cnet_aihw.tasks.base import check_score as check_score
    from cnet_aihw.tasks.base import describe_task as describe_task
    from cnet_aihw.tasks.base import is_better as is_better
    from cnet_aihw.tasks.base import reaches as reaches
    from cnet_aihw.tasks.classification import Classification as Classification
    from cnet_aihw.tasks.classification import smoothed as smoothed
    from cnet_aihw.tasks.language import LanguageModelling as LanguageModelling
    from cnet_aihw.tasks.multi_label import MultiLabel as MultiLabel
    from cnet_aihw.tasks.regression import Regression as Regression
    from cnet_aihw.tasks.segmentation import Segmentation as Segmentation

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
