"""A layer becomes another one in place, so that whoever holds it holds the new one."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import nn

_HOOKS = frozenset(vars(nn.Module())) - {"training", "_parameters", "_buffers", "_modules"}
_GROUPS = ("_parameters", "_buffers", "_modules")

_MADE = frozenset(
    {"weight", "bias", "analog_module", "fold_indices", "in_features", "out_features"}
    | {"use_indexed", "input_size", "tensor_view", "conversion_report", "_compiled_call_impl"}
    | {"_extra_repr_save", "_analog_tile_counter", "_ddp_params_and_buffers_to_ignore"}
    | {"name_in_network", "digital_class"}
)
"""Attributes that belong to the layer's class, digital or analog, and not to its user."""


def become(old: nn.Module, new: nn.Module, given_up: Collection[str] = ()) -> None:
    """Turn a layer into another one; hooks, extra attributes, buffers and children stay on it.

    Args:
        old: the layer; changed.
        new: the layer that it becomes; of no use afterwards.
        given_up: further attributes of the old one that do not stay.
    """
    state: dict[str, Any] = vars(new)
    before = dict(vars(old))
    made = {*_MADE, *given_up}
    for name, value in before.items():
        if name in _HOOKS:
            _add_hooks(value, state.get(name))
            state[name] = value  # handles of hooks know the object itself
        elif name in _GROUPS:
            extra = {k: v for k, v in value.items() if k not in made}
            state[name].update({k: v for k, v in extra.items() if k not in state[name]})
        elif name not in state and name not in made:
            state[name] = value
    vars(old).clear()
    vars(old).update(state)
    object.__setattr__(old, "__class__", type(new))


def _add_hooks(hooks: Any, others: Any) -> None:
    if isinstance(hooks, dict | set) and others:
        hooks.update(others)
