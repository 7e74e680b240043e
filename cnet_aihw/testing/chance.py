"""Sources of chance beside the generator that a class is given."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from cnet_aihw.testing.promises import promise

_MAKERS: tuple[tuple[Any, str], ...] = (
    (random, "Random"),
    (np.random, "default_rng"),
    (np.random, "Generator"),
    (np.random, "RandomState"),
    (torch, "Generator"),
)
_SEEDED_LATER = torch.Generator


@contextmanager
def one_source_of_chance(subject: object, rng: np.random.Generator) -> Iterator[None]:
    """Check that a generator is the only source of chance inside the block.

    The global random states of Python, numpy and torch are as before afterwards.

    Args:
        subject: the object whose code runs inside.
        rng: the generator that it is given.

    Raises:
        AssertionError: where a global random state was changed, or a generator was made before
            anything was drawn from ``rng``, so that its seed comes from elsewhere.
    """
    before, at_first = _global_states(), _drawn(rng)
    own: list[str] = []
    later: list[str] = []

    def note(maker: Any) -> None:
        if _drawn(rng) == at_first:
            (later if maker is _SEEDED_LATER else own).append(maker.__name__)

    patches = [
        patch.object(module, name, _watched(getattr(module, name), note))
        for module, name in _MAKERS
    ]
    try:
        for one in patches:
            one.start()
        yield
        after = _global_states()
    finally:
        for one in patches:
            one.stop()
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
    for name, was, now in zip(("Python", "numpy", "torch"), before, after, strict=True):
        sentence = f"draws from the rng that it is given, not from {name}'s global random state"
        promise(_text(was) == _text(now), subject, sentence)
    if _drawn(rng) == at_first:
        own += later
    found = ", ".join(dict.fromkeys(own))
    sentence = f"a generator of its own ({found}) has a seed that was drawn from the rng"
    promise(not own, subject, sentence)


def _global_states() -> tuple[Any, Any, Any]:
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def _drawn(rng: np.random.Generator) -> tuple[str, int]:
    """Return what changes when a generator is drawn from, or others are made from it."""
    spawned = getattr(rng.bit_generator.seed_seq, "n_children_spawned", 0)
    return _text(rng.bit_generator.state), int(spawned)


def _watched(maker: Any, note: Callable[[Any], None]) -> Any:
    """Return something in the place of a function or a class that notes when it is called."""
    if not isinstance(maker, type):

        def made(*args: Any, **kwargs: Any) -> Any:
            note(maker)
            return maker(*args, **kwargs)

        return made

    class Watching(type):
        """A class whose objects are those of the other one."""

        def __call__(cls, *args: Any, **kwargs: Any) -> Any:
            note(maker)
            return maker(*args, **kwargs)

        def __instancecheck__(cls, instance: Any) -> bool:
            return isinstance(instance, maker)

        def __subclasscheck__(cls, subclass: type) -> bool:
            return issubclass(subclass, maker)

        def __getattr__(cls, name: str) -> Any:
            return getattr(maker, name)

    return Watching(maker.__name__, (), {})


def _text(state: Any) -> str:
    """Return all of a state, as text."""
    with np.printoptions(threshold=10**6):
        return str(state.tolist() if isinstance(state, torch.Tensor) else state)
