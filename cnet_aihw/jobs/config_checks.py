"""Checks of configured values before any work; imports no torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from cnet_aihw.compensation.settings import (
    CompensationSettings,
    validate_compensation_settings,
    validate_fit_settings,
)
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.search.settings import SearchSettings, validate_search_settings


def check_compensation_settings(settings: CompensationSettings) -> None:
    """Check all values but corrector and placement, which check themselves.

    Raises:
        CnetError: names the key, its value and the allowed ones.
    """
    validate_compensation_settings(settings)
    _renamed(
        lambda: validate_fit_settings(settings.shared),
        ("training", "shared"),
        "compensation.shared",
    )


def check_search_settings(settings: SearchSettings, fit: str | None) -> None:
    """Check all values but those of the searcher, which checks itself.

    Raises:
        CnetError: names the key, its value and the allowed ones.
    """
    _renamed(lambda: validate_search_settings(settings, fit), ("objective",), "search.objective")


def check_chips_differ(name: str, seed: int, others: dict[str, int]) -> None:
    """Check that chips which choose something are not those which judge it.

    Raises:
        CnetError: if a seed is also that of another key.
    """
    for other, value in others.items():
        if seed == value:
            fix = "the same chips would choose and judge"
            raise bad_value(name, seed, f"another seed than {other}", fix)


def _renamed(check: Callable[[], Any], names: Sequence[str], prefix: str) -> None:
    """Run a check of a room, whose keys have another prefix in the configuration."""
    try:
        check()
    except CnetError as error:
        pattern = rf"(?<![.\w])({'|'.join(names)})\.(?=\w)"
        key = None if error.key is None else re.sub(pattern, f"{prefix}.", error.key)
        message = re.sub(pattern, f"{prefix}.", str(error))
        raise CnetError(
            message, key=key, value=error.value, expected=error.expected, fix=error.fix
        ) from error
