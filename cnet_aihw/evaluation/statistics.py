"""Statistics over chips: what a row of a table shows."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cnet_aihw.evaluation.settings import check_threshold
from cnet_aihw.runtime.errors import CnetError


@dataclass(frozen=True)
class ChipStatistics:
    """The accuracies of a number of chips and what they amount to; accuracies are in [0, 1]."""

    accuracies: tuple[float, ...]
    """Accuracy of each chip, chip 0 first."""

    chips: int
    """Number of chips."""

    mean: float
    """Mean accuracy over chips."""

    std: float | None
    """Standard deviation over chips (n - 1 in the denominator); None for one chip."""

    q05: float
    """5 % quantile over chips, linear interpolation between the two nearest chips."""

    min: float
    """Accuracy of the worst chip."""

    max: float
    """Accuracy of the best chip."""

    ci95: tuple[float, float] | None
    """95 % confidence interval of the mean by Student's t; None for one chip."""

    threshold: float | None = None
    """Accuracy that a chip must reach to count for the yield."""

    yield_: float | None = None
    """Share of chips with an accuracy at or above ``threshold``; None without one."""

    clean: float | None = None
    """Clean accuracy of the network: digital weights, no variation."""

    reference: float | None = None
    """Clean accuracy of the plainly trained network."""

    recovery: float | None = None
    """Mean accuracy over chips / ``reference``; None without one."""

    seed: int | None = None
    """Seed from which the chips' seeds were derived."""

    t_inference: float | None = None
    """Seconds between programming and measuring; None: no drift."""

    def as_record(self) -> dict[str, Any]:
        """All fields as plain values for a record; the yield is called ``yield`` there."""
        record = asdict(self)
        record["yield"] = record.pop("yield_")
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in record.items()
        }


def chip_statistics(
    accuracies: Sequence[float],
    *,
    threshold: float | None = None,
    clean: float | None = None,
    reference: float | None = None,
    seed: int | None = None,
    t_inference: float | None = None,
) -> ChipStatistics:
    """Compute the statistics of chips' accuracies.

    Args:
        accuracies: one accuracy per chip, in [0, 1].
        threshold: accuracy that a chip must reach to count for the yield.
        clean: clean accuracy of the network, handed on.
        reference: clean accuracy of the plainly trained network, for the recovery.
        seed: seed of the chips, handed on.
        t_inference: time of the measurement, handed on.

    Returns:
        The statistics.

    Raises:
        CnetError: without chips, for a threshold outside [0, 1] or a reference outside (0, 1].
    """
    check_threshold(threshold)
    check_reference(reference)
    if not accuracies:
        raise CnetError("There are no accuracies to make statistics of; measure at least one chip.")
    values = np.asarray(accuracies, dtype=np.float64)
    mean = math.fsum(values) / len(values)
    std = float(values.std(ddof=1)) if len(values) > 1 else None
    return ChipStatistics(
        accuracies=tuple(values.tolist()),
        chips=len(values),
        mean=mean,
        std=std,
        q05=float(np.quantile(values, 0.05)),
        min=float(values.min()),
        max=float(values.max()),
        ci95=None if std is None else _confidence_interval(mean, std, len(values)),
        threshold=threshold,
        yield_=None if threshold is None else float(np.mean(values >= threshold)),
        clean=clean,
        reference=reference,
        recovery=None if reference is None else mean / reference,
        seed=seed,
        t_inference=t_inference,
    )


def check_reference(reference: float | None) -> None:
    """Check the clean accuracy that a recovery is relative to.

    Raises:
        CnetError: when it is not in (0, 1].
    """
    if reference is not None and not 0.0 < reference <= 1.0:
        raise CnetError(
            f"reference is {reference}; give the clean accuracy of the plainly trained network, "
            "in (0, 1], or None for no recovery."
        )


def _confidence_interval(mean: float, std: float, chips: int) -> tuple[float, float]:
    from scipy.special import stdtrit  # Student's t quantile; scipy.stats costs half a second

    half = float(stdtrit(chips - 1, 0.975)) * std / math.sqrt(chips)
    return mean - half, mean + half
