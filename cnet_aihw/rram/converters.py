"""The table of converters: kind of a digital module -> what takes its place on crossbars."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from aihwkit.nn import AnalogSequential
from aihwkit.nn.conversion import _DEFAULT_CONVERSION_MAP
from aihwkit.nn.modules.base import AnalogLayerBase
from aihwkit.simulator.parameters.base import RPUConfigBase
from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from cnet_aihw.rram.crossbar.attention import CrossbarMultiheadAttention
from cnet_aihw.rram.crossbar.configs import RRAMRPUConfig
from cnet_aihw.rram.crossbar.convolutions import RRAMConv1d, RRAMConv2d, RRAMConv3d
from cnet_aihw.rram.crossbar.layers import RRAMLinear, RRAMTransposedLinear
from cnet_aihw.rram.crossbar.recurrent import CrossbarGRU, CrossbarLSTM, CrossbarRNN
from cnet_aihw.rram.crossbar.transposed import (
    RRAMConvTranspose1d,
    RRAMConvTranspose2d,
    RRAMConvTranspose3d,
)
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.origin import fault

Kind = type[nn.Module] | str
"""A class of digital modules, or its name, such as "Conv1D" or "my_networks.MyLinear"."""

CONVERTERS: dict[Kind, Any] = {
    nn.Linear: RRAMLinear,
    NonDynamicallyQuantizableLinear: RRAMLinear,
    "Conv1D": RRAMTransposedLinear,  # of Hugging Face
    nn.Conv1d: RRAMConv1d,
    nn.Conv2d: RRAMConv2d,
    nn.Conv3d: RRAMConv3d,
    nn.ConvTranspose1d: RRAMConvTranspose1d,
    nn.ConvTranspose2d: RRAMConvTranspose2d,
    nn.ConvTranspose3d: RRAMConvTranspose3d,
    nn.MultiheadAttention: CrossbarMultiheadAttention,
    nn.LSTM: CrossbarLSTM,
    nn.GRU: CrossbarGRU,
    nn.RNN: CrossbarRNN,
    nn.Sequential: AnalogSequential,
}
"""Kind of a digital module -> what takes its place, for an :class:`~cnet_aihw.rram.RRAMRPUConfig`.

A converter is an analog layer with ``from_digital(module, rpu_config)``; or it takes a module apart
into plain layers, which are converted in turn: a class with ``from_digital``, such as
``CrossbarLSTM``, or a function of the module alone; or None: the kind stays digital. The table
also serves aihwkit's own ``convert_to_analog(..., conversion_map=CONVERTERS)``.
"""


def converters_of(
    rpu_config: RPUConfigBase, further: Mapping[Any, Any] | None = None
) -> dict[Kind, Any]:
    """Return the converters of a configuration, with a user's further ones, which come first.

    Args:
        rpu_config: an :class:`~cnet_aihw.rram.RRAMRPUConfig`, or one of aihwkit's own, with which
            its own layers are taken.
        further: kinds, or their names -> converters, or their dotted names; None of them: the kind
            stays digital.

    Raises:
        CnetError: for a converter that cannot be imported, or is neither a class with
            ``from_digital`` nor a function.
    """
    table: dict[Kind, Any] = dict(
        CONVERTERS if isinstance(rpu_config, RRAMRPUConfig) else _DEFAULT_CONVERSION_MAP
    )
    given = further or {}
    for kind, converter in given.items():
        if not isinstance(kind, type | str):
            raise bad_value("converters", kind, "classes of modules, or their names")
        if isinstance(kind, str):  # a class would count before its name
            named = [one for one in table if isinstance(one, type) and kind in names_of(one)]
            for one in named:
                if one not in given:
                    del table[one]
        made = _imported(kind, converter) if isinstance(converter, str) else converter
        if made is not None and not hasattr(made, "from_digital") and not _is_function(made):
            raise bad_value(
                f"converters.{_name(kind)}",
                made,
                "a class with from_digital(module, rpu_config), a function of the module, or None",
            )
        table[kind] = made
    return table


def names_of(kind: type) -> tuple[str, str]:
    """Return the dotted name of a class and its bare name, in the order in which they count."""
    return f"{kind.__module__}.{kind.__qualname__}", kind.__name__


def entry_of(module: nn.Module, table: Mapping[Kind, Any]) -> tuple[bool, Any]:
    """Return whether a module's class stands in a table, and its converter there.

    A class counts before its dotted name, and that before its bare name.
    """
    kind = type(module)
    for key in (kind, *names_of(kind)):
        if key in table:
            converter = table[key]
            takes = getattr(converter, "takes", None)
            if takes is None or takes(module):
                return True, converter
    return False, None


def layer_converter(module: nn.Module, table: Mapping[Kind, Any]) -> Any:
    """Return the analog layer that a layer becomes, or None."""
    converter = entry_of(module, table)[1]
    return converter if _makes_layer(converter) else None


def unfolding(module: nn.Module, table: Mapping[Kind, Any]) -> Any:
    """Return what takes a module apart into plain layers, or None."""
    converter = entry_of(module, table)[1]
    is_class = isinstance(converter, type)
    if converter is None or (is_class and issubclass(converter, AnalogLayerBase)):
        return None
    return converter


def applied(converter: Any, module: nn.Module, rpu_config: RPUConfigBase) -> Any:
    """Return what a converter makes of a module.

    Raises:
        CnetError: where it fails.
    """
    try:
        if hasattr(converter, "from_digital"):
            _warn_of_own_forward(converter, module)
            return converter.from_digital(module, rpu_config)
        return converter(module)
    except CnetError:
        raise
    except Exception as error:  # a class that was made for other layers, or a function of one's own
        name, expected = type(module).__name__, "a converter of layers of this class"
        fix = "give a function that makes a plain layer, such as torch.nn.Linear, of it"
        raise CnetError(
            f"the converter {_name(converter)} does not take {name} ({fault(error)}); {fix}.",
            key=f"converters.{name}",
            value=_name(converter),
            expected=expected,
            fix=fix,
        ) from error


def _warn_of_own_forward(converter: Any, module: nn.Module) -> None:
    """Warn where one of torch's layers computes in another way, which its analog one does not."""
    kind = type(module)
    parent = next((one for one in kind.__mro__ if one in CONVERTERS), kind)
    changed = [
        name
        for name in ("forward", "_conv_forward")
        if getattr(kind, name, None) is not getattr(parent, name, None)
    ]
    if changed and converter in CONVERTERS.values():
        warnings.warn(
            f"{kind.__name__} has a {changed[0]} of its own, which {_name(converter)} does not "
            f"call: it computes as {parent.__name__} does. Where that differs, give a function "
            "that makes plain layers of it, or leave it digital (None).",
            stacklevel=5,
        )


def unfolded(module: nn.Module, converter: Any, rpu_config: RPUConfigBase) -> nn.Module:
    """Return what a converter makes of a module, which is left as it is.

    Raises:
        CnetError: where that is not a module.
    """
    made = applied(converter, module, rpu_config)
    if not isinstance(made, nn.Module) or made is module:
        name = type(module).__name__
        raise CnetError(
            f"the converter of {name} gave {'the same module' if made is module else type(made)}; "
            "expected a new torch.nn.Module that computes the same.",
            key=f"converters.{name}",
            value=type(made).__name__,
            expected="a new torch.nn.Module",
        )
    return made


def _makes_layer(converter: Any) -> bool:
    is_layer = isinstance(converter, type) and issubclass(converter, AnalogLayerBase)
    return is_layer and not getattr(converter, "IS_CONTAINER", False)


def _is_function(converter: Any) -> bool:
    return callable(converter) and not isinstance(converter, type)


def _imported(kind: Any, path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise CnetError(
            f"the converter {path!r} cannot be imported ({error}); give the dotted name of a class "
            "or function that is installed or lies in the folder you are in.",
            key=f"converters.{_name(kind)}",
            value=path,
        ) from error


def _name(kind: Any) -> str:
    return kind if isinstance(kind, str) else getattr(kind, "__name__", repr(kind))
