"""Inputs given by name, as torch's layers take them."""

from __future__ import annotations

from typing import Any

_NAMES = ("input", "x_input", "x")
"""Names that torch, aihwkit and Hugging Face give the first argument of a layer."""


class KeywordInput:
    """Base of a module that takes its first input by name, too: ``layer(input=x)`` is ``layer(x)``.

    It stands before torch's own base. Hooks see the input among the positional arguments.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the module."""
        if kwargs and not args:
            name = next((name for name in _NAMES if name in kwargs), None)
            args = () if name is None else (kwargs.pop(name),)
        return super().__call__(*args, **kwargs)  # type: ignore[misc]
