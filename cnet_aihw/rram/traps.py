"""Find settings that compute other than meant, most of them of aihwkit 1.2, before any work."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from aihwkit.inference import ReRamCMONoiseModel, ReRamWan2022NoiseModel
from aihwkit.simulator.configs import InferenceRPUConfig, TorchInferenceRPUConfig
from aihwkit.simulator.parameters.base import RPUConfigBase
from aihwkit.simulator.parameters.enums import (
    BoundManagementType,
    WeightModifierType,
)

from cnet_aihw.rram.crossbar.mapping import ReferenceColumnConverter
from cnet_aihw.rram.crossbar.tiles import RRAMInferenceTile
from cnet_aihw.rram.devices.any_model import has_read_noise, label_of
from cnet_aihw.rram.devices.levels import LevelsNoiseModel
from cnet_aihw.runtime.typed import checked


@dataclass(frozen=True)
class Trap:
    """One trap that a configuration walks into.

    Attributes:
        name: short name, for tests and for filtering.
        message: one sentence: the setting, what happens, what to set instead.
    """

    name: str
    message: str


@checked
def find_traps(rpu_config: RPUConfigBase) -> list[Trap]:
    """List the traps that this configuration walks into, most of them of aihwkit 1.2.

    Args:
        rpu_config: any RPU configuration.
    """
    if not isinstance(rpu_config, InferenceRPUConfig):
        return []
    return [*_periphery_traps(rpu_config), *_modifier_traps(rpu_config), *_noise_traps(rpu_config)]


def _periphery_traps(config: InferenceRPUConfig) -> Iterator[Trap]:
    on_torch = isinstance(config, TorchInferenceRPUConfig)
    forward = config.forward
    if not on_torch and forward.out_bound > 0.0:
        yield Trap(
            "cpp-output-bound",
            f"forward.out_bound is {forward.out_bound}: the C++ tile zeroes input gradients of "
            "outputs beyond it, even with is_perfect=True, so that layers in front train "
            "wrongly; set forward.out_bound=0.0.",
        )
    if config.pre_post.input_range.enable and forward.is_perfect:
        yield Trap(
            "input-range",
            "pre_post.input_range is enabled: it clips inputs (at 3.0 by default) although "
            "forward.is_perfect; set pre_post.input_range.enable=False.",
        )
    if forward.is_perfect:
        return
    if on_torch and forward.bound_management != BoundManagementType.NONE:
        yield Trap(
            "bound-management",
            f"forward.bound_management is {forward.bound_management.name}: on the torch tile one "
            "clipped output recomputes the whole batch, so that results depend on the batch; set "
            "BoundManagementType.NONE (cnet_aihw.periphery does).",
        )
    if not config.mapping.weight_scaling_omega:
        yield Trap(
            "raw-weight-units",
            "mapping.weight_scaling_omega is 0 with a periphery that is not perfect: ADC range "
            "and output noise are then in raw weight units; set mapping.weight_scaling_omega=1.0.",
        )
    if not on_torch:
        yield Trap(
            "unseeded-read-noise",
            "the C++ tile draws its read noise from a generator seeded by the clock; use a "
            "torch-tile configuration where the same seed should give the same result.",
        )


def _modifier_traps(config: InferenceRPUConfig) -> Iterator[Trap]:
    if config.modifier.type in (WeightModifierType.NONE, WeightModifierType.COPY):
        return
    if not isinstance(config, TorchInferenceRPUConfig):
        yield Trap(
            "cpp-modifier",
            f"modifier is {config.modifier.type.name}: on the C++ tile it acts only with "
            "aihwkit's Analog optimizers, its first parameters are kept for good, and it "
            "outlives programming, so that gradients come from stale weights; use RRAMRPUConfig, "
            "whose variation has none of this.",
        )
    if config.modifier.type == WeightModifierType.MULT_NORMAL and (
        config.modifier.rel_to_actual_wmax or config.modifier.assumed_wmax != 1.0
    ):
        yield Trap(
            "mult-normal",
            "modifier MULT_NORMAL means std_dev times the weight on the torch tile, but std_dev "
            "times the weight times the largest weight on the C++ tile; set "
            "rel_to_actual_wmax=False and assumed_wmax=1.0.",
        )


def _noise_traps(config: InferenceRPUConfig) -> Iterator[Trap]:
    model = config.noise_model
    if has_read_noise(model) and not issubclass(config.tile_class, RRAMInferenceTile):
        yield Trap(
            "unread-noise",
            f"the noise model ({label_of(model)}) has read noise, but {config.tile_class.__name__} "
            "reads the same weights every time; use RRAMRPUConfig.",
        )
    converter, acting = model.g_converter, getattr(model, "chain", list[object])()
    if isinstance(converter, ReferenceColumnConverter) and not converter.exact:
        counts = [part.levels for part in acting if isinstance(part, LevelsNoiseModel)]
        for levels in (count for count in counts if count % 2 == 0):
            yield Trap(
                "reference-between-levels",
                f"levels is {levels}, so that the middle of the range, where the reference column "
                "is, lies between two levels; its devices take the next one, and all weights shift "
                "by half a step; give an odd number of levels, or another cell.",
            )
    if config.drift_compensation is not None:
        yield Trap(
            "drift-compensation",
            f"drift_compensation is {type(config.drift_compensation).__name__}: it rescales the "
            "outputs of a chip in evaluation (only cnet_aihw.clear_chip resets its factor) and "
            "costs most of the programming time; set drift_compensation=None to see the "
            "variation itself.",
        )
    if isinstance(model, ReRamWan2022NoiseModel) and not math.isclose(
        model.g_converter.g_max, 40.0
    ):
        yield Trap(
            "reram-wan-g-max",
            f"ReRamWan2022NoiseModel has g_max = {model.g_converter.g_max} uS, but its "
            "coefficients were fitted at 40 uS and are not rescaled, so that the noise is off by "
            "their ratio; give g_max=40.0, or take cnet_aihw.rram.Wan2022NoiseModel.",
        )
    if isinstance(model, ReRamCMONoiseModel) and model.acceptance_range == min(model.coeff_dict):
        yield Trap(
            "reram-cmo-acceptance",
            f"ReRamCMONoiseModel runs at acceptance_range = {model.acceptance_range} percent, "
            "which is also what it takes for any value it does not know, such as its own default "
            f"0.02; it knows {sorted(model.coeff_dict)}, and cnet_aihw.rram.CMONoiseModel refuses "
            "any other.",
        )
