"""Tuning of a network on the one chip that it is used on: writes, forwards, no weight is read."""

from typing import TYPE_CHECKING

from cnet_aihw.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from cnet_aihw.tuning.cells import CellWrites as CellWrites
    from cnet_aihw.tuning.chip import Chip as Chip
    from cnet_aihw.tuning.chip import SimulatedChip as SimulatedChip
    from cnet_aihw.tuning.gradients import perturbation_gradient as perturbation_gradient
    from cnet_aihw.tuning.result import TuningResult as TuningResult
    from cnet_aihw.tuning.settings import TuningConfig as TuningConfig
    from cnet_aihw.tuning.settings import TuningSettings as TuningSettings
    from cnet_aihw.tuning.settings import validate_tuning_settings as validate_tuning_settings
    from cnet_aihw.tuning.statistics import TuningStatistics as TuningStatistics
    from cnet_aihw.tuning.tune import score_on_chip as score_on_chip
    from cnet_aihw.tuning.tune import tune_on_chip as tune_on_chip
    from cnet_aihw.tuning.tune import write_all as write_all
    from cnet_aihw.tuning.tune_chips import tune_chips as tune_chips

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
