"""Statistics of uncertainty over chips, from records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cnet_aihw.runtime.errors import CnetError

SCORES = (
    *("accuracy", "nll", "brier", "ece", "ece_mass", "entropy", "mutual_information"),
    *("auroc_entropy", "auroc_mutual_information", "ood_entropy"),
)
"""Names of scores in records; the last three with data of another kind."""


@dataclass(frozen=True)
class UncertaintyRow:
    """Predictions of a number of samples at one time, over chips."""

    samples: int
    """Samples of a prediction."""

    t_inference: float | None
    """Seconds between programming and reading; None: just programmed."""

    mean: dict[str, float]
    """Mean over chips of each score, see :func:`uncertainty_scores`."""

    std: dict[str, float] | None
    """Standard deviation over chips (n - 1 in the denominator); None for one chip."""

    worst: dict[str, float]
    """Worst chip's accuracy, nll, brier and ece."""

    failed: int
    """Chips whose outputs are not finite, which the others leave out."""


@dataclass(frozen=True)
class UncertaintyStatistics:
    """Uncertainty of one network on a number of chips."""

    source: str
    """Origin of the samples."""

    correction: str | None
    """Label of what was calibrated on each chip; None: nothing."""

    chips: int
    """Chips that were measured."""

    inputs: int
    """Inputs of the part that was measured."""

    rows: tuple[UncertaintyRow, ...]
    """By time, then by samples."""

    reliability: tuple[tuple[float, ...], ...]
    """Reliability diagram at the first time and the most samples, over all chips: inputs, mean
    largest probability and accuracy of each bin."""

    def of(self, samples: int, t_inference: float | None = None) -> UncertaintyRow:
        """Return the statistics of a number of samples at a time.

        Raises:
            CnetError: if it was not measured.
        """
        for row in self.rows:
            if row.samples == samples and row.t_inference == t_inference:
                return row
        measured = [(row.samples, row.t_inference) for row in self.rows]
        raise CnetError(
            f"({samples}, {t_inference}) was not measured; there are {measured}.",
            key="samples",
            value=(samples, t_inference),
            expected=measured,
        )

    def as_record(self) -> dict[str, Any]:
        """Return all fields as plain values for a record."""
        record = asdict(self)
        record["rows"] = list(record["rows"])
        record["reliability"] = [list(row) for row in self.reliability]
        return record


def row_of(
    records: Iterable[Mapping[str, Any]], samples: int, t_inference: float | None
) -> UncertaintyRow:
    """Return the statistics of records of one number of samples and time, one for each chip.

    Raises:
        CnetError: if no chip has finite outputs.
    """
    chosen = list(records)
    good = [record for record in chosen if not record.get("failed")]
    if not good:
        raise CnetError(
            f"none of the {len(chosen)} chips has finite outputs.", key="chips", value=len(chosen)
        )
    values = {n: np.array([r[n] for r in good]) for n in SCORES if n in good[0]}
    std = {n: float(v.std(ddof=1)) for n, v in values.items()} if len(good) > 1 else None
    worst = {n: float(values[n].max()) for n in ("nll", "brier", "ece")}
    worst["accuracy"] = float(values["accuracy"].min())
    mean = {n: float(v.mean()) for n, v in values.items()}
    return UncertaintyRow(samples, t_inference, mean, std, worst, len(chosen) - len(good))


def pooled(diagrams: Sequence[Sequence[Sequence[float]]]) -> tuple[tuple[float, ...], ...]:
    """Return one reliability diagram of those of several chips."""
    if not diagrams:
        return ()
    stacked = np.array(diagrams, dtype=float)  # [chips, bins, 3]
    counts = stacked[..., 0].sum(0)
    sums = (stacked[..., 1:] * stacked[..., :1]).sum(0)
    means = sums / np.maximum(counts, 1.0)[:, None]
    return tuple((float(n), float(c), float(a)) for n, (c, a) in zip(counts, means, strict=True))
