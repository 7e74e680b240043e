"""The placement problem: choices of each candidate layer, their costs, and the reward."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cnet_aihw.compensation import Placement
from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.search.counting import TOLERANCE, count_within
from cnet_aihw.search.scores import Evaluation, objective_value
from cnet_aihw.search.settings import ObjectiveSettings

Encoding = tuple[int, ...]
"""A placement as indices: for each candidate layer, in the order of execution, its choice."""

Choice = float | str
"""A ratio, a size such as ``"size 2"``, or ``"digital"``."""

KINDS = ("linear", "conv1d", "conv2d")
"""Kinds of layers, by the dimensions that they slide over."""


@dataclass(frozen=True)
class CandidateLayer:
    """Layer where compensation may go, as a searcher sees it."""

    name: str
    """Name in the model."""

    kind: str
    """"linear", "conv1d" or "conv2d"."""

    in_channels: int
    """Input channels (features)."""

    out_channels: int
    """Output channels (features)."""

    positions: int
    """Outputs per channel and sample: H * W of a 2d convolution."""

    depth: float
    """Index among all layers of the network / their number, in [0, 1)."""

    sensitivity: float = 0.0
    """Score lost when it alone varies; 0 if unknown."""


@dataclass(frozen=True)
class PlacementProblem:
    """Candidate layers, their choices and costs, limits and the objective; plain and small."""

    layers: tuple[CandidateLayer, ...]
    """Candidate layers in the order of execution."""

    choices: tuple[Choice, ...]
    """Choices of each layer: ratios from 0 up, or 0 and sizes, then ``"digital"`` where it is a
    choice."""

    weights: tuple[tuple[float, ...], ...]
    """Overhead in weights of each layer's choices, [layers][choices]."""

    macs: tuple[tuple[float, ...], ...]
    """Overhead in MACs of each layer's choices, [layers][choices]."""

    limit: float | None
    """Largest overhead in weights; None: no limit."""

    limit_macs: float | None
    """Largest overhead in MACs; None: no limit."""

    objective: ObjectiveSettings
    """Worth of a placement."""

    reference: float | None = None
    """Clean score that rewards are relative to; None: the reward takes scores as they are."""

    higher_is_better: bool = True
    """Direction of the score."""

    repeats: tuple[tuple[int, ...], ...] = ()
    """For each layer, its choices that give the same corrector as one before them, such as a size
    above its width; empty where no layer has any."""

    @property
    def costs(self) -> tuple[tuple[float, ...], ...]:
        """Overhead of each layer's choices as the reward counts it, [layers][choices]."""
        if self.objective.overhead == "none":
            return ((0.0,) * len(self.choices),) * len(self.layers)
        return self.macs if self.objective.overhead == "macs" else self.weights

    @property
    def limits(self) -> tuple[tuple[tuple[tuple[float, ...], ...], float], ...]:
        """Costs [layers][choices] and their limit, for each measure that has one."""
        measures = (self.weights, self.limit), (self.macs, self.limit_macs)
        return tuple((costs, limit) for costs, limit in measures if limit is not None)

    @property
    def size(self) -> int:
        """Number of encodings, those over a limit and those that repeat others included."""
        return len(self.choices) ** len(self.layers)

    def overhead(self, encoding: Sequence[int]) -> float:
        """Return the overhead, as the reward counts it, of an encoding or its first part."""
        return _total(self.costs, encoding)

    def overhead_weights(self, encoding: Sequence[int]) -> float:
        """Return the overhead of an encoding in weights."""
        return _total(self.weights, encoding)

    def overhead_macs(self, encoding: Sequence[int]) -> float:
        """Return the overhead of an encoding in MACs."""
        return _total(self.macs, encoding)

    def price(self, encoding: Sequence[int]) -> float:
        """Return the sum of an encoding's shares of both limits.

        Without limits it is the overhead in weights.
        """
        limits = self.limits
        if not limits:
            return self.overhead_weights(encoding)
        return sum(_total(costs, encoding) / max(limit, TOLERANCE) for costs, limit in limits)

    def fits(self, encoding: Sequence[int]) -> bool:
        """Return whether an encoding, or the first layers' part of one, stays within the limits."""
        return all(_total(costs, encoding) <= limit + TOLERANCE for costs, limit in self.limits)

    def canonical(self, encoding: Sequence[int]) -> Encoding:
        """Return the encoding of the same placement without choices that repeat others."""
        found = list(encoding)
        for layer, again in enumerate(self.repeats):
            while found[layer] in again:  # choices ascend: those before it are as large, or repeat
                found[layer] -= 1
        return tuple(found)

    def fitting(self, encoding: Sequence[int], layer: int) -> tuple[bool, ...]:
        """Return which choices of a layer fit and repeat none, the others left as they are.

        Args:
            encoding: choices of all layers, or of the first ones; those not given count nothing.
            layer: index of the layer.
        """
        again = self.repeats[layer] if self.repeats else ()
        within = self.within(encoding, layer)
        return tuple(fits and choice not in again for choice, fits in enumerate(within))

    def within(self, encoding: Sequence[int], layer: int) -> tuple[bool, ...]:
        """Return which choices of a layer stay within the limits, also those that repeat others.

        Args:
            encoding: as in :meth:`fitting`.
            layer: as there.
        """
        others = [0 if index == layer else choice for index, choice in enumerate(encoding)]
        left = [limit + TOLERANCE - _total(costs, others) for costs, limit in self.limits]
        rows = [costs[layer] for costs, _ in self.limits]
        return tuple(
            all(row[choice] <= rest for row, rest in zip(rows, left, strict=True))
            for choice in range(len(self.choices))
        )

    def mask(self, prefix: Sequence[int]) -> tuple[bool, ...]:
        """Return which choices of the next layer fit and repeat none; 0 always does.

        Args:
            prefix: choices of the layers before it; fewer than there are layers.
        """
        return (True, *self.fitting(prefix, len(prefix))[1:])

    def placement(self, encoding: Sequence[int]) -> Placement:
        """Return the placement of an encoding; layers with ratio 0 are left out."""
        return Placement(
            {
                layer.name: self.choices[choice]
                for layer, choice in zip(self.layers, encoding, strict=True)
                if choice > 0
            }
        )

    def encode(self, placement: Mapping[str, Choice]) -> Encoding:
        """Return the encoding of a placement.

        Raises:
            CnetError: if it names a layer that is not a candidate, or a ratio that is not a choice.
        """
        names = [layer.name for layer in self.layers]
        for name, value in placement.items():
            if name not in names:
                raise bad_value(f"placement.{name}", value, f"only layers of {', '.join(names)}")
            if value not in self.choices:
                choices = ", ".join(map(str, self.choices))
                raise bad_value(f"placement.{name}", value, f"one of {choices}")
        return tuple(self.choices.index(placement.get(name, 0.0)) for name in names)

    def encodings(self) -> Iterator[Encoding]:
        """Yield all encodings that fit, each placement once, in lexicographic order."""
        yield from self._extend(())

    def count(self) -> int:
        """Return how many :meth:`encodings` there are, without listing them.

        See :func:`count_within`.
        """
        repeats = self.repeats or ((),) * len(self.layers)
        if not self.limits:
            return math.prod(len(self.choices) - len(again) for again in repeats)
        costs = [
            [
                [cost for choice, cost in enumerate(row) if choice not in again]
                for row, again in zip(rows, repeats, strict=True)
            ]
            for rows, _ in self.limits
        ]
        return count_within(costs, [limit for _, limit in self.limits])

    def reward(self, encoding: Sequence[int], evaluation: Evaluation | None) -> float:
        """Return the reward: objective over chips - overhead.

        For an encoding that does not fit it is - overhead, in weights where overhead counts
        nothing; where the cheapest placement is asked for, it ranks as one without any score.

        Source: CorrectNet (DATE 2023), step 3, as we read the paper, with the mean; the other
        objectives are ours.

        Args:
            encoding: the encoding.
            evaluation: its scores; None for an encoding that does not fit.
        """
        overhead = self.overhead(encoding)
        if not self.fits(encoding):
            refused = self._behind(1.0) if self.objective.direction == "cheapest" else 0.0
            return refused - (overhead or self.overhead_weights(encoding))
        assert evaluation is not None
        return self.worth(evaluation) - overhead

    def worth(self, evaluation: Evaluation) -> float:
        """Return the objective over chips.

        Where the cheapest placement is asked for, it is 0 for all that reach what is wanted, and
        for others so far below that none of them has a higher reward.
        """
        shortfall = self.shortfall(evaluation)
        if shortfall is None:
            return objective_value(
                evaluation, self.objective, self.reference, self.higher_is_better
            )
        return self._behind(shortfall) if shortfall > 0.0 else 0.0

    def shortfall(self, evaluation: Evaluation) -> float | None:
        """Return what is missing to the share of the clean score that is wanted, at least 0.

        None where the best placement is asked for, and not the cheapest.
        """
        if self.objective.direction != "cheapest":
            return None
        value = objective_value(evaluation, self.objective, self.reference, self.higher_is_better)
        missing = 1.0 - self.objective.drop - value
        return missing if missing > TOLERANCE else 0.0

    def _behind(self, shortfall: float) -> float:
        """Return the worth of what ranks behind all that reach what is wanted."""
        return -(sum(max(row) for row in self.costs) + shortfall)

    def as_record(self) -> dict[str, Any]:
        """Return plain values, as a JSON file gives them back."""
        record: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        if not self.repeats:
            del record["repeats"]
        return record

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of the whole problem."""
        return hashlib.sha256(json.dumps(self.as_record(), sort_keys=True).encode()).hexdigest()

    def _extend(self, prefix: Encoding) -> Iterator[Encoding]:
        if len(prefix) == len(self.layers):
            yield prefix
            return
        for choice, fits in enumerate(self.mask(prefix)):
            if fits:
                yield from self._extend((*prefix, choice))


def _total(costs: Sequence[Sequence[float]], encoding: Sequence[int]) -> float:
    """Sum over layers in their order, so that a part of an encoding always costs the same."""
    return sum((costs[index][choice] for index, choice in enumerate(encoding)), 0.0)
