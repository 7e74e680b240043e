"""Which analog layers a forward pass computes with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from cnet_aihw.rram.crossbar.tiles import RRAMInferenceTile
from cnet_aihw.rram.layer_names import named_tiles


@contextmanager
def called_layers(model: nn.Module) -> Iterator[set[str]]:
    """Note the analog layers whose tiles compute inside the block, however they are called.

    Args:
        model: an analog network.

    Yields:
        The names of these layers, as they are called.
    """
    called: set[str] = set()
    handles: list[Any] = []
    patched: list[RRAMInferenceTile] = []
    try:
        for name, tile in named_tiles(model):
            layer = name.rpartition("/")[0]
            if isinstance(tile, RRAMInferenceTile):
                tile.__dict__["_prepare_forward"] = _noting(called, layer, tile._prepare_forward)
                patched.append(tile)
            else:
                handles.append(
                    tile.register_forward_pre_hook(lambda *_, layer=layer: called.add(layer))
                )
        yield called
    finally:
        for tile in patched:
            tile.__dict__.pop("_prepare_forward", None)
        for handle in handles:
            handle.remove()


def _noting(called: set[str], layer: str, prepare: Callable[[], None]) -> Callable[[], None]:
    def note() -> None:
        called.add(layer)
        prepare()

    return note
