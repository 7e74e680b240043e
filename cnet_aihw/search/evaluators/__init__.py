"""Evaluators of placements: a fit of each one, one supernet for all, or a fit of each chip."""

from typing import TYPE_CHECKING

from cnet_aihw.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from cnet_aihw.search.evaluators.per_chip import PerChipEvaluator as PerChipEvaluator
    from cnet_aihw.search.evaluators.per_placement import FitEvaluator as FitEvaluator
    from cnet_aihw.search.evaluators.protocol import PlacementEvaluator as PlacementEvaluator
    from cnet_aihw.search.evaluators.supernet import CompensationSupernet as CompensationSupernet
    from cnet_aihw.search.evaluators.supernet_evaluator import (
        SupernetEvaluator as SupernetEvaluator,
    )

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
