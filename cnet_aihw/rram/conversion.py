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
from torch import nn

from cnet_aihw.rram.conversion_checks import (
    check_convertible,
    check_copyable,
    check_weights,
    keep_gradient_hooks,
    what_hangs_on,
)
from cnet_aihw.rram.conversion_plan import (
    CONVERSION_MAP,
    ConversionReport,
    conversion_map_of,
    plan_conversion,
)
from cnet_aihw.rram.conversion_preserve import (
    carry_over,
    check_number_types,
    keep_settings,
    untied,
)
from cnet_aihw.rram.crossbar.configs import RRAMRPUConfig
from cnet_aihw.rram.crossbar.layers import RRAMLayer
from cnet_aihw.rram.exchange import become
from cnet_aihw.rram.layer_configs import LayerConfig, configs_of
from cnet_aihw.rram.references import rebind_methods
from cnet_aihw.rram.root_class import root_class
from cnet_aihw.rram.traps import find_traps
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.typed import checked

_FEW = 0.5
"""Share of the weights on crossbars below which a conversion is warned of."""


@checked
def convert_to_analog(
    model: nn.Module,
    rpu_config: RPUConfigBase | None = None,
    exclude: Sequence[str] = (),
    inplace: bool = False,
    ensure_analog_root: bool = True,
    conversion_map: Mapping[type[nn.Module], type] | None = None,
    layer_config: LayerConfig | None = None,
) -> nn.Module:
    """Put a network's layers on crossbars, with fast layers and without silent skips.

    With an :class:`~cnet_aihw.rram.RRAMRPUConfig` linear layers and convolutions (1d, 2d, any
    groups and padding) become RRAM layers; with one of aihwkit's own configurations its own layers
    are taken. A layer becomes analog in place, so that lists, methods and partials that hold it
    hold the analog one; it keeps its hooks and whatever else was put on it, its mode (training or
    evaluation) and its number type, and stays frozen where it was. One whose forward was replaced
    or whose weights have gradient hooks stays digital.
    ``torch.nn.TransformerEncoderLayer`` computes layer by layer from then on, also in evaluation:
    torch's fast path would take no analog layers.

    Args:
        model: the digital network.
        rpu_config: configuration of all crossbars; ``RRAMRPUConfig()`` by default.
        exclude: layers to leave digital: names, or patterns such as ``features.*``.
        inplace: whether to convert the network itself instead of a copy.
        ensure_analog_root: whether the result gets aihwkit's model methods
            (``program_analog_weights``, ...).
        conversion_map: further digital classes -> analog classes with ``from_digital(layer,
            rpu_config)``, as those of aihwkit; such as ``{MyLinear: RRAMLinear}``.
        layer_config: function of a layer's name and the digital layer that returns the layer's own
            configuration, or None for ``rpu_config``.

    Returns:
        The analog network. Its attribute ``conversion_report`` is a :class:`ConversionReport`.

    Raises:
        CnetError: if nothing would become analog, a layer has no shape or values yet (lazy, or on
            the meta device) or a weight that a hook computes (old ``weight_norm``, ``prune``), an
            excluded name matches no layer, a layer's own configuration is of another kind,
            tiles do not take the configuration or the weights' number type, or a copy is asked for
            and the network keeps functions that compute with its layers.

    Warns:
        UserWarning: for each setting of the configuration that aihwkit takes but that gives results
            other than meant, each parameter that is no longer shared, and each layer of a known
            kind that stays digital for what hangs on it; and where most weights stay digital.
    """
    rpu_config = RRAMRPUConfig() if rpu_config is None else rpu_config
    check_convertible(model, inplace)
    report = plan_conversion(model, rpu_config, exclude, conversion_map)
    todo = [name for name in report.analog if not _is_analog(model.get_submodule(name))]
    if not todo:
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
    check_weights(model, todo)
    configs = configs_of(model, todo, rpu_config, layer_config)
    for trap in dict.fromkeys(t for config in configs.values() for t in find_traps(config)):
        warnings.warn(trap.message, stacklevel=3)
    for name in todo:
        check_number_types(model, [name], configs[name])
    for message in _warnings(model, report, todo, exclude):
        warnings.warn(message, stacklevel=3)
    with torch.inference_mode(False):  # its tensors could never be trained
        model = model if inplace else _copy(model)
        _convert_layers(model, configs, conversion_map_of(rpu_config, conversion_map))
        analog: Any = _convert_containers(model, report, rpu_config, ensure_analog_root)
    analog.conversion_report = report
    return analog


def _copy(model: nn.Module) -> nn.Module:
    try:
        copied = deepcopy(model)
    except Exception as error:
        fix = "pass inplace=True to convert the network itself"
        raise CnetError(
            f"{type(model).__name__} cannot be copied ({str(error).splitlines()[0]}); {fix}.",
            key="inplace",
            value=False,
            expected=True,
            fix=fix,
        ) from error
    keep_gradient_hooks(model, copied)
    return copied


def _warnings(
    model: nn.Module, report: ConversionReport, todo: Sequence[str], exclude: Sequence[str]
) -> Iterator[str]:
    """Yield what is worth a warning about a conversion that is going to be made."""
    for name, layer in untied(model, todo).items():
        yield (
            f"{name} is shared with {layer}, which goes on a crossbar: from here on each has its "
            f"own, and training sets them apart; name {layer} in exclude to keep them one."
        )
    for name, reason in report.digital.items():
        if reason == what_hangs_on(model.get_submodule(name)):
            yield f"{name} stays digital: {reason}."
    if not exclude and report.analog_share < _FEW:
        largest = max((r for r in report.layers if not r.analog), key=lambda row: row.weights)
        yield (
            f"only {100 * report.analog_share:.1f} % of the weights are on crossbars; the largest "
            f"digital layer is {largest.name or 'the model'}: {largest.reason}. Print "
            "conversion_report for all."
        )


def _convert_layers(
    model: nn.Module,
    configs: Mapping[str, RPUConfigBase],
    conversion_map: Mapping[type[nn.Module], Any],
) -> None:
    """Let digital layers become analog ones, in place; the root itself may be one.

    Each digital layer's weights are given up before the next one is converted, so that the network
    is in memory once.
    """
    old_classes: dict[nn.Module, type[nn.Module]] = {}
    for name, config in configs.items():
        layer = model.get_submodule(name)
        old_classes[layer] = type(layer)
        analog = conversion_map[type(layer)].from_digital(layer, deepcopy(config))
        keep_settings(layer, analog)
        if isinstance(analog, RRAMLayer):
            analog.name_in_network = name
        become(layer, analog)
    rebind_methods(model, old_classes)


def _convert_containers(
    model: nn.Module, report: ConversionReport, rpu_config: RPUConfigBase, ensure_analog_root: bool
) -> nn.Module:
    before = dict(model.named_modules(remove_duplicate=False))
    if not isinstance(model, AnalogLayerBase):
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
    conversion_set = _DEFAULT_DIGITAL_CONVERSION_SET | set(CONVERSION_MAP.values())
    old_classes: dict[nn.Module, type[nn.Module]] = {}
    for layer in list(model.modules()):
        if type(layer) in conversion_set and _is_analog(layer):
            old_classes[layer] = type(layer)
            analog_class: Any = type(layer)
            plain = analog_class.to_digital(layer)
            keep_settings(layer, plain)
            become(layer, plain)
    rebind_methods(model, old_classes)
    before = dict(model.named_modules(remove_duplicate=False))
    digital = aihwkit_convert_to_digital(model, conversion_set, inplace=True)
    carry_over(before, digital)
    digital.__dict__.pop("conversion_report", None)
    return digital


def _is_analog(module: nn.Module) -> bool:
    return isinstance(module, AnalogLayerBase) and not module.IS_CONTAINER


def _digital_throughout(report: ConversionReport) -> list[str]:
    """Return the digital layers with no analog one below, since aihwkit excludes all below."""
    below = {name: f"{name}." if name else "" for name in report.digital}
    return [n for n in below if not any(a.startswith(below[n]) for a in report.analog)]
