"""Imagined rewards: a model of what was evaluated, in which the agent practises at no cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cnet_aihw.search.budgeted import TraceRow
from cnet_aihw.search.problem import PlacementProblem, Plan
from cnet_aihw.search.searchers.second_order import SecondOrderModel

if TYPE_CHECKING:
    from cnet_aihw.search.rllib.learner import ValueWalks


class Imagination:
    """Draws rewards from a model of layers and pairs of layers that explains the evaluations.

    Source: the scheme is that of DyNA-PPO (Angermueller et al., ICLR 2020); the model is that of
    :class:`cnet_aihw.search.searchers.SurrogateSearcher`; draws from it in place of its mean are
    ours.

    Args:
        problem: the placement problem.
        exploration: how far draws are from the model's mean; 1 for those of its posterior.
    """

    def __init__(self, problem: PlacementProblem, exploration: float) -> None:
        self._problem, self._exploration = problem, exploration
        self._model = SecondOrderModel(len(problem.layers), len(problem.choices))

    def draw(self, rows: Sequence[TraceRow], rng: np.random.Generator) -> ValueWalks:
        """Fit the model and draw from it.

        Args:
            rows: evaluations, at least two.
            rng: source of the draw.

        Returns:
            What gives plans the rewards that they have in the draw.
        """
        problem = self._problem
        objective = np.array([row.reward + problem.overhead(row.plan) for row in rows])
        self._model.fit(np.array([row.plan for row in rows]), objective)
        tables = self._model.draw(rng, self._exploration)
        # Tables have no constant; the agent's baseline is that of evaluated walks too.
        constant = np.mean(objective - [tables.value(row.plan) for row in rows])

        def value(plans: Sequence[Plan]) -> list[float]:
            return [
                float(constant) + tables.value(plan) - problem.overhead(plan)
                if problem.fits(plan)
                else problem.reward(plan, None)
                for plan in plans
            ]

        return value
