"""Seeds: how a chip's number becomes random draws, the same on every machine and in any order.

Each tile of a chip draws from its own seed, derived from the chip's seed and the layer's name, so
that what one layer draws does not depend on which other layers stand on the crossbar.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import Any

import torch

from cnet_aihw.runtime.errors import bad_value


def derive_seed(*parts: int | str) -> int:
    """Derive a 63-bit seed from numbers and names; the same parts give the same seed everywhere.

    Whole numbers of numpy are the same parts as those of Python.

    Args:
        *parts: what the seed belongs to, such as a chip's seed and a layer's name.

    Returns:
        A seed in [0, 2**63).
    """
    named = "\x1f".join(f"{type(p).__name__}:{p}" for p in map(_of_python, parts))
    digest = hashlib.sha256(named.encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _of_python(part: Any) -> Any:
    """Return a whole number of numpy as one of Python; other parts as they are."""
    if isinstance(part, int | str):
        return part
    return int(part) if isinstance(part, Integral) else part


def checked_seed(seed: int) -> int:
    """Return a seed as a plain int; numpy's and torch's whole numbers are the same seed.

    Raises:
        CnetError: if it is not a whole number.
    """
    try:
        return operator.index(seed)
    except TypeError:
        raise bad_value("seed", seed, "a whole number") from None


@contextmanager
def seeded_rng(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed the generator of a device inside the block and put its state back afterwards.

    Args:
        seed: seed of torch's global generator of that device; those of others are not touched.
        device: the device; None: the CPU.
    """
    if device is not None and device.type == "cuda":
        with torch.random.fork_rng(devices=[device]), torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
            yield
        return
    state = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(state)


@contextmanager
def forked_random_state(device: torch.device) -> Iterator[None]:
    """Put the random states of the CPU and of ``device`` back after the block."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def seed_random_state(seed: int, device: torch.device) -> None:
    """Seed torch's global generators of the CPU and of ``device``, and no other."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
