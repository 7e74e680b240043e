"""Result of tuning on one chip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class TuningResult:
    """A network tuned on one chip."""

    tune: str
    """Parts that were tuned."""

    backward: str
    """Rule of the gradients."""

    before: float | None
    """Score on the validation part before tuning, on the chip written once; None with
    "progressive", which never writes the network that is not tuned."""

    score: float
    """Score on the validation part after tuning, on the chip."""

    writes_mean: float
    """Mean writes of a cell."""

    writes_most: int
    """Writes of the cell that was written most often."""

    writes_total: int
    """Writes of all cells together."""

    forwards: int
    """Samples that went through the network in steps."""

    steps: int
    """Steps of the optimizer."""

    angle: float | None
    """Mean angle in degrees between the first gradients of epochs and the exact ones; None where
    it was not asked for, or has no meaning."""

    seconds: float
    """Time that it took."""

    def as_record(self) -> dict[str, Any]:
        """Return all fields as plain values for a record."""
        return asdict(self)


def result_of(record: Mapping[str, Any]) -> TuningResult:
    """Return the result that :meth:`TuningResult.as_record` wrote.

    Args:
        record: the record; other keys in it are left out.
    """
    return TuningResult(**{field.name: record[field.name] for field in fields(TuningResult)})
