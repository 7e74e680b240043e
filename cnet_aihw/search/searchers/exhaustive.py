"""Exhaustive search: every plan that fits; the judge of the other searchers where it can be run."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import ClassVar

import numpy as np

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.search.budgeted import Evaluations
from cnet_aihw.search.problem import PlacementProblem


@dataclass
class ExhaustiveSearcher:
    """Evaluates every plan that fits, in lexicographic order."""

    name: ClassVar[str] = "exhaustive"

    def search(
        self,
        problem: PlacementProblem,
        evaluations: Evaluations,
        rng: np.random.Generator,
        folder: Path | None,
    ) -> None:
        """Ask for all plans.

        Raises:
            CnetError: if there are more of them than the budget covers.
        """
        plans = list(islice(problem.plans(), evaluations.budget + 1))
        if len(plans) > evaluations.budget:
            raise CnetError(
                f"an exhaustive search has more placements to evaluate than its budget of "
                f"{evaluations.budget}; raise the budget, give fewer candidate layers or ratios, "
                "or take another searcher."
            )
        evaluations.many(plans)
