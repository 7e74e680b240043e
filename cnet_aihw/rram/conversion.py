"""From a digital network to an analog one and back; a report names what stays digital, and why."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from aihwkit.nn import AnalogSequential
from aihwkit.nn.conversion import _DEFAULT_CONVERSION_MAP, _DEFAULT_DIGITAL_CONVERSION_SET
from aihwkit.nn.conversion import convert_to_analog as aihwkit_convert_to_analog
from aihwkit.nn.conversion import convert_to_digital as aihwkit_convert_to_digital
from aihwkit.nn.modules.base import AnalogLayerBase
from aihwkit.nn.modules.container import AnalogWrapper
from aihwkit.simulator.parameters.base import RPUConfigBase
from torch import nn
from torch.nn.parameter import UninitializedParameter

from cnet_aihw.rram.conversion_preserve import (
    carry_over,
    check_number_types,
    keep_settings,
    untied,
)
from cnet_aihw.rram.crossbar.configs import RRAMRPUConfig
from cnet_aihw.rram.crossbar.convolutions import RRAMConv1d, RRAMConv2d
from cnet_aihw.rram.crossbar.layers import RRAMLinear
from cnet_aihw.rram.traps import find_traps
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.typed import checked

CONVERSION_MAP: dict[type[nn.Module], type] = {
    nn.Linear: RRAMLinear,
    nn.Conv1d: RRAMConv1d,
    nn.Conv2d: RRAMConv2d,
    nn.Sequential: AnalogSequential,
}
"""Digital layer -> analog layer; also for the stock function: ``convert_to_analog(...,
conversion_map=CONVERSION_MAP)``.
"""


@dataclass(frozen=True)
class LayerReport:
    """Outcome of conversion for one layer that holds weights.

    Attributes:
        name: dotted name in the digital network.
        kind: class of the digital layer.
        weights: number of its weights, biases excluded.
        analog: whether it goes on a crossbar.
        reason: why it stays digital, or a note; empty where there is nothing to say.
    """

    name: str
    kind: str
    weights: int
    analog: bool
    reason: str


@dataclass(frozen=True)
class ConversionReport:
    """Every layer with weights of at least two dimensions, in the order of the network."""

    layers: tuple[LayerReport, ...]

    @property
    def analog(self) -> tuple[str, ...]:
        """Names of the layers on crossbars."""
        return tuple(layer.name for layer in self.layers if layer.analog)

    @property
    def digital(self) -> dict[str, str]:
        """Layers with weights that stay digital: name -> reason."""
        return {layer.name: layer.reason for layer in self.layers if not layer.analog}

    def __str__(self) -> str:
        width = max((len(layer.name) for layer in self.layers), default=0)
        return "\n".join(
            f"{layer.name:<{width}}  {'analog ' if layer.analog else 'digital'}  {layer.kind}"
            f" ({layer.weights:,} weights)" + (f": {layer.reason}" if layer.reason else "")
            for layer in self.layers
        )


def match_names(names: Sequence[str], patterns: Sequence[str], what: str) -> set[str]:
    """Return the names that one of the patterns matches.

    Args:
        names: dotted names of layers.
        patterns: names or shell patterns such as ``features.*``; a name also stands for all below
            it.
        what: where the patterns come from, for the message.

    Raises:
        CnetError: if a pattern matches nothing; the message gives the nearest names.
    """
    found: set[str] = set()
    for pattern in patterns:
        hits = {n for n in names if fnmatchcase(n, pattern) or n.startswith(f"{pattern}.")}
        if not hits:
            near = get_close_matches(pattern, names, n=3, cutoff=0.0)
            raise CnetError(
                f"{what} has {pattern!r}, which matches no layer; nearest: "
                f"{', '.join(map(repr, near))}.",
                key=what,
                value=pattern,
            )
        found |= hits
    return found


def plan_conversion(
    model: nn.Module, rpu_config: RPUConfigBase, exclude: Sequence[str] = ()
) -> ConversionReport:
    """Say which layers would become analog, which would stay digital, and why; nothing is changed.

    Args:
        model: the digital network.
        rpu_config: the configuration that would be used.
        exclude: layers to leave digital, names or patterns.

    Raises:
        CnetError: if an excluded name matches no layer.
    """
    conversion_map = _conversion_map(rpu_config)
    modules = dict(model.named_modules())
    excluded = match_names([n for n in modules if n], exclude, "exclude") if exclude else set()
    owners: dict[int, str] = {}
    rows: list[LayerReport] = []
    for name, module in modules.items():
        weights = [p for p in module.parameters(recurse=False) if p.dim() >= 2]
        if isinstance(module, AnalogLayerBase) or not weights:
            # A parametrized layer holds its weights in a child, so that its own list is empty.
            if not nn.utils.parametrize.is_parametrized(module):
                continue
            weights = list(module.parameters())
        if ".parametrizations." in f".{name}.":
            continue
        reason = "named in exclude" if name in excluded else ""
        reason = reason or _reason_to_stay_digital(module, conversion_map)
        if not reason and (reader := _reader(model, name)):
            reason = f"{reader} computes with its weight itself, past any analog layer"
        for weight in weights:
            owner = owners.setdefault(id(weight), name)
            if owner != name and not reason:
                reason = f"its weight is shared with {owner}"
                if any(row.analog and row.name == owner for row in rows):
                    reason += ", which goes on a crossbar; from here on it has a copy"
        analog = not reason
        if analog and (module._forward_hooks or module._forward_pre_hooks):
            reason = "its forward hooks are not carried over to the analog layer"
        count = sum(weight.numel() for weight in weights)
        rows.append(LayerReport(name, type(module).__name__, count, analog, reason))
    return ConversionReport(tuple(rows))


@checked
def convert_to_analog(
    model: nn.Module,
    rpu_config: RPUConfigBase | None = None,
    exclude: Sequence[str] = (),
    inplace: bool = False,
    ensure_analog_root: bool = True,
) -> nn.Module:
    """Put a network's layers on crossbars, with fast layers and without silent skips.

    With an :class:`~cnet_aihw.rram.RRAMRPUConfig` linear layers and convolutions (1d, 2d, any
    groups and padding) become RRAM layers; with one of aihwkit's own configurations its own layers
    are taken. A layer that is registered twice stays shared; each layer keeps its mode (training or
    evaluation) and its number type, and stays frozen where it was.
    ``torch.nn.TransformerEncoderLayer`` computes layer by layer from then on, also in evaluation:
    torch's fast path would take no analog layers.

    Args:
        model: the digital network.
        rpu_config: configuration of all crossbars; ``RRAMRPUConfig()`` by default.
        exclude: layers to leave digital: names, or patterns such as ``features.*``.
        inplace: whether to convert the network itself instead of a copy.
        ensure_analog_root: whether the result gets aihwkit's model methods
            (``program_analog_weights``, ...).

    Returns:
        The analog network. Its attribute ``conversion_report`` is a :class:`ConversionReport`.

    Raises:
        CnetError: if nothing would become analog, a lazy layer has no shape yet, an excluded
            name matches no layer, or the tiles do not take the weights' number type.

    Warns:
        UserWarning: for each setting of the configuration that aihwkit takes but that gives results
            other than meant, and for each parameter that is no longer shared.
    """
    rpu_config = RRAMRPUConfig() if rpu_config is None else rpu_config
    for trap in find_traps(rpu_config):
        warnings.warn(trap.message, stacklevel=2)
    for name, parameter in model.named_parameters():
        if isinstance(parameter, UninitializedParameter):
            raise CnetError(
                f"{name} has no shape yet, since its layer is lazy; call the network on a batch "
                "before it is converted.",
                key=name,
            )
    report = plan_conversion(model, rpu_config, exclude)
    if not report.analog:
        raise CnetError(
            f"no layer of {type(model).__name__} would become analog: "
            + (
                "; ".join(f"{k or 'the model'}: {v}" for k, v in report.digital.items())
                or "none has weights"
            )
            + ".",
            key="model",
            value=type(model).__name__,
            expected="a layer to convert",
        )
    check_number_types(model, report.analog, rpu_config)
    for name, layer in untied(model, report.analog).items():
        warnings.warn(
            f"{name} is shared with {layer}, which goes on a crossbar: from here on each has its "
            f"own, and training sets them apart; name {layer} in exclude to keep them one.",
            stacklevel=2,
        )
    if not inplace:
        model = deepcopy(model)
    model = _convert_layers(model, report, rpu_config)
    before = dict(model.named_modules(remove_duplicate=False))
    wrapped = AnalogWrapper.SUBCLASSES.get(f"AnalogWrapper{type(model).__name__}")
    if wrapped is not None and wrapped.__bases__[1] is not type(model):
        # aihwkit keys its wrappers by class name: another class of that name would be taken for
        # this one.
        del AnalogWrapper.SUBCLASSES[wrapped.__name__]
    analog = aihwkit_convert_to_analog(  # containers alone: the layers are analog already
        model,
        rpu_config,
        conversion_map={nn.Sequential: AnalogSequential},
        exclude_modules=_digital_throughout(report),
        inplace=True,
        ensure_analog_root=ensure_analog_root,
    )
    carry_over(before, analog)
    analog.conversion_report = report
    return analog


def _convert_layers(
    model: nn.Module, report: ConversionReport, rpu_config: RPUConfigBase
) -> nn.Module:
    """Put analog layers in place of digital ones, in place; the root itself may be one.

    Each digital layer is given up before the next one is converted, so that the network is in
    memory once.
    """
    conversion_map = _conversion_map(rpu_config)
    for name in report.analog:
        digital = model.get_submodule(name)
        analog_class: Any = conversion_map[type(digital)]
        analog = analog_class.from_digital(digital, deepcopy(rpu_config))
        keep_settings(digital, analog)
        if not name:
            return analog
        for parent in list(model.modules()):
            for child, module in parent._modules.items():
                if module is digital:
                    parent._modules[child] = analog
    return model


def convert_to_digital(model: nn.Module, inplace: bool = False) -> nn.Module:
    """Turn an analog network into a plain one with the present weights, also a chip's.

    Args:
        model: the analog network.
        inplace: whether to convert the network itself instead of a copy.

    Returns:
        A network of plain torch layers, which computes the same as the analog one with perfect
        periphery, in the same mode and frozen where that is.
    """
    if not inplace:
        model = deepcopy(model)
    before = dict(model.named_modules(remove_duplicate=False))
    conversion_set = _DEFAULT_DIGITAL_CONVERSION_SET | set(CONVERSION_MAP.values())
    digital = aihwkit_convert_to_digital(model, conversion_set, inplace=True)
    carry_over(before, digital)
    digital.__dict__.pop("conversion_report", None)
    return digital


def _conversion_map(rpu_config: RPUConfigBase) -> dict[type[nn.Module], type]:
    return CONVERSION_MAP if isinstance(rpu_config, RRAMRPUConfig) else _DEFAULT_CONVERSION_MAP


def _digital_throughout(report: ConversionReport) -> list[str]:
    """Return the digital layers with no analog one below, since aihwkit excludes all below."""
    below = {name: f"{name}." if name else "" for name in report.digital}
    return [n for n in below if not any(a.startswith(below[n]) for a in report.analog)]


_READ_DIRECTLY = {
    "ShiftedWindowAttention": ("qkv", "proj"),  # torchvision's Swin transformers
}
"""Layers whose weights their parent's forward reads itself, by the parent's class."""


def _reader(model: nn.Module, name: str) -> str:
    """Return the class of the parent that computes with the layer's weights itself, or ""."""
    parent, _, child = name.rpartition(".")
    classes = [c.__name__ for c in type(model.get_submodule(parent)).__mro__]
    return next((c for c in classes if child in _READ_DIRECTLY.get(c, ())), "")


def _reason_to_stay_digital(module: nn.Module, conversion_map: dict[type[nn.Module], Any]) -> str:
    if conversion_map.get(type(module)) is AnalogSequential:
        return "its own parameters lie beside its layers"
    if type(module) in conversion_map:
        if conversion_map[type(module)] in CONVERSION_MAP.values():
            return ""
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) and (
            module.groups != 1 or module.padding_mode != "zeros" or isinstance(module.padding, str)
        ):
            return "aihwkit's own layer takes no groups, padding modes or named padding"
        return ""
    if nn.utils.parametrize.is_parametrized(module):
        return "it carries a parametrization; remove that first (torch.nn.utils.parametrize)"
    if isinstance(module, nn.MultiheadAttention):
        return (
            "attention keeps its projections as bare parameters, which no analog layer takes over"
        )
    parent = next((c for c in conversion_map if isinstance(module, c)), None)
    if parent is not None:
        return f"it is a subclass of {parent.__name__}; only that class itself is converted"
    return f"no analog layer exists for {type(module).__name__}"
