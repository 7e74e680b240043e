"""The form in which a contract says what was broken."""

from __future__ import annotations


def promise(kept: bool, subject: object, sentence: str) -> None:
    """Say what a class does not keep.

    Raises:
        AssertionError: names the class and the promise.
    """
    if not kept:
        raise AssertionError(f"{type(subject).__name__}: {sentence}")
