"""Settings of a Monte Carlo evaluation, readable without torch."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.values import is_number, is_whole


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
    """Accuracy in [0, 1] that a chip must reach to count for the yield; None: no yield."""

    t_inference: Any = None
    """Seconds between programming and measuring: a number, a list of numbers, or None for a noise
    model without drift."""

    calibration: str = "none"
    """What a job calibrates on each chip before it is measured: "none", "batchnorm" (its statistics
    anew, AdaBS) or "affine" (a digital scale and offset for each channel of every layer)."""

    calibration_samples: int = 1000
    """Training inputs, the first ones, that this takes; their labels are not used."""


CALIBRATIONS = ("none", "batchnorm", "affine")


def validate_evaluation_settings(settings: EvaluationSettings) -> None:
    """Check all values.

    Raises:
        CnetError: names the field, its value and what is allowed.
    """
    for name, value in (("chips", settings.chips), ("batch_size", settings.batch_size)):
        if not is_whole(value) or value < 1:
            raise CnetError(f"evaluation.{name} is {value!r}; give a whole number of at least 1.")
    if not is_whole(settings.seed):
        raise CnetError(f"evaluation.seed is {settings.seed!r}; give a whole number.")
    if settings.calibration not in CALIBRATIONS:
        raise CnetError(
            f"evaluation.calibration is {settings.calibration!r}; give one of "
            f"{', '.join(CALIBRATIONS)}."
        )
    if settings.calibration_samples < 2:
        raise CnetError(
            f"evaluation.calibration_samples is {settings.calibration_samples}; give a whole "
            "number of at least 2."
        )
    check_threshold(settings.threshold)
    times_of(settings.t_inference)


def check_threshold(threshold: float | None) -> None:
    """Check a yield threshold.

    Raises:
        CnetError: when it is not in [0, 1].
    """
    if threshold is not None and not (is_number(threshold) and 0.0 <= threshold <= 1.0):
        raise CnetError(
            f"threshold is {threshold!r}; give an accuracy in [0, 1] (0.9 for 90 %), "
            "or None for no yield."
        )


def times_of(t_inference: Any) -> list[float | None]:
    """The times to measure at; [None] when there is no drift.

    Raises:
        CnetError: when a time is no number, negative or not finite, the list is empty or a time
            stands twice.
    """
    if t_inference is None:
        return [None]
    several = isinstance(t_inference, Iterable) and not isinstance(t_inference, str | Mapping)
    given = list(t_inference) if several else [t_inference]
    for t in given:
        if not is_number(t):
            raise CnetError(f"t_inference has {t!r}; give seconds since programming as numbers.")
    times = [float(t) for t in given]
    if not times or len(set(times)) < len(times):
        raise CnetError(f"t_inference is {given}; give one or more different times in seconds.")
    for t in times:
        if t < 0:
            raise CnetError(f"t_inference has {t}; give seconds since programming, 0 or more.")
    return list(times)
