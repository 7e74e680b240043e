"""Preserve mode, dtype, sharing and frozen flags in conversion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from aihwkit.nn.modules.base import AnalogLayerBase
from aihwkit.simulator.parameters.base import RPUConfigBase
from torch import nn

from cnet_aihw.rram.crossbar.configs import RRAMRPUConfig
from cnet_aihw.rram.crossbar.layers import RRAMLayer
from cnet_aihw.runtime.errors import CnetError

_PARTS = {"weight": "weight", "analog_ctx": "weight", "shared_weights": "weight", "bias": "bias"}
"""Parameters of layers, digital and analog -> what they hold."""


def carry_over(before: Mapping[str, nn.Module], converted: nn.Module) -> None:
    """Give the modules that conversion made the settings of those before them.

    Layers get mode and number type, and stay frozen where they were; containers get all but their
    layers.

    Args:
        before: all modules of the network before it was converted, by their names.
        converted: the network in which conversion put others in their place; changed.
    """
    _share_again(before, converted)
    after = dict(converted.named_modules(remove_duplicate=False))
    for name, old in before.items():
        new = after.get(name, old)
        if new is old or new._modules is old._modules:  # the latter is aihwkit's wrapper
            continue
        if isinstance(new, nn.Sequential):
            vars(new).update({k: v for k, v in vars(old).items() if k != "_modules"})
            new._modules = {child: new._modules[child] for child in old._modules}
        else:
            keep_settings(old, new)
    _leave_fast_path(converted)


def keep_settings(old: nn.Module, new: nn.Module) -> None:
    """Give a converted layer the mode and number type of the one before; frozen parts stay so."""
    _cast(new, old)
    new.train(old.training)
    _freeze(new, _trainable(old))


def check_number_types(model: nn.Module, analog: Sequence[str], rpu_config: RPUConfigBase) -> None:
    """Refuse layers whose weights have a number type that the tiles do not take.

    Args:
        model: the digital network.
        analog: names of the layers that become analog, or of modules that hold them.
        rpu_config: the configuration of the tiles.

    Raises:
        CnetError: if there is one.
    """
    possible = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
    if not isinstance(rpu_config, RRAMRPUConfig):
        possible = [torch.float32, rpu_config.runtime.data_type.as_torch()]
    for name in analog:
        dtype = next(model.get_submodule(name).parameters()).dtype
        if dtype not in possible:
            fix = "leave it digital (exclude)" if dtype.is_complex else "call model.float() first"
            raise CnetError(
                f"{name or 'the model'} has weights of {dtype}, which the tiles of "
                f"{type(rpu_config).__name__} do not take; {fix}.",
                key=str(name or "the model"),
                value=str(dtype),
                expected=", ".join(map(str, possible)),
                fix=fix,
            )


def _leave_fast_path(network: nn.Module) -> None:
    """Let transformer encoders call their layers: torch's fast path takes the weights from them."""
    for module in network.modules():
        if isinstance(module, nn.TransformerEncoder) and _has_analog_layers(module):
            module.use_nested_tensor = False
        if isinstance(module, nn.TransformerEncoderLayer) and _has_analog_layers(module):
            module.activation_relu_or_gelu = 0


def _has_analog_layers(network: nn.Module) -> bool:
    return any(isinstance(m, AnalogLayerBase) and not m.IS_CONTAINER for m in network.modules())


def _share_again(before: Mapping[str, nn.Module], converted: nn.Module) -> None:
    """Put one layer where one was registered under several names; aihwkit makes one of them."""
    first: dict[int, str] = {}
    for name, module in before.items():
        one = first.setdefault(id(module), name)
        parent, _, child = name.rpartition(".")
        # what lies below a shared module comes along with it
        if one != name and first.get(id(before[parent]), parent) == parent:
            setattr(converted.get_submodule(parent), child, converted.get_submodule(one))


def _cast(new: nn.Module, old: nn.Module) -> None:
    """Take over the number type of a digital layer: a new tile has float32, and rounded to it."""
    if isinstance(new, AnalogLayerBase) and old.weight.dtype != torch.float32:
        new.to(old.weight.dtype)
        weight: Any = old.weight
        weight = new.as_matrix(weight) if isinstance(new, RRAMLayer) else weight
        new.set_weights(weight, old.bias)


def _trainable(layer: nn.Module) -> dict[str, bool]:
    """Whether weight and bias are trained."""
    trainable: dict[str, bool] = {}
    for name, parameter in layer.named_parameters():
        part = _PARTS.get(name.rpartition(".")[2], "")
        trainable[part] = trainable.get(part, True) and parameter.requires_grad
    return trainable


def _freeze(layer: nn.Module, trainable: Mapping[str, bool]) -> None:
    for name, parameter in layer.named_parameters():
        part = _PARTS.get(name.rpartition(".")[2])
        if part is not None and not trainable.get(part, True):
            parameter.requires_grad_(False)
