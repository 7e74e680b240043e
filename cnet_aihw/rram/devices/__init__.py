"""Devices: one noise model a file, each with its source, units and valid range."""

from typing import TYPE_CHECKING

from cnet_aihw.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from cnet_aihw.rram.devices.aihwkit_model import AihwkitNoiseModel as AihwkitNoiseModel
    from cnet_aihw.rram.devices.cmo import CMONoiseModel as CMONoiseModel
    from cnet_aihw.rram.devices.composite import CompositeNoiseModel as CompositeNoiseModel
    from cnet_aihw.rram.devices.gaussian_additive import (
        GaussianAdditiveNoiseModel as GaussianAdditiveNoiseModel,
    )
    from cnet_aihw.rram.devices.gaussian_proportional import (
        GaussianProportionalNoiseModel as GaussianProportionalNoiseModel,
    )
    from cnet_aihw.rram.devices.levels import LevelsNoiseModel as LevelsNoiseModel
    from cnet_aihw.rram.devices.lognormal import LogNormalNoiseModel as LogNormalNoiseModel
    from cnet_aihw.rram.devices.measured import MeasuredNoiseModel as MeasuredNoiseModel
    from cnet_aihw.rram.devices.pcm import PCMNoiseModel as PCMNoiseModel
    from cnet_aihw.rram.devices.power_law_drift import (
        PowerLawDriftNoiseModel as PowerLawDriftNoiseModel,
    )
    from cnet_aihw.rram.devices.read_noise import ReadNoiseModel as ReadNoiseModel
    from cnet_aihw.rram.devices.stochastic_cell import (
        StochasticCellNoiseModel as StochasticCellNoiseModel,
    )
    from cnet_aihw.rram.devices.stuck_at import StuckAtNoiseModel as StuckAtNoiseModel
    from cnet_aihw.rram.devices.wan2022 import Wan2022NoiseModel as Wan2022NoiseModel

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
