"""Greedy forward selection: the step that gains most for what it costs, measured, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cnet_aihw.search.budgeted import Evaluations
from cnet_aihw.search.problem import Encoding, PlacementProblem
from cnet_aihw.search.searchers.moves import neighbours, no_compensation, perturbed, rewards_of
from cnet_aihw.search.searchers.protocol import SearchContext

_FREE = 1e-7  # price under which a step counts as one that costs this much


@dataclass
class GreedySearcher:
    """Forward selection from no compensation.

    Each round evaluates every larger choice of every layer that fits, and takes the one with the
    highest gain in reward per share of the limits that it takes. If no step gains, it starts again
    from the best encoding with about a third of the layers drawn again.
    """

    name: ClassVar[str] = "greedy"

    def search(
        self,
        problem: PlacementProblem,
        evaluations: Evaluations,
        rng: np.random.Generator,
        context: SearchContext,
    ) -> None:
        """Select, and start again near the best encoding, until the budget is spent."""
        start = no_compensation(problem)
        while evaluations.left:
            _select(problem, evaluations, start)
            if evaluations.left:
                assert evaluations.best is not None
                start = perturbed(problem, evaluations.best.encoding, evaluations, rng)


def _select(problem: PlacementProblem, evaluations: Evaluations, encoding: Encoding) -> None:
    """Take step after step forward while one gains."""
    reward, layers = evaluations(encoding), range(len(encoding))
    while True:
        steps = [
            step for step in neighbours(problem, encoding, layers) if sum(step) > sum(encoding)
        ]
        rewards = rewards_of(evaluations, steps)
        cost = problem.price(encoding)
        gains = [
            (value - reward) / max(problem.price(step) - cost, _FREE)
            for step, value in zip(steps, rewards, strict=True)
        ]
        if not gains or max(gains) <= 0:
            return
        best = gains.index(max(gains))
        encoding, reward = steps[best], rewards[best]
