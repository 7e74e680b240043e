"""What a search asks for the worth of a placement: fits of each one, or one fit shared by all."""

from typing import TYPE_CHECKING

from cnet_aihw.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from cnet_aihw.search.evaluators.per_placement import FitEvaluator as FitEvaluator
    from cnet_aihw.search.evaluators.protocol import PlacementEvaluator as PlacementEvaluator
    from cnet_aihw.search.evaluators.shared import SharedEvaluator as SharedEvaluator
    from cnet_aihw.search.evaluators.supernet import CompensationSupernet as CompensationSupernet

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
