"""Networks with charge read-out: what they may hold, and a change of the circuit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from cnet_aihw.rram.crossbar.charge import Charge
from cnet_aihw.rram.crossbar.configs import RRAMRPUConfig
from cnet_aihw.rram.crossbar.mapping import ReferenceColumnConverter
from cnet_aihw.rram.devices.any_model import label_of
from cnet_aihw.rram.devices.noise import DeviceNoiseModel, MultiplicativeNoiseModel
from cnet_aihw.rram.training_variation import rram_tiles
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.typed import checked

_NORMALIZED = (
    *(nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm),
    nn.LocalResponseNorm,
)
_UNCLIPPED = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU),
    *(nn.SiLU, nn.Mish, nn.Softplus, nn.Tanh, nn.Hardswish, nn.Softsign, nn.Tanhshrink),
)


def charge_layers(configs: Mapping[str, Any]) -> dict[str, Charge]:
    """Return the layers whose configuration reads charge, by name."""
    found = {name: getattr(config, "readout", None) for name, config in configs.items()}
    return {name: charge for name, charge in found.items() if charge is not None}


def check_charge_network(model: nn.Module, configs: Mapping[str, Any]) -> None:
    """Refuse what cannot lie between layers with charge read-out, and devices that leak.

    Modules count as between two layers where they were registered between them.

    Args:
        model: the digital network.
        configs: configuration of each layer that becomes analog.

    Raises:
        CnetError: for a normalization or an activation that is not clipped to [0, 1] between such
            layers, and for a device whose smallest conductance is not 0.
    """
    layers = charge_layers(configs)
    if not layers:
        return
    for name in layers:
        _check_devices(name, configs[name])
    names = [name for name, _ in model.named_modules()]
    places = [names.index(name) for name in layers if name in names]
    if not places:
        return
    for name in names[min(places) + 1 : max(places)]:
        module = model.get_submodule(name)
        kind = type(module).__name__
        if isinstance(module, _NORMALIZED):
            fix = (
                "fold it into the layer before it (torch.nn.utils.fusion.fuse_conv_bn_eval), or "
                "take it out"
            )
            what = "stands between a voltage and the ramp that reads it, where nothing computes"
        elif isinstance(module, _UNCLIPPED) or _is_wide(module):
            fix = "put torch.nn.Hardtanh(0.0, 1.0) in its place"
            what = "does not clip to [0, 1], the times that spikes can have"
        else:
            continue
        raise CnetError(
            f"{name} is a {kind}, which {what}; with charge read-out {fix}.",
            key=name,
            value=kind,
            expected="torch.nn.Hardtanh(0.0, 1.0) between layers",
            fix=fix,
        )


@checked
def set_readout(model: nn.Module, **changes: Any) -> None:
    """Change the circuit of all layers with charge read-out, as ``set_readout(model, e_plus=2.0)``.

    Args:
        model: a network of RRAM layers.
        **changes: fields of :class:`~cnet_aihw.rram.Charge`.

    Raises:
        CnetError: if no layer reads charge, a field is unknown, or its value is impossible.
    """
    tiles = [tile for _, tile in rram_tiles(model) if tile.rpu_config.readout is not None]
    if not tiles:
        fix = "convert with RRAMRPUConfig(readout=Charge())"
        raise CnetError(
            f"no layer of the model has charge read-out; {fix}.",
            key="readout",
            expected="a network with charge read-out",
            fix=fix,
        )
    known = list(vars(tiles[0].rpu_config.readout))
    for name in changes:
        if name not in known:
            raise CnetError(
                f"readout has no field {name!r}; it has {', '.join(known)}.",
                key=f"readout.{name}",
                value=changes[name],
                expected=known,
            )
    made = [replace(tile.rpu_config.readout, **changes) for tile in tiles]
    for tile, charge in zip(tiles, made, strict=True):
        tile.rpu_config.readout = charge


def _is_wide(module: nn.Module) -> bool:
    """Say whether a module clips, but not to [0, 1]."""
    return isinstance(module, nn.Hardtanh) and (module.min_val < 0.0 or module.max_val > 1.0)


def _check_devices(layer: str, config: RRAMRPUConfig) -> None:
    """Refuse devices that conduct where a weight is 0, since they would discharge the capacitor."""
    noise = config.noise_model
    models = noise.chain() if isinstance(noise, DeviceNoiseModel) else [noise]
    for model in models:
        if isinstance(model, MultiplicativeNoiseModel) and model.multiplicative:
            continue  # a factor on the weight, whatever its devices
        converter = getattr(model, "g_converter", None)
        smallest = float(getattr(converter, "g_min", 0.0) or 0.0)
        if smallest > 0.0 or isinstance(converter, ReferenceColumnConverter):
            fix = "choose cell=pair with g_min=0, or read currents"
            raise CnetError(
                f"{label_of(model)} of {layer} has devices that conduct where a weight is 0 "
                f"(g_min {smallest:g} uS, or a reference), and the charge read-out here has one "
                f"device for each weight, which does not; {fix}.",
                key="g_min",
                value=smallest,
                expected=0.0,
                fix=fix,
            )
