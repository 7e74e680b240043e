"""The form in which a contract says what was broken, and promises that all classes share."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_SECRET = ("a value", "that no setting has")


def promise(kept: bool, subject: object, sentence: str) -> None:
    """Say what a class does not keep.

    Raises:
        AssertionError: names the class and the promise.
    """
    if not kept:
        raise AssertionError(f"{type(subject).__name__}: {sentence}")


@contextmanager
def promised(subject: object, sentence: str) -> Iterator[None]:
    """Say what a class does not keep where the block inside fails.

    Raises:
        AssertionError: names the class, the promise and the error.
    """
    try:
        yield
    except AssertionError:
        raise
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
        raise AssertionError(f"{type(subject).__name__}: {sentence} ({found})") from error


def check_copies(subject: Any, text: Callable[[Any], object]) -> None:
    """Check that an object can be copied and sent to other processes, and stays what it is.

    Args:
        subject: the object.
        text: what tells such objects apart.
    """
    from ray import cloudpickle

    with promised(subject, "can be copied"):
        copied = copy.deepcopy(subject)
    promise(text(copied) == text(subject), subject, "a copy has the same settings")
    with promised(subject, "can be pickled, as worker processes and saved networks need it"):
        sent = cloudpickle.loads(cloudpickle.dumps(subject))
    promise(text(sent) == text(subject), subject, "has the same settings once pickled")


def check_settings(subject: Any, text: Callable[[Any], object]) -> None:
    """Check that settings which the constructor takes tell objects apart.

    A setting that is kept under a private name alone is not seen: records of two settings would be
    taken for each other's.

    Args:
        subject: the object.
        text: what tells such objects apart.
    """
    for name in inspect.signature(type(subject).__init__).parameters:
        if f"_{name}" in vars(subject) and name not in vars(subject):
            other = copy.deepcopy(subject)
            setattr(other, f"_{name}", _SECRET)
            promise(
                text(other) != text(subject),
                subject,
                f"the setting {name!r} is a public attribute, as it tells records apart",
            )
