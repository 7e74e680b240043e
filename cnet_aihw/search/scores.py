"""Scores of a placement on the chips of a search, and their worth."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.values import is_number
from cnet_aihw.search.settings import ObjectiveSettings


@dataclass(frozen=True)
class Evaluation:
    """Scores of one placement on the chips of a search."""

    scores: tuple[float | None, ...]
    """Score of each chip, chip 0 first; None for one whose outputs were not finite."""

    seconds: float
    """Time that the evaluation took."""

    @property
    def finite(self) -> tuple[float, ...]:
        """Scores of the chips whose outputs were finite."""
        return tuple(score for score in self.scores if score is not None)

    @property
    def mean(self) -> float:
        """Mean score over chips with finite outputs."""
        return math.fsum(self.finite) / len(self.finite)

    @property
    def std(self) -> float:
        """Standard deviation over chips (n - 1 in the denominator); 0 for one chip."""
        return float(np.std(self.finite, ddof=1)) if len(self.finite) > 1 else 0.0

    def bad_tail(self, share: float = 0.05, higher_is_better: bool = True) -> float:
        """Return the score that all but a share of the chips reach, linearly interpolated."""
        return float(np.quantile(self.finite, share if higher_is_better else 1 - share))

    def as_record(self) -> dict[str, Any]:
        """Return plain values for a record."""
        return {"scores": list(self.scores), "seconds": self.seconds}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Evaluation:
        """Return the evaluation that :meth:`as_record` described."""
        scores = tuple(None if score is None else float(score) for score in record["scores"])
        return cls(scores, float(record["seconds"]))


def scores_of(evaluator: Any, placement: Any) -> tuple[float | None, ...]:
    """Return what an evaluator says of a placement, as plain numbers.

    Args:
        evaluator: a :class:`~cnet_aihw.search.PlacementEvaluator`; its scores may be numbers of
            numpy or torch.
        placement: the placement.

    Raises:
        CnetError: for anything but a sequence of numbers and None, and without a finite number.
    """
    given = evaluator.evaluate(placement)
    found = given.tolist() if isinstance(given, np.ndarray | Tensor) else given
    listed = list(found) if isinstance(found, list | tuple) else [given]
    values = [v.item() if isinstance(v, np.generic | Tensor) and v.ndim == 0 else v for v in listed]
    right = isinstance(found, list | tuple) and all(
        value is None or (is_number(value) and math.isfinite(value)) for value in values
    )
    if not right or all(value is None for value in values):
        expected = "a finite score, or None, for each chip, and at least one score"
        raise CnetError(
            f"{type(evaluator).__name__}.evaluate returns the scores {given!r} for "
            f"{dict(placement)}; an evaluator returns {expected}, as a tuple.",
            key="scores",
            value=given,
            expected=expected,
        )
    return tuple(None if value is None else float(value) for value in values)


def objective_value(
    evaluation: Evaluation,
    objective: ObjectiveSettings,
    reference: float | None = None,
    higher_is_better: bool = True,
) -> float:
    """Return the worth of scores, of which more is better.

    Args:
        evaluation: scores on chips.
        objective: statistic over chips.
        reference: clean score that a chip's worth is relative to: score / reference, or reference /
            score where lower scores are better. None: the worth is the score itself.
        higher_is_better: direction of the score.

    Returns:
        The statistic of the chips' worth; a chip without finite outputs is worth 0, or as little as
        the worst of the others.
    """
    if objective.kind == "yield":
        assert objective.threshold is not None
        good = [
            s is not None
            and (s >= objective.threshold if higher_is_better else s <= objective.threshold)
            for s in evaluation.scores
        ]
        return float(np.mean(good))
    found = [_worth(score, reference, higher_is_better) for score in evaluation.finite]
    # where scores can be below 0, a failed chip is not worth more than the worst of the others
    worth = found + [min(0.0, *found)] * (len(evaluation.scores) - len(found))
    if objective.kind == "quantile":
        return float(np.quantile(worth, objective.quantile))
    mean = math.fsum(worth) / len(worth)
    if objective.kind == "mean_minus_std":
        return mean - objective.k * (float(np.std(worth, ddof=1)) if len(worth) > 1 else 0.0)
    return mean


def _worth(score: float, reference: float | None, higher_is_better: bool) -> float:
    if reference is None:
        return score
    return score / reference if higher_is_better else reference / max(score, 1e-12)
