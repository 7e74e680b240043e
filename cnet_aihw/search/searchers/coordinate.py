"""Coordinate search: one layer after the other gets its best choice, again and again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cnet_aihw.search.budgeted import Evaluations
from cnet_aihw.search.problem import Encoding, PlacementProblem
from cnet_aihw.search.searchers.moves import neighbours, no_compensation, perturbed, rewards_of
from cnet_aihw.search.searchers.protocol import SearchContext


@dataclass
class CoordinateSearcher:
    """Coordinate ascent, the most sensitive layers first.

    It begins at the best encoding that is known, or at no compensation.

    If no layer alone improves the encoding, it starts again from the best one with about a third of
    the layers drawn again.
    """

    name: ClassVar[str] = "coordinate"

    def search(
        self,
        problem: PlacementProblem,
        evaluations: Evaluations,
        rng: np.random.Generator,
        context: SearchContext,
    ) -> None:
        """Ascend, and start again near the best encoding, until the budget is spent."""
        sensitivities = [layer.sensitivity for layer in problem.layers]
        order = sorted(range(len(problem.layers)), key=lambda layer: -sensitivities[layer])
        best = evaluations.best
        start = no_compensation(problem) if best is None else best.encoding
        while evaluations.left:
            _ascend(problem, evaluations, start, order)
            if evaluations.left:
                assert evaluations.best is not None
                start = perturbed(problem, evaluations.best.encoding, evaluations, rng)
                order = rng.permutation(order).tolist()


def _ascend(
    problem: PlacementProblem, evaluations: Evaluations, encoding: Encoding, order: list[int]
) -> None:
    """Give the layers in turn their best choices until none of them changes."""
    reward, unchanged = evaluations(encoding), 0
    while unchanged < len(order):
        layer = order[0]
        order = [*order[1:], layer]
        unchanged += 1
        candidates = neighbours(problem, encoding, [layer])
        rewards = rewards_of(evaluations, candidates)
        if rewards and max(rewards) > reward:
            reward, unchanged = max(rewards), 1
            encoding = candidates[rewards.index(reward)]
