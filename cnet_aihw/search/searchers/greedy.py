"""Greedy forward selection: the step that gains most for what it costs, measured, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from cnet_aihw.search.budgeted import Evaluations
from cnet_aihw.search.problem import PlacementProblem, Plan
from cnet_aihw.search.searchers.moves import neighbours, no_compensation, perturbed, rewards_of

_FREE = 1e-9  # overhead under which a step counts as one that costs this much


@dataclass
class GreedySearcher:
    """Forward selection from no compensation.

    Each round evaluates every larger choice of every layer that fits, and takes the one with the
    highest gain in reward per overhead. Where no step gains, it starts again from the best plan
    with about a third of the layers drawn anew.
    """

    name: ClassVar[str] = "greedy"

    def search(
        self,
        problem: PlacementProblem,
        evaluations: Evaluations,
        rng: np.random.Generator,
        folder: Path | None,
    ) -> None:
        """Select, and start again near the best plan, until the budget is spent."""
        start = no_compensation(problem)
        while evaluations.left:
            _select(problem, evaluations, start)
            if evaluations.left:
                assert evaluations.best is not None
                start = perturbed(problem, evaluations.best.plan, evaluations, rng)


def _select(problem: PlacementProblem, evaluations: Evaluations, plan: Plan) -> None:
    """Take step after step forward while one gains."""
    reward, layers = evaluations(plan), range(len(plan))
    while True:
        steps = [step for step in neighbours(problem, plan, layers) if sum(step) > sum(plan)]
        rewards = rewards_of(evaluations, steps)
        cost = problem.overhead(plan)
        gains = [
            (value - reward) / max(problem.overhead(step) - cost, _FREE)
            for step, value in zip(steps, rewards, strict=True)
        ]
        if not gains or max(gains) <= 0:
            return
        best = gains.index(max(gains))
        plan, reward = steps[best], rewards[best]
