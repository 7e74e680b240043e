"""Checks of configured values before any work; imports no torch."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from omegaconf import OmegaConf

from cnet_aihw.compensation.settings import (
    validate_fit_settings,
    validate_per_chip_settings,
)
from cnet_aihw.evaluation.settings import CALIBRATIONS
from cnet_aihw.jobs.schema import (
    CompensationConfig,
    EvaluatorConfig,
    SearchConfig,
    SelectConfig,
)
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.typed import check_type, one_word
from cnet_aihw.runtime.values import is_seed
from cnet_aihw.search.settings import validate_objective_settings, validate_space_settings

_CHOICES: dict[str, Sequence[str]] = {
    "compensation.scan.mode": ("suffix", "single"),
    "compensation.fill": ("uniform", "digital"),
    "compensation.fit": ("per_chip", "shared"),
    "search.evaluator.start": ("identity", "supernet"),
}
_RRAM: dict[str, Any] = {"exclude": list[str], "in_training": bool, "t_inference": float | None}
_RRAM_DEFAULTS: dict[str, Any] = {"exclude": [], "in_training": True, "t_inference": None}
_SEEDS = (
    *("seed", "training.seed", "evaluation.seed", "select.seed", "search.seed"),
    *("search.chips_seed", "search.evaluator.seed", "compensation.scan.seed"),
    *("compensation.per_chip.seed", "compensation.shared.seed"),
)
EVALUATORS = {"per_chip": ("per_chip",), "shared": ("supernet", "per_placement")}
"""Fit -> the evaluators that belong to it, its own default first."""


def check_compensation_config(config: CompensationConfig) -> None:
    """Check all values but corrector and placement, which check themselves.

    Raises:
        CnetError: names the key, its value and the allowed ones.
    """
    _check_choice("compensation.scan.mode", config.scan.mode)
    _check_choice("compensation.fill", config.fill)
    _check_choice("compensation.fit", config.fit)
    _check_count("compensation.scan.chips", config.scan.chips)
    _check_count("compensation.scan.samples", config.scan.samples)
    _check_count("compensation.calibration_samples", config.calibration_samples, 2)
    for name, limit in (("limit", config.limit), ("limit_macs", config.limit_macs)):
        if limit is not None:
            fix = "give null for no limit, or choose compensation=none"
            _check_limit(f"compensation.{name}", limit, fix)
    if not 0.0 < config.threshold <= 1.0:
        expected = "a share of the clean score in (0, 1], such as 0.95"
        raise bad_value("compensation.threshold", config.threshold, expected)
    validate_per_chip_settings(config.per_chip, "compensation.per_chip.")
    _renamed(
        lambda: validate_fit_settings(config.shared), ("training", "shared"), "compensation.shared"
    )


def check_search_config(config: SearchConfig) -> None:
    """Check all values but those of the searcher, which checks itself.

    Raises:
        CnetError: names the key, its value and the allowed ones.
    """
    evaluator = config.evaluator
    _check_choice("search.evaluator.start", evaluator.start)
    for name, value in (
        ("budget", config.budget),
        ("chips", config.chips),
        ("samples", config.samples),
        ("evaluator.steps", evaluator.steps),
        ("evaluator.shared_steps", evaluator.shared_steps),
        ("evaluator.threads", evaluator.threads),
    ):
        _check_count(f"search.{name}", value)
    validate_space_settings(config)
    _renamed(
        lambda: validate_objective_settings(config.objective), ("objective",), "search.objective"
    )
    if config.objective.kind == "mean_minus_std" and config.chips < 2:
        fix = "as search.objective.kind is mean_minus_std"
        raise bad_value("search.chips", config.chips, "at least 2", fix)


def check_evaluator_fits(evaluator: EvaluatorConfig, fit: str) -> None:
    """Check that a search evaluates placements with the fit that they will have.

    Raises:
        CnetError: if they are of different fits.
    """
    kinds = EVALUATORS[fit]
    if evaluator.kind is not None and evaluator.kind not in kinds:
        expected = f"{' or '.join(kinds)}, as compensation.fit is {fit}"
        raise bad_value("search.evaluator.kind", evaluator.kind, expected)


def check_select_config(config: SelectConfig) -> None:
    """Check all values.

    Raises:
        CnetError: names the key, its value and the allowed ones.
    """
    _check_count("select.chips", config.chips)
    _check_count("select.samples", config.samples)
    _check_limit("select.limit", config.limit)
    if config.limit_macs is not None:
        _check_limit("select.limit_macs", config.limit_macs, "or null for none")
    unknown = [name for name in config.calibrations if name not in CALIBRATIONS]
    if unknown or not config.calibrations:
        expected = f"one or more of {', '.join(CALIBRATIONS)}"
        raise bad_value("select.calibrations", list(config.calibrations), expected)


def check_rram_config(config: Any) -> None:
    """Check what lies in ``rram`` beside the target, which types its own values.

    Raises:
        CnetError: for another type.
    """
    node = config.rram
    if not OmegaConf.is_dict(node) or "rpu_config" not in node:
        expected = "a group with rpu_config, as the files of conf/rram have it"
        raise bad_value("rram", node, expected)
    for key, hint in _RRAM.items():
        value = OmegaConf.select(node, key, default=_RRAM_DEFAULTS[key])
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
            near = difflib.get_close_matches(added[2], list(map(str, config.rram)), n=2)
            near = [name for name in near if name != added[2]]
            hint = f"did you mean rram.{near[0]}?" if near else "leave it out."
            raise CnetError(f"nothing refers to {key}; {hint}", key=key)


def check_seeds(config: Any) -> None:
    """Check all keys of the configuration that are called seed.

    Raises:
        CnetError: names the first one that cannot be.
    """
    for key in _SEEDS:
        value = OmegaConf.select(config, key)
        if not is_seed(value):
            raise bad_value(key, value, "a whole number of 64 bits")


def check_chips_differ(name: str, seed: int, others: dict[str, int]) -> None:
    """Check that chips which choose something are not those which judge it.

    Raises:
        CnetError: if a seed is also that of another key.
    """
    for other, value in others.items():
        if seed == value:
            fix = "the same chips would choose and judge"
            raise bad_value(name, seed, f"another seed than {other}", fix)


def _check_choice(key: str, value: str) -> None:
    if value not in _CHOICES[key]:
        raise bad_value(key, value, " or ".join(_CHOICES[key]))


def _check_count(key: str, value: int, least: int = 1) -> None:
    if value < least:
        raise bad_value(key, value, f"a whole number of at least {least}")


def _check_limit(key: str, value: float, fix: str | None = None) -> None:
    if not (math.isfinite(value) and value > 0.0):
        raise bad_value(key, value, "a share of the network's above 0, such as 0.05", fix)


def _renamed(check: Callable[[], Any], names: Sequence[str], prefix: str) -> None:
    """Run a check of a room, whose keys have another prefix in the configuration."""
    try:
        check()
    except CnetError as error:
        pattern = rf"\b({'|'.join(names)})\.(?=\w)"
        key = None if error.key is None else re.sub(pattern, f"{prefix}.", error.key)
        message = re.sub(pattern, f"{prefix}.", str(error))
        raise CnetError(
            message, key=key, value=error.value, expected=error.expected, fix=error.fix
        ) from error
