"""Networks trained without what is at the edges of crossbars, and put on those to be measured."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from cnet_aihw.jobs.recipes import Recipe
from cnet_aihw.runtime.errors import CnetError

if TYPE_CHECKING:
    from aihwkit.simulator.configs import InferenceRPUConfig
    from torch import nn

    from cnet_aihw.jobs.pipeline import Run

log = logging.getLogger(__name__)

_CALIBRATION_SAMPLES = 1000


def training_config(recipe: Recipe) -> InferenceRPUConfig:
    """What a network is trained, scanned and compensated on.

    With ``rram.in_training`` false it is the same device with perfect periphery, one crossbar a
    layer: so networks trained once can be measured on many crossbars.
    """
    from cnet_aihw.jobs.build import make
    from cnet_aihw.rram import RRAMRPUConfig

    config: InferenceRPUConfig = make(recipe.config.rram.rpu_config)
    if _in_training(recipe):
        return config
    perfect = RRAMRPUConfig(
        noise_model=config.noise_model, drift_compensation=config.drift_compensation
    )
    perfect.variation.t_inference = drift_time(recipe)
    return perfect


def drift_time(recipe: Recipe) -> float | None:
    """Seconds after programming of the chips that all steps before the measurement see."""
    time: float | None = OmegaConf.select(recipe.config, "rram.t_inference", default=None)
    return time


def check_adc_range(model: nn.Module) -> None:
    """Refuse an ADC without a range where training needs one.

    Raises:
        CnetError: if there is such an ADC.
    """
    from cnet_aihw.evaluation.adc import lacks_adc_range

    if lacks_adc_range(model):
        raise CnetError(
            "rram.adc_range is null, so that it is calibrated on the trained network, but "
            "rram.in_training is true; set rram.in_training=false, or give a number."
        )


def on_crossbars(recipe: Recipe, model: nn.Module) -> nn.Module:
    """The network as it is measured, from the network as it was trained.

    Raises:
        CnetError: if it cannot lie there, or its compensation cannot stand beside it there.
    """
    from cnet_aihw.jobs.build import make
    from cnet_aihw.rram import RRAMRPUConfig, convert_to_analog, convert_to_digital

    if _in_training(recipe):
        return model
    config = make(recipe.config.rram.rpu_config)
    if recipe.compensation.enabled and not isinstance(config, RRAMRPUConfig):
        raise CnetError(
            f"rram.rpu_config is an {type(config).__name__}, on whose layers compensation cannot "
            "be put; choose compensation=none, or an RRAMRPUConfig."
        )
    digital = convert_to_digital(model)
    return convert_to_analog(digital, config, exclude=list(recipe.config.rram.exclude))


def prepare(run: Run, recipe: Recipe, model: nn.Module) -> None:
    """Calibrate the ADCs of a network that is to be measured, where ``rram.adc_range`` is null."""
    from cnet_aihw.evaluation import adc_use, calibrate_adc

    given = OmegaConf.select(recipe.config, "rram.adc_range", default=0.0)
    if given is not None or not adc_use(model, run.data.val.x[:1]):
        return
    ranges = calibrate_adc(
        model,
        run.data.train.x[:_CALIBRATION_SAMPLES],
        recipe.evaluation.batch_size,
        recipe.config.device,
    )
    told = ", ".join(f"{name} {reach:g}" for name, reach in ranges.items())
    log.info("ADC ranges of %s: %s", recipe.name, told)


def crossbar_record(run: Run, recipe: Recipe, model: nn.Module) -> dict[str, Any]:
    """Conductance levels, ADC bits and what conversions cost, for a table; None without."""
    from cnet_aihw.evaluation import adc_use

    uses = adc_use(model, run.data.val.x[:1])
    return {
        "levels": OmegaConf.select(recipe.config, "rram.levels", default=None) or None,
        "adc_bits": uses[0].bits if uses else None,
        "adc_conversions": sum(use.conversions for use in uses) if uses else None,
        "adc_cost": sum(use.steps for use in uses) if uses else None,
    }


def digital_record(run: Run, model: nn.Module) -> dict[str, Any]:
    """Linear layers and convolutions that are not on crossbars, and their shares of the network.

    They count as added, as those do that a placement keeps digital.
    """
    from cnet_aihw.compensation import (
        CompensationVariant,
        Placement,
        compensation_cost,
        network_cost,
    )

    network = network_cost(model, run.data.val.x[:1])
    layers = [name for name, layer in network.layers.items() if not layer.analog]
    placement = Placement(dict.fromkeys(layers, "digital"))
    cost = compensation_cost(network, placement, CompensationVariant())
    return {
        "layers": layers,
        "overhead_weights": cost.overhead_weights,
        "overhead_macs": cost.overhead_macs,
    }


def _in_training(recipe: Recipe) -> bool:
    return bool(OmegaConf.select(recipe.config, "rram.in_training", default=True))
