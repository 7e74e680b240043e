"""Seeds: how a chip's number becomes random draws, the same on every machine and in any order.

Each tile of a chip draws from its own seed, derived from the chip's seed and the layer's name, so
that what one layer draws does not depend on which other layers stand on the crossbar.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

from cnet_aihw.errors import CnetError

_CHIP_SEED: ContextVar[int | None] = ContextVar("cnet_aihw_chip_seed", default=None)


def derive_seed(*parts: int | str) -> int:
    """Derive a 63-bit seed from numbers and names; the same parts give the same seed everywhere.

    Args:
        *parts: what the seed belongs to, such as a chip's seed and a layer's name.

    Returns:
        A seed in [0, 2**63).
    """
    digest = hashlib.sha256("\x1f".join(f"{type(p).__name__}:{p}" for p in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def checked_seed(seed: int) -> int:
    """Return a seed as a plain int; numpy's and torch's whole numbers are the same seed.

    Raises:
        CnetError: if it is no whole number.
    """
    try:
        return operator.index(seed)
    except TypeError:
        raise CnetError(f"the seed is {seed!r}; give a whole number.") from None


@contextmanager
def seeded_rng(seed: int) -> Iterator[None]:
    """Seed torch's CPU generator inside the block and put its state back afterwards.

    Args:
        seed: seed of torch's global CPU generator; those of other devices are not touched.
    """
    state = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(state)


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
