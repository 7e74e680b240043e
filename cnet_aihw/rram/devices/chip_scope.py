"""The chip that is being programmed, for what all tiles of a chip share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Generator

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.random_state import derive_seed

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


def generator_of_chip(name: str, owner: str) -> Generator:
    """Return a generator, on the CPU, for what all tiles of a chip have in common.

    Args:
        name: name of the part in common.
        owner: what draws it, for messages.

    Raises:
        CnetError: outside a :func:`chip_scope`.
    """
    seed = current_chip_seed()
    if seed is None:
        fix = "call cnet_aihw.program(model, seed), or hold a chip in training"
        raise CnetError(
            f"{name!r} of {owner} is shared by a whole chip, but no chip is being programmed here; "
            f"{fix} (training.variation.steps_per_chip of 1 or more).",
            key=name,
            fix=fix,
        )
    return Generator().manual_seed(derive_seed(seed, name))
