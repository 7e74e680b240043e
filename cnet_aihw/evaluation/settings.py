"""Settings of what is measured over chips, readable without torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.typed import check_fields, check_type
from cnet_aihw.runtime.values import (
    MOST_CHIPS,
    bad_choice,
    check_count,
    check_limit,
    check_seed,
    is_number,
)

CALIBRATIONS = ("none", "batchnorm", "affine")
SCANS = ("suffix", "single")


@dataclass
class EvaluationSettings:
    """How many chips are measured, and how."""

    chips: int = 100
    """Number of chips. More chips extend fewer: the first ones stay the same."""

    seed: int = 0
    """Seed from which each chip's own seed is derived."""

    batch_size: int = 250
    """Samples a forward pass takes at once."""

    threshold: float | None = None
    """Score that a chip must reach to count for the yield (an accuracy in [0, 1]); None: no
    yield."""

    t_inference: Any = None
    """Seconds between programming and measuring: a number, a list of numbers, or None for a noise
    model without drift."""

    calibration: str = "none"
    """Calibration of each chip before it is measured: "none", "batchnorm" (its statistics estimated
    again on the chip, AdaBS) or "affine" (a digital scale and offset for each channel)."""

    calibration_samples: int = 1000
    """Training inputs, the first ones, that this takes; their targets are not used."""

    samples: int | None = None
    """Samples of the test part that jobs measure on, from its beginning; None: all."""


def validate_evaluation_settings(settings: EvaluationSettings) -> None:
    """Check all values.

    Raises:
        CnetError: names the field, its value and what is allowed.
    """
    check_type("evaluation", settings, EvaluationSettings)
    check_fields(settings, "evaluation.")
    for name, value, low in (
        ("chips", settings.chips, 1),
        ("batch_size", settings.batch_size, 1),
        ("calibration_samples", settings.calibration_samples, 2),
    ):
        check_count(f"evaluation.{name}", value, low)
    check_count("evaluation.chips", settings.chips, most=MOST_CHIPS)
    if settings.samples is not None:
        check_count("evaluation.samples", settings.samples)
    check_seed("evaluation.seed", settings.seed)
    if settings.calibration not in CALIBRATIONS:
        raise bad_choice("evaluation.calibration", settings.calibration, CALIBRATIONS)
    if settings.threshold is not None and not is_number(settings.threshold):
        expected = "a score such as an accuracy of 0.9 for 90 %, or None for no yield"
        raise bad_value("evaluation.threshold", settings.threshold, expected)
    times_of(settings.t_inference)


def times_of(t_inference: Any) -> list[float | None]:
    """Return the times to measure at; [None] without drift.

    Raises:
        CnetError: when a time is not a number, negative or not finite, the list is empty or a time
            stands twice.
    """
    if t_inference is None:
        return [None]
    several = isinstance(t_inference, Iterable) and not isinstance(t_inference, str | Mapping)
    given = list(t_inference) if several else [t_inference]
    for t in given:
        if not is_number(t) or t < 0:
            raise bad_value("t_inference", t, "seconds since programming, a number of at least 0")
    times = [float(t) for t in given]
    if not times or len(set(times)) < len(times):
        raise bad_value("t_inference", given, "one or more different times in seconds")
    return list(times)


@dataclass
class ScanSettings:
    """Scans over layers on the validation part of the data."""

    mode: str = "suffix"
    """The scan that gives the candidate layers: "suffix" (the paper's, as we read it) or "single";
    both are made."""

    chips: int = 20
    """Chips for each layer."""

    samples: int = 1000
    """Samples of the validation part, from its beginning."""

    seed: int = 1
    """Seed of the chips' seeds."""


@dataclass
class SelectionSettings:
    """Choice of the best network and calibration, on the validation part of the data."""

    chips: int = 20
    """Chips on which each candidate is measured."""

    seed: int = 3000
    """Seed of these chips' seeds; not the evaluation's."""

    samples: int = 2000
    """Samples of the validation part, from its beginning."""

    calibrations: list[str] = field(default_factory=lambda: ["none", "batchnorm", "affine"])
    """Calibrations to try on each network; "batchnorm" only where it has BatchNorm."""

    limit: float = 0.05
    """Largest overhead in weights of the choice."""

    limit_macs: float | None = None
    """Largest overhead in MACs of the choice; None: no limit."""


def validate_scan_settings(settings: ScanSettings, prefix: str = "scan.") -> None:
    """Check all values.

    Raises:
        CnetError: names the field, its value and what is allowed.
    """
    if settings.mode not in SCANS:
        raise bad_choice(f"{prefix}mode", settings.mode, SCANS)
    for name in ("chips", "samples"):
        check_count(f"{prefix}{name}", getattr(settings, name))


def validate_selection_settings(settings: SelectionSettings) -> None:
    """Check all values.

    Raises:
        CnetError: names the field, its value and what is allowed.
    """
    check_count("select.chips", settings.chips)
    check_count("select.samples", settings.samples)
    check_limit("select.limit", settings.limit)
    if settings.limit_macs is not None:
        check_limit("select.limit_macs", settings.limit_macs, "or null for none")
    unknown = [name for name in settings.calibrations if name not in CALIBRATIONS]
    if unknown or not settings.calibrations:
        expected = f"one or more of {', '.join(CALIBRATIONS)}"
        raise bad_value("select.calibrations", list(settings.calibrations), expected)
