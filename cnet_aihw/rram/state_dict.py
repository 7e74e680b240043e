"""The state of an analog network as plain named tensors: to copy, save, count and export it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

import torch
from aihwkit.nn.modules.base import AnalogLayerBase
from aihwkit.optim.context import AnalogContext
from aihwkit.simulator.tiles.inference import InferenceTileWithPeriphery
from torch import Tensor, nn
from torch.nn import Parameter

from cnet_aihw.rram.conversion import become_apart, convert_to_digital
from cnet_aihw.rram.crossbar.layers import RRAMLayer
from cnet_aihw.rram.crossbar.tiles import RRAMInferenceTile
from cnet_aihw.rram.crossbar.unfolded import UnfoldedModule
from cnet_aihw.rram.layer_names import named_tiles, without_wrappers
from cnet_aihw.rram.programming import clear_chip, nominal_inside
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.random_state import forked_random_state
from cnet_aihw.runtime.typed import checked

_CPU = torch.device("cpu")


@checked
def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """Copy all parameters and buffers as plain tensors, without aihwkit's own objects.

    Args:
        model: a network, analog or digital; of a programmed one, the nominal weights are kept.

    Returns:
        Names as in the digital network (a tile's parts without aihwkit's intermediate names) ->
        detached copies in the shapes that the tiles hold.

    Raises:
        CnetError: for aihwkit's training tiles, whose weights torch does not see.
    """
    with nominal_inside(model):
        return {name: tensor.detach().clone() for name, tensor in _named_tensors(model)}


@checked
def load_snapshot(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put the tensors of :func:`snapshot` back, bit for bit; a chip is forgotten.

    Args:
        model: a network built the same way.
        tensors: what :func:`snapshot` gave; devices may differ.

    Raises:
        CnetError: if names or shapes differ.
    """
    clear_chip(model)
    own = dict(_named_tensors(model))
    for name, tensor in own.items():
        if name not in tensors:
            raise CnetError(
                f"the saved tensors have no {name!r}; they belong to another network.", key=name
            )
        if tensors[name].shape != tensor.shape:
            raise CnetError(
                f"{name!r} is saved with shape {tuple(tensors[name].shape)}, but the network has "
                f"{tuple(tensor.shape)}; they belong to different networks.",
                key=name,
                value=tuple(tensors[name].shape),
                expected=tuple(tensor.shape),
            )
    surplus = sorted(set(tensors) - set(own))
    if surplus:
        raise CnetError(
            f"the saved tensors have {surplus[0]!r}, which the network does not have.",
            key=surplus[0],
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])
    for _, tile in named_tiles(model):
        if isinstance(tile, RRAMInferenceTile):
            tile.sync_scales()


@checked
def digital_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """Export the nominal weights as the plain digital network's ``load_state_dict`` takes them.

    torch's random state is left as it was.

    Args:
        model: an analog network.

    Returns:
        The state of the digital network, in its names and shapes.
    """
    with nominal_inside(model), forked_random_state(_CPU):  # new layers draw first weights
        digital = convert_to_digital(deepcopy(model), inplace=True)
    return {name: tensor.detach().cpu() for name, tensor in digital.state_dict().items()}


@checked
def load_digital_state_dict(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load the state of the digital network that a converted one was made of.

    Args:
        model: the converted network; a chip is forgotten.
        state: names and shapes as in the digital network, as :func:`digital_state_dict` gives them.

    Raises:
        CnetError: if names or shapes differ; the network is left as it was.
    """
    clear_chip(model)
    with forked_random_state(_CPU):
        plain: nn.Module = convert_to_digital(model)
    try:
        plain.load_state_dict(dict(state))
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise CnetError(
            f"the state does not fit the digital network of {type(model).__name__}: {reason}",
            key="state",
            expected="the names and shapes of digital_state_dict(model)",
        ) from error
    for name, module in model.named_modules():
        if not isinstance(module, UnfoldedModule):
            continue
        digital = plain.get_submodule(name)
        if not isinstance(digital, UnfoldedModule):
            kind = next(c for c in type(module).__mro__ if not issubclass(c, AnalogLayerBase))
            become_apart(digital, kind.from_digital(digital))  # type: ignore[attr-defined]
    given = dict(_named_tensors(plain))
    set_already: set[str] = set()
    for name, module in model.named_modules():
        if isinstance(module, AnalogLayerBase) and not module.IS_CONTAINER:
            layer: Any = plain.get_submodule(name)
            weight = layer.weight.detach()
            weight = module.as_matrix(weight) if isinstance(module, RRAMLayer) else weight
            module.set_weights(weight, layer.bias)
            inside = (*module.named_parameters(name), *module.named_buffers(name))
            set_already |= {_plain_name(without_wrappers(model, n)) for n, _ in inside}
    with torch.no_grad():
        for name, tensor in _named_tensors(model):
            if name in given and name not in set_already:
                tensor.copy_(given[name])


@checked
def trainable_parameters(model: nn.Module) -> list[Parameter]:
    """Return the parameters that require a gradient, without aihwkit's placeholders, each once."""
    return [p for p in model.parameters() if p.requires_grad and not isinstance(p, AnalogContext)]


@checked
def count_weights(model: nn.Module) -> int:
    """Count weights and biases, each once; aihwkit's placeholders would double analog weights."""
    return sum(p.numel() for p in model.parameters() if not isinstance(p, AnalogContext))


def _named_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the live parameters and persistent buffers under names without aihwkit's wrappers."""
    persistent = {
        name
        for module_name, module in model.named_modules()
        for name in (
            f"{module_name}.{b}".lstrip(".")
            for b in module._buffers
            if b not in module._non_persistent_buffers_set
        )
    }
    for name, tile in named_tiles(model):
        if not isinstance(tile, InferenceTileWithPeriphery):
            kind, fix = type(tile).__name__, "take model.state_dict(), or digital_state_dict(model)"
            raise bad_value(name, kind, "an inference tile, whose weights torch sees", fix)
    scaled = {id(weight) for weight in _scaled_weights(model)}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        is_placeholder = isinstance(tensor, AnalogContext)
        is_drift_factor = "analog_module" in name and name.endswith(
            ".alpha"
        )  # 1 on nominal weights
        if is_placeholder or is_drift_factor:
            continue
        if not isinstance(tensor, Parameter) and name not in persistent:
            continue
        plain = _plain_name(without_wrappers(model, name))
        if id(tensor) in scaled:
            owner, dot, part = plain.rpartition(".")
            plain = f"{owner}{dot}crossbar_{part}"
        yield plain, tensor


def _scaled_weights(model: nn.Module) -> Iterator[Tensor]:
    """Yield the weights of aihwkit's torch tiles that are not in the network's units."""
    for _, tile in named_tiles(model):
        ours = isinstance(tile, RRAMInferenceTile)
        if not ours and tile.mapping_scales is not None and isinstance(tile.tile, nn.Module):
            yield from tile.tile.parameters(recurse=False)


def _plain_name(name: str) -> str:
    parts = name.split(".")
    if "analog_module" in parts:
        start = parts.index("analog_module")
        parts = parts[:start] + [p for p in parts[start + 1 :] if p != "tile"]
    return ".".join(parts)
