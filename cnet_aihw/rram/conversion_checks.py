"""Reasons why layers stay digital, and networks that cannot be converted as they are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aihwkit.nn import AnalogSequential
from aihwkit.nn.modules.base import AnalogLayerBase
from aihwkit.simulator.parameters.base import RPUConfigBase
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from cnet_aihw.rram.converters import Kind, entry_of
from cnet_aihw.rram.crossbar.layers import RRAMLayer
from cnet_aihw.rram.crossbar.unfolded import UnfoldedModule
from cnet_aihw.rram.references import closure_over_layers
from cnet_aihw.runtime.errors import CnetError


def weight_holders(model: nn.Module) -> Iterator[tuple[str, nn.Module, list[Tensor]]]:
    """Yield each module with weights of its own of at least two dimensions, and these.

    A layer on crossbars has none; the weights of a parametrized one lie in its parametrizations.
    """
    on_crossbars = tuple(
        f"{name}." if name else ""
        for name, module in model.named_modules()
        if isinstance(module, AnalogLayerBase) and not module.IS_CONTAINER
    )
    for name, module in model.named_modules():
        if f"{name}.".startswith(on_crossbars) or ".parametrizations." in f".{name}.":
            continue
        weights: list[Tensor] = [
            p for p in module.parameters(recurse=False) if p.dim() >= 2 and p.numel()
        ]
        if is_parametrized(module):
            # parametrized weights lie in a child, so that its own list is empty
            weights = list(module.parameters())
        if weights:
            yield name, module, weights


def what_hangs_on(module: nn.Module) -> str:
    """Return why a layer of a known kind computes or learns in a way of its own, or ""."""
    if "forward" in vars(module):
        return "its forward was replaced, and an analog layer would not call the new one"
    for name, parameter in module.named_parameters(recurse=False):
        if _gradient_hooks(parameter):
            return f"its {name} has gradient hooks, which an analog layer would not call"
    return ""


def keep_hooks_and_modes(model: nn.Module, copied: nn.Module) -> None:
    """Put on a copy what copies lose: gradient hooks of tensors, modes of traced graphs."""
    modules = dict(copied.named_modules())
    for name, module in model.named_modules():
        if name in modules:
            modules[name].training = module.training
    for old, new in zip(model.parameters(), copied.parameters(), strict=True):
        for hook in (old._backward_hooks or {}).values():
            new.register_hook(hook)
        for hook in (getattr(old, "_post_accumulate_grad_hooks", None) or {}).values():
            new.register_post_accumulate_grad_hook(hook)


def check_convertible(model: nn.Module, inplace: bool) -> None:
    """Refuse networks whose weights are not there yet, or that a copy would not be a copy of.

    Raises:
        CnetError: for lazy layers, the meta device, and functions that hold layers.
    """
    for name, parameter in model.named_parameters():
        if isinstance(parameter, UninitializedParameter):
            raise CnetError(
                f"{name} has no shape yet, since its layer is lazy; call the network on a batch "
                "before it is converted.",
                key=name,
            )
        if parameter.is_meta:
            fix = "build the network on a real device, or call to_empty() and load its weights"
            raise CnetError(
                f"{name} is on the meta device, where it has no values; {fix} before it is "
                "converted.",
                key=name,
                value="meta",
                expected="a device with values",
                fix=fix,
            )
    if not inplace:
        check_copyable(model, "pass inplace=True, or write a method in place of the function")


def check_copyable(model: nn.Module, fix: str) -> None:
    """Refuse networks that keep functions which compute with layers from around them.

    Args:
        model: the network.
        fix: what to do about it.

    Raises:
        CnetError: if there is such a function.
    """
    found = closure_over_layers(model)
    if found is not None:
        name, attribute = found
        raise CnetError(
            f"{name or 'the model'} keeps a function in {attribute!r} that computes with layers "
            f"from around it, so that a copy would compute with the layers of the original; {fix}.",
            key=f"{name}.{attribute}".lstrip("."),
            fix=fix,
        )


def check_weights(model: nn.Module, analog: Sequence[str]) -> None:
    """Refuse layers whose weight is computed by a hook, so that conversion could take a stale one.

    Args:
        model: the digital network.
        analog: names of the layers that become analog.

    Raises:
        CnetError: for old ``weight_norm``, ``spectral_norm`` and ``prune``, and the like.
    """
    for name in analog:
        module = model.get_submodule(name)
        for part in ("weight", "bias"):
            if part in module._parameters or is_parametrized(module):
                continue
            path = f"model.{name}" if name else "model"
            fix = _way_to_plain_parameter(module, path, part)
            raise CnetError(
                f"the {part} of {name or 'the model'} is not a parameter but computed from others "
                f"before each forward; {fix} before the network is converted.",
                key=name or "model",
                value=type(getattr(module, part, None)).__name__,
                expected="a parameter",
                fix=fix,
            )


def _way_to_plain_parameter(module: nn.Module, path: str, part: str) -> str:
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm):
            return f'call torch.nn.utils.remove_weight_norm({path}, "{part}")'
        if isinstance(hook, SpectralNorm):
            return f'call torch.nn.utils.remove_spectral_norm({path}, "{part}")'
        if isinstance(hook, BasePruningMethod):
            return f'call torch.nn.utils.prune.remove({path}, "{part}")'
    return f"make it one: {path}.{part} = torch.nn.Parameter(...)"


def _gradient_hooks(parameter: Tensor) -> bool:
    after = getattr(parameter, "_post_accumulate_grad_hooks", None)
    return bool(parameter._backward_hooks) or bool(after)


_READ_DIRECTLY = {
    "MultiheadAttention": ("out_proj",),
    "ShiftedWindowAttention": ("qkv", "proj"),  # torchvision's Swin transformers
}
"""Layers whose weights their parent's forward reads itself, by the parent's class."""


def reader(model: nn.Module, name: str) -> str:
    """Return the class of the parent that computes with the layer's weights itself, or ""."""
    parent, _, child = name.rpartition(".")
    classes = [c.__name__ for c in type(model.get_submodule(parent)).__mro__]
    return next((c for c in classes if child in _READ_DIRECTLY.get(c, ())), "")


def reason_to_stay_digital(
    module: nn.Module, table: Mapping[Kind, Any], rpu_config: RPUConfigBase
) -> str:
    """Return why a module with weights has no place on crossbars, or ""."""
    known, converter = entry_of(module, table)
    if known and converter is None:
        return f"converters leave {type(module).__name__} digital"
    if converter is AnalogSequential or isinstance(module, UnfoldedModule):
        return "its own parameters lie beside its layers"
    if known:
        if hanging := what_hangs_on(module):
            return hanging
        if hasattr(converter, "reason_against"):
            return str(converter.reason_against(module))
        if isinstance(converter, type) and issubclass(converter, RRAMLayer):
            return ""
        return _reason_of_aihwkit(module, converter, rpu_config)
    if nn.utils.parametrize.is_parametrized(module):
        return "it carries a parametrization; remove that first (torch.nn.utils.parametrize)"
    parent = next((c for c in table if isinstance(c, type) and isinstance(module, c)), None)
    if parent is not None:
        kind, name = type(module), type(module).__name__
        if name == parent.__name__:
            name = f"{kind.__module__}.{kind.__qualname__}"
        return (
            f"it is a subclass of {parent.__name__}; only that class itself is converted, and "
            f"others that converters name, such as converters={{{name}: ...}}"
        )
    kind = type(module)
    name = kind.__name__
    if any(isinstance(one, type) and one.__name__ == name for one in table):  # not torch's own
        name = f"{kind.__module__}.{kind.__qualname__}"
    return f"no analog layer exists for {name}"


def _reason_of_aihwkit(module: nn.Module, converter: Any, rpu_config: Any) -> str:
    """Return why aihwkit's own layer cannot take the place of a digital one, or ""."""
    if not isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return ""
    if module.groups != 1 or module.padding_mode != "zeros" or isinstance(module.padding, str):
        return "aihwkit's own layer takes no groups, padding modes or named padding"
    if isinstance(module, nn.Conv2d) or not _is_of_aihwkit(converter):
        return ""
    if set(module.dilation) != {1}:
        return "aihwkit's own layer takes no dilation"
    inputs = math.prod((module.in_channels, *module.kernel_size))
    tile_class = rpu_config.get_default_tile_module_class(module.out_channels, inputs)
    if not tile_class.supports_indexed:
        return (
            f"aihwkit's own layer fails in every forward on {tile_class.__name__}; give an "
            "RRAMRPUConfig, which takes it"
        )
    return ""


def _is_of_aihwkit(converter: Any) -> bool:
    return str(getattr(converter, "__module__", "")).startswith("aihwkit.")
