"""Saved states of tiles: those of aihwkit's own tiles are read too, or refused with what helps."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from aihwkit.simulator.tiles.array import TileModuleArray
from aihwkit.simulator.tiles.base import AnalogTileStateNames
from torch import Tensor

from cnet_aihw.runtime.errors import CnetError

_FIX = (
    "convert the network with the mapping that the weights were saved with, or carry them over by "
    "digital_state_dict and load_digital_state_dict"
)


class RRAMTileArray(TileModuleArray):
    """Crossbars of one layer; a state that was saved of a single one is refused."""

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        if f"{prefix}{AnalogTileStateNames.ANALOG_STATE_NAME}" in state_dict:
            raise _other(_layer_of(prefix), "crossbars", "one crossbar", "several")
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def readable_state(tile: Any, state_dict: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Let a tile of ours read what aihwkit's own tiles saved, whatever their configuration.

    Args:
        tile: a tile of ours.
        state_dict: the saved state; changed: weights are where torch looks for them, the
            configuration is the tile's own unless the saved one is asked for, and the factor of
            drift is 1.
        prefix: the tile's name in it, with a dot at its end.

    Returns:
        aihwkit's state of the tile; empty without any.

    Raises:
        CnetError: if it was saved of crossbars of other sizes or scales, or has the bias on them.

    Warns:
        UserWarning: if the weights are those of a chip that has drifted.
    """
    layer = _layer_of(prefix)
    name = tile.get_analog_state_name(prefix)
    if name not in state_dict:
        if any(key.startswith(f"{prefix}array.") for key in state_dict):
            raise _other(layer, "crossbars", "several crossbars", "one")
        return {}
    _check_same_scaling(layer, state_dict.get(prefix + "mapping_scales"), tile.mapping_scales)
    state: dict[str, Any] = dict(state_dict[name])
    weights = torch.as_tensor(state[AnalogTileStateNames.WEIGHTS])
    own = tile.tile.weight
    if weights.shape == (own.shape[0], own.shape[1] + 1):
        found, wanted = "a bias on the crossbar", "a digital one"
        raise _other(layer, "bias", found, wanted)
    if weights.shape != own.shape:
        found, wanted = (f"weights of {tuple(w.shape)}" for w in (weights, own))
        raise _other(layer, "weights", found, wanted)
    state_dict.setdefault(f"{prefix}tile.weight", weights)  # C++ tiles have theirs elsewhere
    if not tile.load_rpu_config:
        state[AnalogTileStateNames.RPU_CONFIG] = tile.rpu_config
    state_dict[name] = state
    _forget_drift(state_dict, f"{prefix}alpha", tile.alpha)
    return state


def _layer_of(prefix: str) -> str:
    return prefix.rpartition(".analog_module")[0] or "the layer"


def _forget_drift(state_dict: dict[str, Any], name: str, own: Tensor) -> None:
    saved = state_dict.get(name)
    if saved is None:
        return
    if not bool((saved == 1.0).all()):
        warnings.warn(
            "the saved state is that of a drifted chip: its weights, which become the nominal "
            "ones, are the chip's. Load a state that was saved before aihwkit programmed the "
            "network.",
            stacklevel=2,
        )
    state_dict[name] = torch.ones_like(own)


def _check_same_scaling(layer: str, saved: Tensor | None, own: Tensor | None) -> None:
    found, wanted = ("none" if t is None else f"of shape {tuple(t.shape)}" for t in (saved, own))
    if found != wanted:
        raise CnetError(
            f"the saved weights of {layer} have scales {found}, but the layer's are {wanted}, as "
            f"its weight_scaling is another; {_FIX}.",
            key="weight_scaling",
            value=found,
            expected=wanted,
            fix=_FIX,
        )


def _other(layer: str, part: str, found: str, wanted: str) -> CnetError:
    return CnetError(
        f"the saved state of {layer} has {found}, but the layer has {wanted}; {_FIX}.",
        key=f"{layer}.{part}",
        value=found,
        expected=wanted,
        fix=_FIX,
    )
