"""Model rollouts: episodes rewarded by a model of the evaluations so far, which cost nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from cnet_aihw.search.budgeted import TraceRow
from cnet_aihw.search.problem import Encoding, PlacementProblem
from cnet_aihw.search.searchers.second_order import SecondOrderModel

EpisodeRewards = Callable[[Sequence[Encoding]], Sequence[float]]
"""Returns the rewards of the encodings that the episodes of an iteration ended with."""


class ModelRollouts:
    """Rewards drawn from a model of layers and pairs of layers that explains the evaluations.

    Source: the scheme is that of DyNA-PPO (Angermueller et al., ICLR 2020); the model is that of
    :class:`cnet_aihw.search.searchers.SurrogateSearcher`; draws from it in place of its mean are
    ours.

    Args:
        problem: the placement problem.
        exploration: distance of draws from the model's mean; 1 for those of its posterior.
    """

    def __init__(self, problem: PlacementProblem, exploration: float) -> None:
        self._problem, self._exploration = problem, exploration
        self._model = SecondOrderModel(len(problem.layers), len(problem.choices))

    def draw(self, rows: Sequence[TraceRow], rng: np.random.Generator) -> EpisodeRewards:
        """Fit the model and draw from it.

        Args:
            rows: evaluations, at least two.
            rng: source of the draw.

        Returns:
            Rewards of encodings in this draw.
        """
        problem = self._problem
        objective = np.array([row.reward + problem.overhead(row.encoding) for row in rows])
        self._model.fit(np.array([row.encoding for row in rows]), objective)
        tables = self._model.draw(rng, self._exploration)
        # Tables have no constant; the agent's baseline serves evaluated episodes too.
        constant = np.mean(objective - [tables.value(row.encoding) for row in rows])

        def value(encodings: Sequence[Encoding]) -> list[float]:
            return [
                float(constant) + tables.value(encoding) - problem.overhead(encoding)
                if problem.fits(encoding)
                else problem.reward(encoding, None)
                for encoding in encodings
            ]

        return value
