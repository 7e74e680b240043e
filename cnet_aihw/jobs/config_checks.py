"""Checks of configured values before any work; imports no torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from omegaconf import OmegaConf

from cnet_aihw.compensation.settings import (
    CompensationSettings,
    validate_compensation_settings,
    validate_fit_settings,
)
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.typed import check_type, one_word
from cnet_aihw.runtime.values import check_seed, nearest
from cnet_aihw.search.settings import SearchSettings, validate_search_settings

_RRAM: dict[str, tuple[Any, Any]] = {
    "exclude": (list[str], []),
    "converters": (dict[str, str | None] | None, None),
    "tied": (str, "keep_digital"),
    "in_training": (bool, True),
    "t_inference": (float | None, None),
    "per_layer": (dict[str, Any] | None, None),
}
"""Type and default of what lies in ``rram`` beside the target."""
_SEEDS = (
    *("seed", "training.seed", "evaluation.seed", "select.seed", "search.seed"),
    *("attack.seed", "tuning.seed", "kernel.seed"),
    *("search.chips_seed", "search.evaluator.seed", "compensation.scan.seed"),
    *("compensation.per_chip.seed", "compensation.shared.seed"),
)


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


def check_rram_config(config: Any) -> None:
    """Check what lies in ``rram`` beside the target, which types its own values.

    Raises:
        CnetError: for another type.
    """
    node = config.rram
    if not OmegaConf.is_dict(node) or "rpu_config" not in node:
        expected = "a group with rpu_config, as the files of conf/rram have it"
        raise bad_value("rram", node, expected)
    for key, (hint, default) in _RRAM.items():
        value = OmegaConf.select(node, key, default=default)
        value = OmegaConf.to_object(value) if OmegaConf.is_config(value) else value
        if hint is bool and isinstance(value, str):
            value = one_word(f"rram.{key}", value)
            OmegaConf.update(node, key, value)
        check_type(f"rram.{key}", value, hint)


def check_added_rram(config: Any, words: Sequence[str]) -> None:
    """Check that something refers to each key that a command line adds to ``rram``.

    Raises:
        CnetError: names the first one that nothing would read.
    """
    text = repr(OmegaConf.to_container(config, resolve=False))
    for word in words:
        added = re.match(r"\+{1,2}(rram\.(\w+))=", word)
        if added is None or added[2] in ("rpu_config", *_RRAM):
            continue
        key = added[1]
        if not re.search(rf"{re.escape(key)}\b", text):
            near = nearest(added[2], [name for name in config.rram if name != added[2]])
            hint = f"did you mean rram.{near}?" if near else "leave it out."
            raise CnetError(f"nothing refers to {key}; {hint}", key=key)


def check_seeds(config: Any) -> None:
    """Check all keys of the configuration that are called seed.

    Raises:
        CnetError: names the first one that cannot be.
    """
    for key in _SEEDS:
        check_seed(key, OmegaConf.select(config, key))


def check_chips_differ(name: str, seed: int, others: dict[str, int]) -> None:
    """Check that chips which choose something are not those which judge it.

    Raises:
        CnetError: if a seed is also that of another key.
    """
    for other, value in others.items():
        if seed == value:
            fix = "the same chips would choose and judge"
            raise bad_value(name, seed, f"another seed than {other}", fix)


def check_uncalibrated(calibration: str, job: str, instead: str) -> None:
    """Refuse ``evaluation.calibration`` where a job has calibrations of its own.

    Args:
        calibration: what it is.
        job: name of the job.
        instead: the key of those.

    Raises:
        CnetError: if it is not "none".
    """
    if calibration != "none":
        fix = f"{instead} says what is done on each chip"
        raise bad_value("evaluation.calibration", calibration, f"none with job={job}", fix)


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
