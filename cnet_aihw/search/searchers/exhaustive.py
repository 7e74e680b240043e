"""Exhaustive search: every encoding that fits; the reference for other searchers."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import numpy as np

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.search.budgeted import Evaluations
from cnet_aihw.search.problem import PlacementProblem
from cnet_aihw.search.searchers.protocol import SearchContext


@dataclass
class ExhaustiveSearcher:
    """Evaluates every encoding that fits, in lexicographic order."""

    name: ClassVar[str] = "exhaustive"

    def search(
        self,
        problem: PlacementProblem,
        evaluations: Evaluations,
        rng: np.random.Generator,
        context: SearchContext,
    ) -> None:
        """Ask for all encodings.

        Raises:
            CnetError: as `check`.
        """
        self.check(problem, evaluations.budget)
        evaluations.many(list(problem.encodings()))

    def check(self, problem: PlacementProblem, budget: int) -> None:
        """Check that the budget covers the search.

        Raises:
            CnetError: if there are more encodings than the budget covers.
        """
        if sum(1 for _ in islice(problem.encodings(), budget + 1)) > budget:
            raise CnetError(
                f"an exhaustive search has more placements to evaluate than its budget of "
                f"{budget}; raise the budget, give fewer candidate layers or ratios, or take "
                "another searcher.",
                key="budget",
                value=budget,
                expected="at least the number of placements within the limit",
            )
