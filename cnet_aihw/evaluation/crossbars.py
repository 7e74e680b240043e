"""Networks that train with perfect periphery and are measured on crossbars with a real one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aihwkit.simulator.configs import InferenceRPUConfig
from torch import nn

from cnet_aihw.evaluation.adc import adc_use
from cnet_aihw.rram import RRAMRPUConfig, convert_to_analog, convert_to_digital
from cnet_aihw.rram.layer_configs import LayerConfig
from cnet_aihw.runtime.parts import Inputs
from cnet_aihw.runtime.typed import checked


@checked
def perfect_periphery(
    config: InferenceRPUConfig, t_inference: float | None = None
) -> RRAMRPUConfig:
    """Return a configuration with the same device, perfect periphery and one crossbar per layer.

    Networks trained once on it can be measured on many kinds of crossbars.

    Args:
        config: configuration of the crossbars that the network is measured on.
        t_inference: seconds after programming of the chips that training injects; None: just
            programmed.
    """
    perfect = RRAMRPUConfig(
        noise_model=config.noise_model, drift_compensation=config.drift_compensation
    )
    perfect.variation.t_inference = t_inference
    return perfect


@checked
def move_to_crossbars(
    model: nn.Module,
    config: InferenceRPUConfig,
    exclude: Sequence[str] = (),
    converters: Mapping[Any, Any] | None = None,
    tied: str = "keep_digital",
    layer_config: LayerConfig | None = None,
) -> nn.Module:
    """Return a copy of a converted network on other crossbars, with the same nominal weights.

    Args:
        model: converted model without compensation.
        config: configuration of the crossbars.
        exclude: layers that stay digital: names or patterns.
        converters: as for :func:`~cnet_aihw.rram.convert_to_analog`.
        tied: as for :func:`~cnet_aihw.rram.convert_to_analog`.
        layer_config: as for :func:`~cnet_aihw.rram.convert_to_analog`.
    """
    return convert_to_analog(
        convert_to_digital(model),
        config,
        exclude=list(exclude),
        converters=converters,
        tied=tied,
        layer_config=layer_config,
    )


@checked
def adc_summary(model: nn.Module, example: Inputs) -> dict[str, Any]:
    """Return the bits of a network's ADCs and their conversions and steps for one sample.

    Args:
        model: converted model.
        example: one input or more.

    Returns:
        ``adc_bits`` (of the first layer with ADCs), ``adc_conversions`` and ``adc_cost``, see
        :func:`cnet_aihw.evaluation.conversion_steps`; all None without ADCs.
    """
    uses = adc_use(model, example)
    return {
        "adc_bits": uses[0].bits if uses else None,
        "adc_conversions": sum(use.conversions for use in uses) if uses else None,
        "adc_cost": sum(use.steps for use in uses) if uses else None,
    }
