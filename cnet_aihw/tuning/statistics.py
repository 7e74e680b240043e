"""Statistics of tuning over chips, from records."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from cnet_aihw.evaluation.statistics import confidence_interval

Record = Mapping[str, Any]


@dataclass(frozen=True)
class TuningStatistics:
    """One way of tuning on a number of chips; scores are of the part that was asked for."""

    tune: str
    """Parts that were tuned."""

    backward: str
    """Rule of the gradients."""

    rewrite_sigma: float
    """Standard deviation of the logarithm of what is fresh at each write."""

    chips: int
    """Number of chips."""

    before: float
    """Mean score of the network as it was, on the chips written once."""

    per_chip: float | None
    """Mean score of that network with a calibration of each chip, such as correctors fitted to it;
    None without one."""

    score: float
    """Mean score of the tuned networks, each on its own chip."""

    std: float | None
    """Standard deviation of that over chips (n - 1 in the denominator); None for one chip."""

    min: float
    """Smallest of these scores."""

    max: float
    """Largest of these scores."""

    ci95: tuple[float, float] | None
    """95 % interval of the mean (Student's t); None for one chip."""

    tuned_per_chip: float | None
    """Mean score on the tuned chips with the calibration on top, which aims at the network as it
    was; None without one, and where correctors were tuned."""

    others: float | None
    """Mean score of the tuned networks on other chips; None where it was not measured."""

    writes_mean: float
    """Mean writes of a cell, over cells and chips."""

    writes_most: int
    """Most writes of a cell."""

    forwards: float
    """Mean number of samples that went through a network in steps."""

    steps: int
    """Steps of the optimizer on a chip."""

    angle: float | None
    """Mean angle in degrees to the exact gradient; None where it was not measured."""

    digital_weights: int
    """Digital weights that the calibration adds, or the correctors that were tuned."""

    overhead: float
    """These over the network's weights."""

    seconds: float
    """Mean time of a chip."""

    curve: tuple[dict[str, Any], ...]
    """Course of the tuning, one entry an epoch: layers written, writes, forwards, score on the
    validation part; means over chips."""

    def as_record(self) -> dict[str, Any]:
        """Return all fields as plain values for a record."""
        record = asdict(self)
        return {n: list(v) if isinstance(v, tuple) else v for n, v in record.items()}


def tuning_statistics_of(record: Record) -> TuningStatistics:
    """Return the statistics that :meth:`TuningStatistics.as_record` wrote.

    Args:
        record: the record; other keys in it are left out.
    """
    values = {field.name: record[field.name] for field in fields(TuningStatistics)}
    interval = values["ci95"]
    values |= {"ci95": None if interval is None else tuple(interval)}
    return TuningStatistics(**{**values, "curve": tuple(values["curve"])})


def statistics_over_chips(
    records: Sequence[Record], rewrite_sigma: float, digital_weights: int, overhead: float
) -> TuningStatistics:
    """Return the statistics of records of chips, at least one.

    Args:
        records: one record a chip, all of one way.
        rewrite_sigma: as there.
        digital_weights: as there.
        overhead: as there.
    """
    scores = [record["score"] for record in records]
    mean = math.fsum(scores) / len(scores)
    std = float(np.std(scores, ddof=1)) if len(scores) > 1 else None
    return TuningStatistics(
        tune=records[0]["tune"],
        backward=records[0]["backward"],
        rewrite_sigma=rewrite_sigma,
        chips=len(records),
        before=_mean(records, "before") or 0.0,
        per_chip=_mean(records, "per_chip"),
        score=mean,
        std=std,
        min=min(scores),
        max=max(scores),
        ci95=None if std is None else confidence_interval(mean, std, len(scores)),
        tuned_per_chip=_mean(records, "tuned_per_chip"),
        others=_mean(records, "others"),
        writes_mean=_mean(records, "writes_mean") or 0.0,
        writes_most=max(record["writes_most"] for record in records),
        forwards=_mean(records, "forwards") or 0.0,
        steps=records[0]["steps"],
        angle=_mean(records, "angle"),
        digital_weights=digital_weights,
        overhead=overhead,
        seconds=_mean(records, "seconds") or 0.0,
        curve=tuple(_curve([record["epochs"] for record in records])),
    )


def _curve(of_chips: Sequence[Sequence[Record]]) -> Iterable[dict[str, Any]]:
    for entries in zip(*of_chips, strict=True):
        names = ("score", "writes_mean", "forwards")
        first = {name: entries[0][name] for name in ("phase", "epoch", "layer", "written")}
        yield {**first, **{name: _mean(entries, name) for name in names}}


def _mean(records: Sequence[Record], name: str) -> float | None:
    found = [record[name] for record in records if record.get(name) is not None]
    return math.fsum(found) / len(found) if found else None
