"""From a digital network to an analog one and back; a report names what stays digital, and why."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from aihwkit.nn import AnalogSequential
from aihwkit.nn.conversion import _DEFAULT_DIGITAL_CONVERSION_SET
from aihwkit.nn.conversion import convert_to_analog as aihwkit_convert_to_analog
from aihwkit.nn.conversion import convert_to_digital as aihwkit_convert_to_digital
from aihwkit.nn.modules.base import AnalogLayerBase
from aihwkit.simulator.parameters.base import RPUConfigBase
from aihwkit.simulator.tiles.module import TileModule
from torch import nn
from torch.fx import GraphModule

from cnet_aihw.rram.charge_networks import check_charge_network
from cnet_aihw.rram.conversion_checks import (
    check_convertible,
    check_copyable,
    check_weights,
    keep_hooks_and_modes,
    what_hangs_on,
)
from cnet_aihw.rram.conversion_plan import plan_conversion, tied_apart
from cnet_aihw.rram.conversion_preserve import carry_over, check_number_types, keep_settings
from cnet_aihw.rram.conversion_report import ConversionReport
from cnet_aihw.rram.converters import (
    Kind,
    applied,
    converters_of,
    layer_converter,
    unfolded,
    unfolding,
)
from cnet_aihw.rram.crossbar.configs import RRAMRPUConfig
from cnet_aihw.rram.crossbar.layers import RRAMLayer
from cnet_aihw.rram.crossbar.unfolded import UnfoldedModule
from cnet_aihw.rram.exchange import become
from cnet_aihw.rram.layer_configs import LayerConfig, configs_of
from cnet_aihw.rram.references import rebind_methods
from cnet_aihw.rram.root_class import root_class
from cnet_aihw.rram.traps import find_traps
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.origin import fault
from cnet_aihw.runtime.typed import checked

_FEW = 0.5
"""Share of the weights on crossbars below which a conversion is warned of."""

_SIZES = {"in_sizes", "out_sizes", "fold_indices_lst"}
"""Attributes that aihwkit's mapped layers have beside their tiles."""


@checked
def convert_to_analog(
    model: nn.Module,
    rpu_config: RPUConfigBase | None = None,
    exclude: Sequence[str] = (),
    inplace: bool = False,
    ensure_analog_root: bool = True,
    converters: Mapping[Any, Any] | None = None,
    tied: str = "keep_digital",
    layer_config: LayerConfig | None = None,
) -> nn.Module:
    """Put a network's layers on crossbars, with fast layers and without silent skips.

    With an :class:`~cnet_aihw.rram.RRAMRPUConfig` linear layers and convolutions (also transposed,
    any groups and padding) become RRAM layers, and torch's attention and recurrent networks are
    taken apart into a layer for each of their matrices (:data:`~cnet_aihw.rram.CONVERTERS`); with
    one of aihwkit's own configurations its own layers are taken. A layer becomes analog in place,
    so that lists, methods and partials that hold it hold the analog one; it keeps its hooks and
    whatever else was put on it, its mode (training or evaluation) and its number type, and stays
    frozen where it was. One whose forward was replaced or whose weights have gradient hooks stays
    digital. ``torch.nn.TransformerEncoder`` computes layer by layer from then on, not by torch's
    fast path, which takes no analog layers (and gives 0 at padded positions, without gradients).

    Args:
        model: the digital network.
        rpu_config: configuration of all crossbars; ``RRAMRPUConfig()`` by default.
        exclude: layers to leave digital: names, or patterns such as ``features.*``; also of parts,
            such as ``*.q_proj``.
        inplace: whether to convert the network itself instead of a copy.
        ensure_analog_root: whether the result gets aihwkit's model methods, such as
            ``program_analog_weights``; a ``torch.fx.GraphModule`` never does.
        converters: further kinds of modules -> what takes their place, in one line each:
            ``{MyLinear: RRAMLinear}`` (an analog layer with ``from_digital(layer, rpu_config)``),
            ``{MyProjection: lambda layer: ...}`` (a function that makes a module of plain layers,
            which are converted in turn), ``{"MyHead": None}`` (it stays digital). Kinds are classes
            or their names, converters also dotted names.
        tied: what becomes of a layer that shares weights with another module, such as a language
            model's head: "keep_digital", or "untie": it gets a crossbar with a copy.
        layer_config: function of a layer's name and the digital layer that returns the layer's own
            configuration, or None for ``rpu_config``; for a part of a module that is taken apart,
            the module is given.

    Returns:
        The analog network. Its attribute ``conversion_report`` is a :class:`ConversionReport`.

    Raises:
        CnetError: if nothing would become analog, a layer has no shape or values yet (lazy, or on
            the meta device) or a weight that a hook computes (old ``weight_norm``, ``prune``), an
            excluded name matches no layer, ``tied`` or a converter is none, a layer's own
            configuration is of another kind, layers with charge read-out have something between
            them that does not clip to [0, 1], tiles do not take the configuration or the weights'
            number type, or a copy is asked for and the network keeps functions that compute with
            its layers.

    Warns:
        UserWarning: for each setting of the configuration that aihwkit takes but that gives results
            other than meant, each parameter that is no longer shared, and each layer of a known
            kind that stays digital for what hangs on it; and where most weights stay digital.
    """
    rpu_config = RRAMRPUConfig() if rpu_config is None else rpu_config
    check_convertible(model, inplace)
    report = plan_conversion(model, rpu_config, exclude, converters, tied)
    present = dict(model.named_modules())
    todo = [name for name in report.analog if not _is_analog(present.get(name))]
    if not todo:
        if report.analog:
            raise CnetError(
                f"{type(model).__name__} is on crossbars already; take it as it is, or convert "
                "the digital network (convert_to_digital) with another configuration.",
                key="model",
                value=type(model).__name__,
                expected="a digital network",
                fix="take it as it is",
            )
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
    layers = [name for name in todo if not _inside(name, report.unfolded)]
    check_weights(model, layers)
    configs = configs_of(present, todo, rpu_config, layer_config)
    check_charge_network(model, configs)
    for trap in dict.fromkeys(t for config in configs.values() for t in find_traps(config)):
        warnings.warn(trap.message, stacklevel=3)
    check_number_types(model, report.unfolded, rpu_config)
    for name in layers:
        check_number_types(model, [name], configs[name])
    for message in _warnings(model, report, exclude):
        warnings.warn(message, stacklevel=3)
    with torch.inference_mode(False):  # its tensors could never be trained
        model = model if inplace else _copy(model)
        table = converters_of(rpu_config, converters)
        _take_apart(model, report.unfolded, rpu_config, table)
        _convert_layers(model, configs, table)
        analog: Any = _convert_containers(model, report, rpu_config, ensure_analog_root)
    analog.conversion_report = report
    return analog


def _copy(model: nn.Module) -> nn.Module:
    try:
        copied = deepcopy(model)
    except Exception as error:
        fix = "pass inplace=True to convert the network itself"
        raise CnetError(
            f"{type(model).__name__} cannot be copied ({fault(error)}); {fix}.",
            key="inplace",
            value=False,
            expected=True,
            fix=fix,
        ) from error
    keep_hooks_and_modes(model, copied)
    return copied


def _warnings(model: nn.Module, report: ConversionReport, exclude: Sequence[str]) -> Iterator[str]:
    """Yield what is worth a warning about a conversion that is going to be made."""
    for parameter, other in tied_apart(model, report):
        yield (
            f"{parameter} is shared with {other}; from here on its crossbar has a copy, and "
            "training sets them apart (tied='untie')."
        )
    present = dict(model.named_modules())
    for name, reason in report.digital.items():
        if name in present and reason == what_hangs_on(present[name]):
            yield f"{name} stays digital: {reason}."
    if not exclude and report.analog_share < _FEW:
        largest = max((r for r in report.layers if not r.analog), key=lambda row: row.weights)
        yield (
            f"only {report.analog_weights:,} of {report.weights:,} weights "
            f"({100 * report.analog_share:.1f} %) are on crossbars; the largest "
            f"digital layer is {largest.name or 'the model'}: {largest.reason}. Print "
            "conversion_report for all."
        )


def _take_apart(
    model: nn.Module,
    names: Sequence[str],
    rpu_config: RPUConfigBase,
    table: Mapping[Kind, Any],
) -> None:
    """Let modules become ones of plain layers, in place."""
    old_classes: dict[nn.Module, type[nn.Module]] = {}
    for name in names:
        module = model.get_submodule(name)
        old_classes[module] = type(module)
        made = unfolded(module, unfolding(module, table), rpu_config)
        become_apart(module, made.train(module.training))
    rebind_methods(model, old_classes)


def become_apart(module: nn.Module, made: nn.Module) -> None:
    """Turn a module into the one that was made of it; what lay in it lies in the new one."""
    given_up = {*module._parameters, *module._buffers, *getattr(made, "given_up", ())}
    if isinstance(made, UnfoldedModule):
        given_up |= set(made._modules)
    else:
        given_up |= set(module._modules)
    become(module, made, given_up)


def _convert_layers(
    model: nn.Module,
    configs: Mapping[str, RPUConfigBase],
    table: Mapping[Kind, Any],
) -> None:
    """Let digital layers become analog ones, in place; the root itself may be one.

    Each digital layer's weights are given up before the next one is converted, so that the network
    is in memory once.
    """
    old_classes: dict[nn.Module, type[nn.Module]] = {}
    for name, config in configs.items():
        layer = model.get_submodule(name)
        old_classes[layer] = type(layer)
        analog = applied(layer_converter(layer, table), layer, deepcopy(config))
        keep_settings(layer, analog)
        if isinstance(analog, RRAMLayer):
            analog.name_in_network = name
        become(layer, analog)
    rebind_methods(model, old_classes)


def _convert_containers(
    model: nn.Module, report: ConversionReport, rpu_config: RPUConfigBase, ensure_analog_root: bool
) -> nn.Module:
    before = dict(model.named_modules(remove_duplicate=False))
    if isinstance(model, GraphModule):  # a copy of a class below its own would call itself for ever
        ensure_analog_root = False
    elif not isinstance(model, AnalogLayerBase):
        root_class(type(model))  # for aihwkit to find
    analog = aihwkit_convert_to_analog(  # containers alone: the layers are analog already
        model,
        rpu_config,
        conversion_map={nn.Sequential: AnalogSequential},
        exclude_modules=_digital_throughout(report),
        inplace=True,
        ensure_analog_root=ensure_analog_root,
    )
    carry_over(before, analog)
    return analog


@checked
@torch.inference_mode(False)  # its tensors could never be trained
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
        check_copyable(model, "pass inplace=True, or write a method in place of the function")
        model = deepcopy(model)
    old_classes: dict[nn.Module, type[nn.Module]] = {}
    for layer in list(model.modules()):
        if _is_analog(layer) and (
            isinstance(layer, RRAMLayer) or type(layer) in _DEFAULT_DIGITAL_CONVERSION_SET
        ):
            old_classes[layer] = type(layer)
            analog_class: Any = type(layer)
            plain = analog_class.to_digital(layer)
            keep_settings(layer, plain)
            become(layer, plain, _of_tiles(layer))
    rebind_methods(model, old_classes)
    before = dict(model.named_modules(remove_duplicate=False))
    conversion_set = _DEFAULT_DIGITAL_CONVERSION_SET | {AnalogSequential}
    digital = aihwkit_convert_to_digital(model, conversion_set, inplace=True)
    carry_over(before, digital)
    fold(digital)
    digital.__dict__.pop("conversion_report", None)
    return digital


def fold(model: nn.Module) -> list[str]:
    """Put modules together again that conversion took apart, in place.

    Those of which a layer is not plain stay apart.

    Returns:
        Their names.
    """
    names = []
    old_classes: dict[nn.Module, type[nn.Module]] = {}
    for name, module in list(model.named_modules()):
        if isinstance(module, UnfoldedModule) and module.is_plain:
            names.append(name)
            old_classes[module] = type(module)
            folded = module.folded().train(module.training)
            become(module, folded, {*module._parameters, *module._modules})
    rebind_methods(model, old_classes)
    return names


def _of_tiles(layer: nn.Module) -> set[str]:
    """Return the attributes in which one of aihwkit's mapped layers has its tiles and their sizes.

    Its other layers, and ours, have all in their ``analog_module``.
    """
    tiles = {
        name
        for name, child in layer.named_children()
        if any(isinstance(module, TileModule) for module in child.modules())
    }
    return tiles | _SIZES if tiles - {"analog_module"} else set()


def _inside(name: str, others: Sequence[str]) -> bool:
    return any(name == other or name.startswith(f"{other}." if other else "") for other in others)


def _is_analog(module: nn.Module | None) -> bool:
    return isinstance(module, AnalogLayerBase) and not module.IS_CONTAINER


def _digital_throughout(report: ConversionReport) -> list[str]:
    """Return the digital layers with no analog one below, since aihwkit excludes all below."""
    below = {name: f"{name}." if name else "" for name in report.digital}
    return [n for n in below if not any(a.startswith(below[n]) for a in report.analog)]
