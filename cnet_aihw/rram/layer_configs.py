"""Configurations of single layers, where one for the whole network is not enough."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from aihwkit.simulator.parameters.base import RPUConfigBase
from torch import nn

from cnet_aihw.rram.crossbar.configs import RRAMRPUConfig
from cnet_aihw.runtime.errors import CnetError, bad_value

LayerConfig = Callable[[str, nn.Module], RPUConfigBase | None]
"""Function of a layer's name and the digital layer -> its configuration; None: the network's."""


def configs_of(
    modules: Mapping[str, nn.Module],
    names: Sequence[str],
    rpu_config: RPUConfigBase,
    layer_config: LayerConfig | None,
) -> dict[str, RPUConfigBase]:
    """Return the configuration of each layer that becomes analog.

    Args:
        modules: modules of the digital network by name.
        names: names of these layers; one that is not there yet is part of a module that is.
        rpu_config: configuration of the layers without one of their own.
        layer_config: gives a layer its own; None: all have the network's.

    Raises:
        CnetError: if a layer is given something else than a configuration of the same kind, ours
            or aihwkit's, since each kind has layers of its own.
    """
    configs = dict.fromkeys(names, rpu_config)
    if layer_config is None:
        return configs
    if isinstance(layer_config, type):
        expected = "a function of a layer's name and the layer"
        raise bad_value("layer_config", layer_config.__name__, expected)
    for name in names:
        present = name
        while present not in modules:
            present = present.rpartition(".")[0]
        own = layer_config(name, modules[present])
        if own is None:
            continue
        if not isinstance(own, RPUConfigBase):
            raise bad_value("layer_config", own, f"a configuration or None for {name!r}")
        ours, all_ours = (isinstance(config, RRAMRPUConfig) for config in (own, rpu_config))
        if ours != all_ours:
            expected = "an RRAMRPUConfig" if all_ours else "a configuration of aihwkit's own"
            raise CnetError(
                f"layer_config gives {name!r} a {type(own).__name__}, and the network has a "
                f"{type(rpu_config).__name__}, which other layers take; expected {expected}.",
                key="layer_config",
                value=type(own).__name__,
                expected=expected,
            )
        configs[name] = own
    return configs
