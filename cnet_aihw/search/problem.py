"""The placement problem: which choices each candidate layer has, what they cost and are worth."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from typing import Any

import numpy as np

from cnet_aihw.compensation import (
    DIGITAL,
    CompensationVariant,
    NetworkCost,
    Placement,
    compensation_cost,
)
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.search.settings import (
    ObjectiveSettings,
    SpaceSettings,
    validate_objective_settings,
    validate_space_settings,
)

Plan = tuple[int, ...]
"""For each candidate layer, in the order of execution, the index of its choice."""

Choice = float | str
"""What a layer is given: a ratio, or ``"digital"``."""

TOLERANCE = 1e-12
"""By how much an overhead may pass the limit: sums of the same shares differ in their last bits."""

KINDS = ("linear", "conv1d", "conv2d")
"""Kinds of layers, by the dimensions they slide over."""


@dataclass(frozen=True)
class CandidateLayer:
    """A layer where compensation may go, as a searcher sees it."""

    name: str
    """Name in the model."""

    kind: str
    """"linear", "conv1d" or "conv2d"."""

    in_channels: int
    """Channels (features) read."""

    out_channels: int
    """Channels (features) given."""

    positions: int
    """Outputs per channel and sample: H * W of a 2d convolution."""

    depth: float
    """Its place among all layers of the network / their number, in [0, 1)."""

    sensitivity: float = 0.0
    """Accuracy lost when it alone varies; 0 where that is not known."""


@dataclass(frozen=True)
class Evaluation:
    """The accuracies of one placement on the chips of a search."""

    accuracies: tuple[float, ...]
    """Accuracy of each chip in [0, 1], chip 0 first."""

    seconds: float
    """Time that the evaluation took."""

    @property
    def mean(self) -> float:
        """Mean accuracy over chips."""
        return math.fsum(self.accuracies) / len(self.accuracies)

    @property
    def std(self) -> float:
        """Standard deviation over chips (n - 1 in the denominator); 0 for one chip."""
        return float(np.std(self.accuracies, ddof=1)) if len(self.accuracies) > 1 else 0.0

    @property
    def q05(self) -> float:
        """5 % quantile over chips, linear interpolation between the two nearest chips."""
        return float(np.quantile(self.accuracies, 0.05))

    def as_record(self) -> dict[str, Any]:
        """Plain values for a record."""
        return {"accuracies": list(self.accuracies), "seconds": self.seconds}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Evaluation:
        """Return what :meth:`as_record` wrote."""
        return cls(tuple(map(float, record["accuracies"])), float(record["seconds"]))


@dataclass(frozen=True)
class PlacementProblem:
    """Candidate layers, their choices and costs, the limit and the objective; plain and small."""

    layers: tuple[CandidateLayer, ...]
    """Candidate layers in the order of execution."""

    choices: tuple[Choice, ...]
    """What each layer can be given: ratios from 0 up, then ``"digital"`` where it is a choice."""

    weights: tuple[tuple[float, ...], ...]
    """Overhead in weights of each layer's choices, [layers][choices]."""

    macs: tuple[tuple[float, ...], ...]
    """Overhead in MACs of each layer's choices, [layers][choices]."""

    limit: float
    """Largest overhead, in the measure that the objective names."""

    objective: ObjectiveSettings
    """What a placement is worth."""

    @property
    def costs(self) -> tuple[tuple[float, ...], ...]:
        """Overhead of each layer's choices in the measure of the limit, [layers][choices]."""
        return self.macs if self.objective.overhead == "macs" else self.weights

    @property
    def size(self) -> int:
        """Number of plans, those over the limit included."""
        return len(self.choices) ** len(self.layers)

    def overhead(self, plan: Sequence[int]) -> float:
        """Overhead of a plan, or of the first layers' part of one, in the measure of the limit."""
        return _total(self.costs, plan)

    def overhead_weights(self, plan: Sequence[int]) -> float:
        """Overhead of a plan in weights."""
        return _total(self.weights, plan)

    def overhead_macs(self, plan: Sequence[int]) -> float:
        """Overhead of a plan in MACs."""
        return _total(self.macs, plan)

    def fits(self, plan: Sequence[int]) -> bool:
        """Whether a plan, or the first layers' part of one, stays within the limit."""
        return self._within(self.overhead(plan))

    def mask(self, prefix: Sequence[int]) -> tuple[bool, ...]:
        """Which choices of the next layer stay within the limit; 0 always does.

        Args:
            prefix: choices of the layers before it; fewer than there are layers.
        """
        used = self.overhead(prefix)
        return (True, *(self._within(used + cost) for cost in self.costs[len(prefix)][1:]))

    def placement(self, plan: Sequence[int]) -> Placement:
        """Return a plan as a placement; layers that are left as they are do not stand in it."""
        return Placement(
            {
                layer.name: self.choices[choice]
                for layer, choice in zip(self.layers, plan, strict=True)
                if choice > 0
            }
        )

    def plan_of(self, placement: Mapping[str, Choice]) -> Plan:
        """Return a placement as a plan.

        Raises:
            CnetError: if it names a layer that is no candidate, or a ratio that is no choice.
        """
        names = [layer.name for layer in self.layers]
        for name, value in placement.items():
            if name not in names:
                raise CnetError(
                    f"the placement names {name!r}, which is no candidate layer; candidates are "
                    f"{', '.join(names)}."
                )
            if value not in self.choices:
                raise CnetError(
                    f"the placement gives {name!r} {value!r}, which is no choice of the search; "
                    f"choices are {', '.join(map(str, self.choices))}."
                )
        return tuple(self.choices.index(placement.get(name, 0.0)) for name in names)

    def plans(self) -> Iterator[Plan]:
        """All plans that fit, in lexicographic order."""
        yield from self._extend(())

    def count(self) -> int:
        """How many plans fit, without listing them; exact up to 2**53, rounded above."""
        sums, ways = np.zeros(1), np.ones(1)
        for costs in self.costs:
            sums = np.add.outer(np.array(costs), sums).ravel()
            ways = np.tile(ways, len(costs))
            within = sums <= self.limit + TOLERANCE
            # Overheads are whole numbers of weights / those of the network: many sums are equal.
            _, first, which = np.unique(
                sums[within].round(14), return_index=True, return_inverse=True
            )
            sums, ways = sums[within][first], np.bincount(which, ways[within])
        return int(ways.sum())

    def reward(self, plan: Sequence[int], evaluation: Evaluation | None) -> float:
        """What a plan is worth: the objective over chips - overhead; - overhead if it does not fit.

        Source: CorrectNet (DATE 2023), step 3, as we read the paper, with the mean; the other
        objectives are ours.

        Args:
            plan: the plan.
            evaluation: its accuracies; None, without use, for a plan that does not fit.
        """
        overhead = self.overhead(plan)
        if not self._within(overhead):
            return -overhead
        assert evaluation is not None
        return self._objective(evaluation) - overhead

    def as_record(self) -> dict[str, Any]:
        """Plain values, as a JSON file gives them back."""
        record: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return record

    def fingerprint(self) -> str:
        """SHA-256 (hex) of all of it."""
        return hashlib.sha256(json.dumps(self.as_record(), sort_keys=True).encode()).hexdigest()

    def _within(self, overhead: float) -> bool:
        return overhead <= self.limit + TOLERANCE

    def _extend(self, prefix: Plan) -> Iterator[Plan]:
        if len(prefix) == len(self.layers):
            yield prefix
            return
        for choice, fits in enumerate(self.mask(prefix)):
            if fits:
                yield from self._extend((*prefix, choice))

    def _objective(self, evaluation: Evaluation) -> float:
        o = self.objective
        if o.kind == "mean_minus_std":
            return evaluation.mean - o.k * evaluation.std
        if o.kind == "quantile":
            return float(np.quantile(evaluation.accuracies, o.quantile))
        if o.kind == "yield":
            return float(np.mean(np.array(evaluation.accuracies) >= o.threshold))
        return evaluation.mean


def placement_problem(
    network: NetworkCost,
    layers: Sequence[str],
    variant: CompensationVariant,
    limit: float,
    space: SpaceSettings | None = None,
    objective: ObjectiveSettings | None = None,
    sensitivity: Mapping[str, float] | None = None,
) -> PlacementProblem:
    """State the problem of where compensation goes, from shapes alone: nothing is built or run.

    Args:
        network: costs of the network.
        layers: candidate layers, in any order.
        variant: how generators and compensators are built.
        limit: largest overhead, such as 0.05, in the measure that the objective names.
        space: what each layer can be given.
        objective: what a placement is worth.
        sensitivity: accuracy lost when a layer alone varies, for those where it is known.

    Returns:
        The problem.

    Raises:
        CnetError: for settings that cannot be, no candidate layer, one that the network does not
            run on a crossbar, and a limit under all that any layer could be given.
    """
    space, objective = space or SpaceSettings(), objective or ObjectiveSettings()
    validate_space_settings(space)
    validate_objective_settings(objective)
    if not (math.isfinite(limit) and limit >= 0):
        raise CnetError(f"the overhead limit is {limit}; give a share such as 0.05.")
    _check_layers(network, layers)
    order = list(network.layers)
    names = sorted(set(layers), key=order.index)
    choices: tuple[Choice, ...] = (
        *sorted(float(r) for r in space.ratios),
        *([DIGITAL] if space.digital else []),
    )
    costs = [
        [compensation_cost(network, Placement({n: c}), variant) for c in choices] for n in names
    ]
    problem = PlacementProblem(
        tuple(_candidate(network, n, order, sensitivity or {}) for n in names),
        choices,
        tuple(tuple(cost.overhead_weights for cost in row) for row in costs),
        tuple(tuple(cost.overhead_macs for cost in row) for row in costs),
        float(limit),
        replace(objective),
    )
    _check_limit(problem)
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
        raise CnetError("there is no candidate layer, so there is nothing to search; name layers.")
    analog = [name for name, layer in network.layers.items() if layer.analog]
    for name in layers:
        if name not in analog:
            near = ", ".join(map(repr, get_close_matches(name, analog, n=3, cutoff=0.0)))
            raise CnetError(
                f"the candidate layer {name!r} is none that the network runs on a crossbar; "
                f"nearest: {near}."
            )


def _check_limit(problem: PlacementProblem) -> None:
    cost, name, choice = min(
        (cost, layer.name, str(choice))
        for layer, costs in zip(problem.layers, problem.costs, strict=True)
        for choice, cost in zip(problem.choices[1:], costs[1:], strict=True)
    )
    if cost > problem.limit + TOLERANCE:
        measure = "MACs" if problem.objective.overhead == "macs" else "weights"
        raise CnetError(
            f"the overhead limit {problem.limit:.4g} allows no compensation: the least, {choice} "
            f"at {name!r}, costs {cost:.4g} of the network's {measure}; raise the limit, or give "
            "smaller ratios or another variant."
        )


def _total(costs: Sequence[Sequence[float]], plan: Sequence[int]) -> float:
    """Sum over layers in their order, so that a part of a plan costs the same in every way."""
    return sum((costs[index][choice] for index, choice in enumerate(plan)), 0.0)
