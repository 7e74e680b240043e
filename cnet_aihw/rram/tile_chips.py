"""Chips of single tiles: beside the weights of ours, in place of those of aihwkit's own tiles."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from aihwkit.simulator.tiles.inference import InferenceTileWithPeriphery
from torch import nn

from cnet_aihw.rram.crossbar.tiles import RRAMInferenceTile
from cnet_aihw.rram.layer_names import named_tiles
from cnet_aihw.runtime.typed import checked

_NOTED = "weights_of_noted_chip"
"""Attribute in which aihwkit's own tiles, and copies of them, have what :func:`note_chip` notes."""

_STOCK = (
    "reference_combined_weights",
    "programmed_weights",
    "drift_noise_parameters",
    "drift_baseline",
    _NOTED,
)
"""Attributes that aihwkit's own tiles keep of a chip beside the weights."""


def note_chip(tile: Any) -> None:
    """Note which weights a chip that was programmed here has, on one of aihwkit's own tiles."""
    if not isinstance(tile, RRAMInferenceTile):
        setattr(tile, _NOTED, tile.tile.get_weights())


def warn_of_changes(tiles: Iterable[tuple[str, Any]]) -> None:
    """Warn where aihwkit programmed its own tiles and their weights have changed since.

    What aihwkit keeps as their nominal weights is then older than what was trained or loaded.

    Args:
        tiles: the tiles of a network, as :func:`named_tiles` yields them.
    """
    for name, tile in tiles:
        if isinstance(tile, RRAMInferenceTile) or not isinstance(tile, InferenceTileWithPeriphery):
            continue
        if tile.reference_combined_weights is None:
            continue
        weights = tile.tile.get_weights()
        known = (
            tile.reference_combined_weights,
            tile.programmed_weights,
            getattr(tile, _NOTED, None),
        )
        if not any(w is not None and torch.equal(weights, w.to(weights)) for w in known):
            layer = name.rpartition("/")[0]
            warnings.warn(
                f"aihwkit programmed {layer or 'the layer'}, and its weights have changed since: "
                "they drifted, or were trained or loaded. The nominal weights are those from "
                "before it was programmed. If they were trained or loaded, set "
                "reference_combined_weights = None on all model.analog_tiles() first.",
                stacklevel=4,
            )
            return


def chips_of(model: nn.Module) -> list[tuple[Any, Any]]:
    """Return each tile and its chip: None, a chip's weights, or the state of a stock tile."""
    found: list[tuple[Any, Any]] = []
    for _, tile in named_tiles(model):
        if isinstance(tile, RRAMInferenceTile):
            found.append((tile, tile.chip))
        elif isinstance(tile, InferenceTileWithPeriphery):
            programmed = tile.reference_combined_weights is not None
            names = (*_STOCK, "alpha")
            state = {name: getattr(tile, name, None) for name in names} if programmed else None
            found.append((tile, state and (tile.tile.get_weights(), state)))
    return found


def is_read_with_noise(model: nn.Module) -> bool:
    """Say whether each pass over the programmed chip reads other weights."""
    return any(getattr(chip, "read_noise", None) is not None for _, chip in chips_of(model))


def put_chips(chips_of_tiles: list[tuple[Any, Any]]) -> None:
    """Put back what :func:`chips_of` returned."""
    for tile, chip in chips_of_tiles:
        put_chip(tile, chip)


def put_chip(tile: Any, chip: Any) -> None:
    """Put a chip on a tile; None: none, so that the nominal weights count."""
    if isinstance(tile, RRAMInferenceTile):
        tile.chip = chip
    elif isinstance(tile, InferenceTileWithPeriphery):
        if chip is None:
            if tile.reference_combined_weights is not None:
                tile.tile.set_weights(tile.reference_combined_weights)
            with torch.inference_mode(False):
                one = tile.alpha.new_ones(1)  # aihwkit's drift leaves a scalar: no state takes it
            chip = None, {**dict.fromkeys(_STOCK), "alpha": one}
        else:
            tile.tile.set_weights(chip[0])
        for name, value in chip[1].items():
            setattr(tile, name, value)


@checked
@contextmanager
def at_time(model: nn.Module, t_inference: float) -> Iterator[nn.Module]:
    """Have the programmed chip at another time of its life inside the block; then as it was.

    Draws that belong to a time and not to the chip, such as accumulated read noise, are drawn from
    torch's generator.

    Args:
        model: an analog network; where no chip is programmed nothing changes.
        t_inference: seconds after programming.

    Yields:
        The model.

    Raises:
        CnetError: for a time at which the noise model does not know its device.
    """
    before = chips_of(model)
    try:
        for tile, chip in before:
            if chip is not None:
                tile.drift_weights(t_inference)
                note_chip(tile)
        yield model
    finally:
        put_chips(before)
