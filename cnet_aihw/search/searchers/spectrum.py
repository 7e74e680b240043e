"""Placement by eigenvalues: by how much of a layer's output each size wins back; no search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cnet_aihw.search.budgeted import Evaluations
from cnet_aihw.search.problem import TOLERANCE, Encoding, PlacementProblem
from cnet_aihw.search.searchers.protocol import SearchContext
from cnet_aihw.search.searchers.second_order import Tables
from cnet_aihw.search.searchers.surrogate import climb

_POWERS = (1.0, 0.5, 0.0)  # of the price: per cost, in between, and gain alone
_FREE = 1e-7  # price under which a step counts as one that costs this much


@dataclass
class SpectrumSearcher:
    """Takes step after step with the highest gain per cost, then exchanges (ours).

    The gain of a choice is the share of a layer's wanted output that it wins back, which the
    evaluator finds with a forward pass on each chip: the eigenvalues of a closed-form fit say it
    for all sizes at once. Gains of layers count the same and are added. The cost is the sum of its
    shares of both limits, its root, or nothing. When no step is left, one or two layers at once are
    changed as long as that gains more. The highest sum of gains is the result, which alone is
    evaluated.
    """

    name: ClassVar[str] = "spectrum"

    def search(
        self,
        problem: PlacementProblem,
        evaluations: Evaluations,
        rng: np.random.Generator,
        context: SearchContext,
    ) -> None:
        """Place by gains, and evaluate the placement.

        Raises:
            CnetError: if the evaluator cannot say what choices gain.
        """
        evaluations(placed_by_gains(problem, np.array(evaluations.gains())))


def placed_by_gains(problem: PlacementProblem, gains: np.ndarray) -> Encoding:
    """Return an encoding within the limits with a high sum of gains.

    Args:
        problem: the problem.
        gains: gain of each layer's choices, [layers, choices].
    """
    shape = len(problem.limits), len(problem.layers), len(problem.choices)
    costs = np.array([costs for costs, _ in problem.limits]).reshape(shape)
    limits = np.array([limit for _, limit in problem.limits])
    tables = Tables(gains, np.zeros((shape[1], shape[1], shape[2], shape[2])))
    starts = [_greedy(problem, gains, power) for power in _POWERS]
    best = max((climb(tables, costs, limits, start) for start in starts), key=tables.value)
    return problem.canonical(best)


def _greedy(problem: PlacementProblem, gains: np.ndarray, power: float) -> Encoding:
    """Step forward by the highest gain / price ** power until nothing fits or gains."""
    layers, choices = range(len(problem.layers)), np.arange(len(problem.choices))
    measures = [(np.array(costs), limit) for costs, limit in problem.limits]
    prices = np.array(problem.weights)
    if measures:
        prices = np.sum([costs / max(limit, TOLERANCE) for costs, limit in measures], 0)
    fresh = np.ones(gains.shape, dtype=bool)  # choices that do not repeat others, [layers, choices]
    for layer, again in enumerate(problem.repeats):
        fresh[layer, list(again)] = False
    now = np.zeros(len(layers), dtype=int)
    while True:
        steps = fresh & (choices > now[:, None])
        for costs, limit in measures:
            own = costs[layers, now]
            steps &= costs <= limit + TOLERANCE - (own.sum() - own)[:, None]
        rates = gains - gains[layers, now, None]
        rates = rates / np.maximum(prices - prices[layers, now, None], _FREE) ** power
        rates[~steps] = -np.inf
        best = np.unravel_index(rates.argmax(), rates.shape)
        if rates[best] <= 0:
            return tuple(now.tolist())
        now[best[0]] = best[1]
