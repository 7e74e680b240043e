"""Configurations of crossbars: one for the network, and those of single layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

from aihwkit.simulator.configs import InferenceRPUConfig
from omegaconf import DictConfig, OmegaConf
from torch import nn

from cnet_aihw.jobs.nodes import make, plain_values
from cnet_aihw.rram import match_names
from cnet_aihw.rram.layer_configs import LayerConfig
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.values import nearest

_OF_ALL = (
    *("rpu_config", "exclude", "in_training", "t_inference", "per_layer"),
    *("converters", "tied"),
)
"""Keys of ``rram`` that no layer has of its own."""


def network_rpu_config(config: DictConfig) -> InferenceRPUConfig:
    """Build the configuration that ``rram`` describes.

    Raises:
        CnetError: when it cannot be built, or the target gives something else.
    """
    made = make(config.rram.rpu_config, "rram.rpu_config")
    if not isinstance(made, InferenceRPUConfig):
        expected = "a target that gives an RRAMRPUConfig, or another InferenceRPUConfig"
        raise bad_value("rram.rpu_config._target_", type(made).__name__, expected)
    return made


def layer_rpu_configs(config: DictConfig) -> dict[str, InferenceRPUConfig]:
    """Build the configurations that ``rram.per_layer`` describes, pattern of names -> its own.

    Raises:
        CnetError: names the pattern, and what is wrong with its values.
    """
    node = OmegaConf.select(config, "rram.per_layer", default=None)
    return {
        str(pattern): _own_config(config, f"rram.per_layer.{pattern}", values)
        for pattern, values in (plain_values(node) or {}).items()
    }


def layer_config_of(
    configs: Mapping[str, InferenceRPUConfig], names: Sequence[str]
) -> LayerConfig | None:
    """Return the function that gives each layer the configuration of its last pattern, if any.

    Args:
        configs: pattern of names -> configuration.
        names: the layers that become analog.

    Raises:
        CnetError: for a pattern that matches none of them.
    """
    if not configs:
        return None
    own: dict[str, InferenceRPUConfig] = {}
    for pattern, made in configs.items():
        own |= dict.fromkeys(match_names(names, [pattern], "rram.per_layer"), made)

    def layer_config(name: str, _: nn.Module) -> InferenceRPUConfig | None:
        return own.get(name)

    return layer_config


def _own_config(config: DictConfig, key: str, values: Any) -> InferenceRPUConfig:
    if not isinstance(values, Mapping):
        raise bad_value(key, values, "keys of rram with the values of these layers")
    changed = deepcopy(config)
    known = [str(name) for name in config.rram if name not in _OF_ALL]
    for name, value in values.items():
        if name not in known:
            near = nearest(str(name), known)
            hint = f"did you mean {near}?" if near else f"there are {', '.join(known)}."
            raise CnetError(
                f"{key}.{name} is not a value that a layer has of its own; {hint}",
                key=f"{key}.{name}",
                expected=near or known,
            )
        if name == "adc_range" and (value is None or config.rram.adc_range is None):
            raise bad_value(f"{key}.{name}", value, "a number, here and in rram.adc_range")
        OmegaConf.update(changed, f"rram.{name}", value, merge=False)
    return _named(key, lambda: network_rpu_config(changed))


def _named[Made](key: str, build: Callable[[], Made]) -> Made:
    """Build something whose errors are to say for which layers it is."""
    try:
        return build()
    except CnetError as error:
        raise CnetError(
            f"{key}: {error}",
            key=f"{key}.{str(error.key).removeprefix('rram.')}",
            value=error.value,
            expected=error.expected,
            fix=error.fix,
        ) from error
