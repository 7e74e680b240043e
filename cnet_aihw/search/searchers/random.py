"""Random search: what every other searcher has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from cnet_aihw.search.budgeted import Evaluations
from cnet_aihw.search.problem import PlacementProblem, Plan
from cnet_aihw.search.searchers.moves import unseen


@dataclass
class RandomSearcher:
    """Draws plans that fit, each one once."""

    name: ClassVar[str] = "random"

    def search(
        self,
        problem: PlacementProblem,
        evaluations: Evaluations,
        rng: np.random.Generator,
        folder: Path | None,
    ) -> None:
        """Ask for different plans until the budget is spent."""
        drawn: dict[Plan, None] = {}
        for _ in range(evaluations.left):
            drawn[unseen(problem, drawn, rng)] = None
        evaluations.many(drawn)
