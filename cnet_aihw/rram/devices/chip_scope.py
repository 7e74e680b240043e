"""The chip that is being programmed, for what all tiles of a chip share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_CHIP_SEED: ContextVar[int | None] = ContextVar("cnet_aihw_chip_seed", default=None)


@contextmanager
def chip_scope(seed: int) -> Iterator[None]:
    """Say which chip is being programmed inside the block, for what all tiles of a chip share.

    Args:
        seed: the chip's seed.
    """
    token = _CHIP_SEED.set(seed)
    try:
        yield
    finally:
        _CHIP_SEED.reset(token)


def current_chip_seed() -> int | None:
    """Return the seed of the chip being programmed, or None outside a :func:`chip_scope`."""
    return _CHIP_SEED.get()
