"""The placement problem: choices of each candidate layer, their costs, and the reward."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from typing import Any

from cnet_aihw.compensation import (
    DIGITAL,
    PAPER,
    CompensationCost,
    Corrector,
    NetworkCost,
    OverLimit,
    Placement,
    compensation_cost,
    over_limit,
)
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.search.counting import TOLERANCE, count_within
from cnet_aihw.search.scores import Evaluation, objective_value
from cnet_aihw.search.settings import (
    ObjectiveSettings,
    SpaceSettings,
    validate_objective_settings,
    validate_space_settings,
)

Encoding = tuple[int, ...]
"""A placement as indices: for each candidate layer, in the order of execution, its choice."""

Choice = float | str
"""A ratio, or ``"digital"``."""

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
    """Choices of each layer: ratios from 0 up, then ``"digital"`` where it is a choice."""

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

    @property
    def costs(self) -> tuple[tuple[float, ...], ...]:
        """Overhead of each layer's choices as the reward counts it, [layers][choices]."""
        return self.macs if self.objective.overhead == "macs" else self.weights

    @property
    def limits(self) -> tuple[tuple[tuple[tuple[float, ...], ...], float], ...]:
        """Costs [layers][choices] and their limit, for each measure that has one."""
        measures = (self.weights, self.limit), (self.macs, self.limit_macs)
        return tuple((costs, limit) for costs, limit in measures if limit is not None)

    @property
    def size(self) -> int:
        """Number of encodings, those over a limit included."""
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
        """Return the sum of an encoding's shares of both limits; without limits, its overhead."""
        limits = self.limits
        if not limits:
            return self.overhead(encoding)
        return sum(_total(costs, encoding) / max(limit, TOLERANCE) for costs, limit in limits)

    def fits(self, encoding: Sequence[int]) -> bool:
        """Return whether an encoding, or the first layers' part of one, stays within the limits."""
        return all(_total(costs, encoding) <= limit + TOLERANCE for costs, limit in self.limits)

    def fitting(self, encoding: Sequence[int], layer: int) -> tuple[bool, ...]:
        """Return which choices of a layer stay within the limits, the others left as they are.

        Args:
            encoding: choices of all layers, or of the first ones; those not given count nothing.
            layer: index of the layer.
        """
        others = [0 if index == layer else choice for index, choice in enumerate(encoding)]
        left = [limit + TOLERANCE - _total(costs, others) for costs, limit in self.limits]
        rows = [costs[layer] for costs, _ in self.limits]
        return tuple(
            all(row[choice] <= rest for row, rest in zip(rows, left, strict=True))
            for choice in range(len(self.choices))
        )

    def mask(self, prefix: Sequence[int]) -> tuple[bool, ...]:
        """Return which choices of the next layer stay within the limits; 0 always does.

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
        """Yield all encodings that fit, in lexicographic order."""
        yield from self._extend(())

    def count(self) -> int:
        """Return how many encodings fit, without listing them; see :func:`count_within`."""
        if not self.limits:
            return self.size
        return count_within([costs for costs, _ in self.limits], [max_ for _, max_ in self.limits])

    def reward(self, encoding: Sequence[int], evaluation: Evaluation | None) -> float:
        """Return the reward: objective over chips - overhead; - overhead if it does not fit.

        Source: CorrectNet (DATE 2023), step 3, as we read the paper, with the mean; the other
        objectives are ours.

        Args:
            encoding: the encoding.
            evaluation: its scores; None for an encoding that does not fit.
        """
        overhead = self.overhead(encoding)
        if not self.fits(encoding):
            return -overhead
        assert evaluation is not None
        return self.worth(evaluation) - overhead

    def worth(self, evaluation: Evaluation) -> float:
        """Return the objective over chips."""
        return objective_value(evaluation, self.objective, self.reference, self.higher_is_better)

    def as_record(self) -> dict[str, Any]:
        """Return plain values, as a JSON file gives them back."""
        record: dict[str, Any] = json.loads(json.dumps(asdict(self)))
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


def placement_problem(
    network: NetworkCost,
    layers: Sequence[str],
    corrector: Corrector = PAPER,
    limit: float | None = 0.05,
    space: SpaceSettings | None = None,
    objective: ObjectiveSettings | None = None,
    sensitivity: Mapping[str, float] | None = None,
    *,
    limit_macs: float | None = 0.05,
    reference: float | None = None,
    higher_is_better: bool = True,
) -> PlacementProblem:
    """State the problem of where compensation goes, from shapes alone: nothing is built or run.

    Args:
        network: costs of the network.
        layers: candidate layers, in any order.
        corrector: kind of corrector; one without a size takes the ratios 0 and 1 alone.
        limit: largest overhead in weights; None: no limit.
        space: choices of each layer.
        objective: worth of a placement.
        sensitivity: score lost when a layer alone varies, for those where it is known.
        limit_macs: largest overhead in MACs; None: no limit.
        reference: clean score that rewards are relative to, above 0; None: rewards take scores as
            they are (the paper, for accuracies).
        higher_is_better: direction of the score; if lower is better, the reference is needed.

    Returns:
        The problem.

    Raises:
        CnetError: for impossible settings, no candidate layer, one that the network does not run on
            a crossbar, and limits within which no layer could be given anything.
    """
    space, objective = space or SpaceSettings(), objective or ObjectiveSettings()
    validate_space_settings(space)
    validate_objective_settings(objective)
    for name, value in (("limit", limit), ("limit_macs", limit_macs)):
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise bad_value(name, value, "a share of at least 0, such as 0.05, or None")
    if reference is None and not higher_is_better:
        raise bad_value("reference", None, "the clean score, as lower scores are better")
    if reference is not None and not (math.isfinite(reference) and reference > 0):
        raise bad_value("reference", reference, "a clean score above 0")
    _check_layers(network, layers)
    order = list(network.layers)
    names = sorted(set(layers), key=order.index)
    choices: tuple[Choice, ...] = (
        *sorted(float(r) for r in space.ratios),
        *([DIGITAL] if space.digital else []),
    )
    costs = [
        [compensation_cost(network, Placement({n: c}), corrector) for c in choices] for n in names
    ]
    problem = PlacementProblem(
        tuple(_candidate(network, n, order, sensitivity or {}) for n in names),
        choices,
        tuple(tuple(cost.overhead_weights for cost in row) for row in costs),
        tuple(tuple(cost.overhead_macs for cost in row) for row in costs),
        None if limit is None else float(limit),
        None if limit_macs is None else float(limit_macs),
        replace(objective),
        reference,
        higher_is_better,
    )
    _check_limits(problem)
    return problem


def _candidate(
    network: NetworkCost, name: str, order: list[str], sensitivity: Mapping[str, float]
) -> CandidateLayer:
    layer = network.layers[name]
    return CandidateLayer(
        name,
        KINDS[layer.shape.dims],
        layer.shape.in_channels,
        layer.shape.out_channels,
        layer.positions,
        order.index(name) / len(order),
        float(sensitivity.get(name, 0.0)),
    )


def _check_layers(network: NetworkCost, layers: Sequence[str]) -> None:
    if not layers:
        raise CnetError(
            "no candidate layer is given, so nothing can be searched; name layers.",
            key="layers",
            value=list(layers),
            expected="at least one layer",
        )
    analog = [name for name, layer in network.layers.items() if layer.analog]
    for name in layers:
        if name not in analog:
            nearest = get_close_matches(name, analog, n=3, cutoff=0.0)
            raise CnetError(
                f"the candidate layer {name!r} is not one that the network runs on a crossbar; "
                f"the nearest are {', '.join(map(repr, nearest))}.",
                key="layers",
                value=name,
                expected=tuple(nearest),
            )


def _check_limits(problem: PlacementProblem) -> None:
    """Check that at least one choice of one layer stays within both limits."""
    least: tuple[float, str, str, OverLimit] | None = None
    for row in zip(problem.layers, problem.weights, problem.macs, strict=True):
        for choice, weights, macs in list(zip(problem.choices, *row[1:], strict=True))[1:]:
            cost = CompensationCost({}, {}, weights, macs)
            over = over_limit(cost, problem.limit, problem.limit_macs)
            if over is None:
                return
            found = over.overhead / max(over.limit, TOLERANCE), row[0].name, str(choice), over
            least = found if least is None else min(least, found, key=lambda one: one[0])
    assert least is not None
    _, name, choice_name, over = least
    raise CnetError(
        f"the overhead limits allow no compensation: the least, {choice_name} at {name!r}, costs "
        f"{over}; raise the limit, or give smaller choices or another corrector.",
        key=over.key,
        value=over.limit,
        expected=f"at least {over.overhead:.4g}",
    )


def _total(costs: Sequence[Sequence[float]], encoding: Sequence[int]) -> float:
    """Sum over layers in their order, so that a part of an encoding always costs the same."""
    return sum((costs[index][choice] for index, choice in enumerate(encoding)), 0.0)
