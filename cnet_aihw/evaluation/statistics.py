"""Statistics over chips: what a row of a table shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.typed import checked
from cnet_aihw.tasks import Classification, Task, check_score, reaches


class AllChipsFailed(CnetError):
    """No chip has finite outputs, so that there are no statistics."""


@dataclass(frozen=True)
class ChipStatistics:
    """The scores of a number of chips and what they amount to.

    Chips whose outputs are not finite have failed: they have no score, are left out of all
    statistics over scores, and count as not reaching the threshold in the yield.
    """

    scores: tuple[float | None, ...]
    """Score of each chip, chip 0 first; None for a failed one."""

    chips: int
    """Number of chips, failed ones included."""

    mean: float
    """Mean score over chips."""

    std: float | None
    """Standard deviation over chips (n - 1 in the denominator); None for one chip."""

    q05: float
    """Quantile over chips at 5 % from the bad end, linear between the two nearest chips."""

    min: float
    """Smallest score."""

    max: float
    """Largest score."""

    ci95: tuple[float, float] | None
    """95 % confidence interval of the mean by Student's t; None for one chip."""

    metric: str = "accuracy"
    """Name of the score."""

    higher_is_better: bool = True
    """Direction of the score."""

    failed: int = 0
    """Number of chips whose outputs are not finite."""

    threshold: float | None = None
    """Score that a chip must reach to count for the yield."""

    yield_: float | None = None
    """Share of all chips that reach ``threshold``; None without one."""

    clean: float | None = None
    """Clean score of the network: nominal weights, no variation."""

    reference: float | None = None
    """Clean score of the plainly trained network."""

    recovery: float | None = None
    """How much of ``reference`` the mean score keeps, as the task says; None without one."""

    seed: int | None = None
    """Seed from which the chips' seeds were derived."""

    t_inference: float | None = None
    """Seconds between programming and measuring; None: no drift."""

    def as_record(self) -> dict[str, Any]:
        """Return all fields as plain values for a record; the yield is called ``yield`` there."""
        record = asdict(self)
        record["yield"] = record.pop("yield_")
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in record.items()
        }


@checked
def chip_statistics(
    scores: Sequence[float | None],
    *,
    task: Task | None = None,
    threshold: float | None = None,
    clean: float | None = None,
    reference: float | None = None,
    seed: int | None = None,
    t_inference: float | None = None,
) -> ChipStatistics:
    """Compute the statistics of chips' scores.

    Args:
        scores: one score per chip; None for a chip that failed.
        task: the task that the scores are of; None: classification.
        threshold: score that a chip must reach to count for the yield.
        clean: clean score of the network, handed on.
        reference: clean score of the plainly trained network, for the recovery.
        seed: seed of the chips, handed on.
        t_inference: time of the measurement, handed on.

    Returns:
        The statistics.

    Raises:
        CnetError: without chips, for a score that is not finite, or for a threshold or reference
            that cannot be a score.
        AllChipsFailed: if no chip has a score.
    """
    task = task or Classification()
    check_threshold_and_reference(task, threshold, reference)
    threshold = None if threshold is None else float(threshold)
    reference = None if reference is None else float(reference)
    scores = [None if score is None else float(score) for score in scores]
    if not scores:
        raise bad_value("scores", [], "at least one chip's score")
    for score in scores:
        if score is not None and not math.isfinite(score):
            raise bad_value("scores", score, "finite numbers, and None for a chip that failed")
    found = [score for score in scores if score is not None]
    if not found:
        raise AllChipsFailed(
            f"all of {len(scores)} chips give outputs that are not finite; check the device's "
            "units, or choose a smaller variation.",
            key="scores",
            value=len(scores),
            expected="at least one chip with finite outputs",
            fix="check the device's units, or choose a smaller variation",
        )
    values = np.asarray(found, dtype=np.float64)
    mean = math.fsum(values) / len(values)
    std = float(values.std(ddof=1)) if len(values) > 1 else None
    good = None if threshold is None else sum(reaches(task, s, threshold) for s in found)
    return ChipStatistics(
        scores=tuple(None if score is None else float(score) for score in scores),
        chips=len(scores),
        mean=mean,
        std=std,
        q05=float(np.quantile(values, 0.05 if task.higher_is_better else 0.95)),
        min=float(values.min()),
        max=float(values.max()),
        ci95=None if std is None else confidence_interval(mean, std, len(values)),
        metric=task.metric,
        higher_is_better=task.higher_is_better,
        failed=len(scores) - len(found),
        threshold=threshold,
        yield_=None if good is None else good / len(scores),
        clean=None if clean is None else float(clean),
        reference=reference,
        recovery=None if reference is None else task.recovery(mean, reference),
        seed=None if seed is None else int(seed),
        t_inference=None if t_inference is None else float(t_inference),
    )


def check_threshold_and_reference(
    task: Task, threshold: float | None, reference: float | None
) -> None:
    """Check the score for the yield and the one that a recovery is relative to.

    Raises:
        CnetError: when one cannot be a score of the task, or nothing can be relative to it.
    """
    for key, value in (("threshold", threshold), ("reference", reference)):
        if value is not None:
            check_score(task, key, value)
    if reference is not None and task.recovery(reference, reference) is None:
        expected = f"a clean score ({task.metric}) that others can be relative to"
        raise bad_value("reference", reference, expected, "or leave it out for no recovery")


def confidence_interval(mean: float, std: float, chips: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a mean over chips by Student's t.

    Args:
        mean: the mean.
        std: standard deviation over chips.
        chips: number of chips, at least 2.
    """
    from scipy.special import stdtrit  # Student's t quantile; scipy.stats costs half a second

    half = float(stdtrit(chips - 1, 0.975)) * std / math.sqrt(chips)
    return mean - half, mean + half
