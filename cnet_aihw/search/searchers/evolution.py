"""Regularised evolution (Real et al., AAAI 2019): a population whose oldest members die."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.search.budgeted import Evaluations
from cnet_aihw.search.problem import PlacementProblem, Plan
from cnet_aihw.search.searchers.moves import (
    cut_to_fit,
    no_compensation,
    perturbed,
    redrawn,
    rewards_of,
    unseen,
)

_TRIES = 50  # children of the same tournament before one is drawn near the best plan


@dataclass
class EvolutionSearcher:
    """Children of the best of a few members replace the oldest ones; within the limit always."""

    name: ClassVar[str] = "evolution"

    population: int = 16
    """Members; they start from random plans and no compensation."""

    tournament: int = 5
    """Members drawn to choose each parent, the best of them."""

    children: int = 4
    """Children of a generation, evaluated side by side where possible."""

    crossover: float = 0.3
    """Share of children that have two parents."""

    def __post_init__(self) -> None:
        if self.children < 1 or not 1 <= self.tournament <= self.population:
            raise CnetError(
                f"evolution has population={self.population}, tournament={self.tournament} and "
                f"children={self.children}; give at least 1 each, and no larger tournament than "
                "population."
            )
        if not 0.0 <= self.crossover <= 1.0:
            raise CnetError(f"evolution.crossover is {self.crossover}; give a share in [0, 1].")

    def search(
        self,
        problem: PlacementProblem,
        evaluations: Evaluations,
        rng: np.random.Generator,
        folder: Path | None,
    ) -> None:
        """Breed generation after generation until the budget is spent."""
        first = {no_compensation(problem): None}
        while len(first) < min(self.population, evaluations.left):
            first[unseen(problem, first, rng)] = None
        members: deque[tuple[float, Plan]] = deque(maxlen=self.population)
        members.extend(zip(rewards_of(evaluations, list(first)), first, strict=True))
        while evaluations.left:
            born: dict[Plan, None] = {}
            while len(born) < min(self.children, evaluations.left):
                born[self._child(problem, evaluations, members, born, rng)] = None
            members.extend(zip(rewards_of(evaluations, list(born)), born, strict=True))

    def _child(
        self,
        problem: PlacementProblem,
        evaluations: Evaluations,
        members: deque[tuple[float, Plan]],
        born: dict[Plan, None],
        rng: np.random.Generator,
    ) -> Plan:
        """A plan that is not known yet: a parent's, or two parents' mixed, with a mutation."""
        for _ in range(_TRIES):
            child = self._parent(members, rng)
            if rng.random() < self.crossover:
                mixed = np.where(rng.random(len(child)) < 0.5, child, self._parent(members, rng))
                child = cut_to_fit(problem, tuple(mixed.tolist()), rng)
            mutated = rng.permutation(len(child))[: rng.integers(1, 3)]
            child = redrawn(problem, child, mutated.tolist(), rng)
            if child not in evaluations and child not in born:
                return child
        assert evaluations.best is not None
        known = {*born, *(row.plan for row in evaluations.rows)}
        return perturbed(problem, evaluations.best.plan, known, rng)

    def _parent(self, members: deque[tuple[float, Plan]], rng: np.random.Generator) -> Plan:
        size = min(self.tournament, len(members))
        drawn = rng.choice(len(members), size, replace=False)
        return max(members[index] for index in drawn)[1]
