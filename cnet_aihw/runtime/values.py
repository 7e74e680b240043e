"""Kinds of values that settings take, and choices that several rooms share; free of torch."""

import difflib
import math
from collections.abc import Iterable
from numbers import Integral, Real
from pathlib import Path
from typing import TypeGuard

from cnet_aihw.runtime.errors import CnetError, bad_value

GRADIENTS = ("auto", "reparametrized", "straight_through")
"""How a gradient passes the variation of weights; see ``rram.VariationParameter``."""


def is_whole(value: object) -> TypeGuard[int]:
    """Say whether a setting is a whole number, of Python or numpy; True and False are not."""
    return is_number(value) and isinstance(value, Integral)


def is_seed(value: object) -> TypeGuard[int]:
    """Say whether a value can seed torch's generators: a whole number of 64 bits with sign."""
    return is_whole(value) and -(2**63) <= value < 2**63


def check_seed(key: str, value: object) -> None:
    """Check a seed.

    Raises:
        CnetError: if it is not a whole number of 64 bits with sign.
    """
    if not is_seed(value):
        raise bad_value(key, value, "a whole number of 64 bits")


def is_number(value: object) -> TypeGuard[float]:
    """Say whether a setting is a finite number, of Python or numpy; True and False are not."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return isinstance(value, Integral)


def nearest(word: str, names: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the name that somebody may have meant: the only one that a word begins, or is like.

    Args:
        word: what was given.
        names: those that there are.
        cutoff: likeness from which a name counts, of 0 to 1; see ``difflib.get_close_matches``.
    """
    found = [str(name) for name in names]
    begun = [name for name in found if len(word) > 2 and name.startswith(word)]
    near = begun if len(begun) == 1 else difflib.get_close_matches(word, found, 1, cutoff)
    return near[0] if near else None


def bad_choice(key: str, value: object, allowed: tuple[str, ...]) -> CnetError:
    """Return the error for a word that is not among the allowed ones, with the nearest of them."""
    near = nearest(str(value).lower(), allowed)
    fix = f"did you mean {near!r}?" if near else None
    error = bad_value(key, value, f"one of {', '.join(allowed)}", fix)
    error.expected = allowed
    return error


def check_number(
    name: str, value: float, low: float, high: float = math.inf, unit: str = ""
) -> None:
    """Check a number of a device.

    Raises:
        CnetError: if it is not in [low, high], or not finite.
    """
    if not (math.isfinite(value) and low <= value <= high):
        limits = f"at least {low:g}" if math.isinf(high) else f"from {low:g} to {high:g}"
        raise CnetError(
            f"{name} is {value}; give a number {limits}{unit and ' ' + unit}.",
            key=name,
            value=value,
        )


MOST_CHIPS = 1_000_000
"""Most chips of a measurement; a number above it is a slip."""


def check_count(key: str, value: int, least: int = 1, most: int = 10**9) -> None:
    """Check a number of things.

    Raises:
        CnetError: if it is not a whole number from ``least`` to ``most``.
    """
    if not (is_whole(value) and value >= least):
        raise bad_value(key, value, f"a whole number of at least {least}")
    if value > most:
        raise bad_value(key, value, f"a whole number of at most {most:,}")


def check_file(path: Path, what: str) -> None:
    """Check that a file is there.

    Raises:
        CnetError: if it is not; ``what`` says which file is wanted.
    """
    if not path.is_file():
        raise CnetError(
            f"{path} does not exist; give {what}.", key=str(path), value=str(path), expected=what
        )


def check_readable(path: Path) -> None:
    """Check that a file can be opened, which readers take for a broken one otherwise.

    Raises:
        CnetError: if it cannot.
    """
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        fix = "give a file that you may read"
        message = f"{path} cannot be read ({error.strerror}): {fix}."
        raise CnetError(message, key=str(path), fix=fix) from error


def check_limit(key: str, value: float, fix: str | None = None) -> None:
    """Check a limit of an overhead.

    Raises:
        CnetError: if it is not a finite number above 0.
    """
    if not (is_number(value) and value > 0.0):
        raise bad_value(key, value, "a share of the network's above 0, such as 0.05", fix)
