"""Random search: the baseline of every other searcher."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import numpy as np

from cnet_aihw.search.budgeted import Evaluations
from cnet_aihw.search.problem import Encoding, PlacementProblem
from cnet_aihw.search.searchers.moves import unseen
from cnet_aihw.search.searchers.protocol import SearchContext


@dataclass
class RandomSearcher:
    """Draws encodings that fit, each one once."""

    name: ClassVar[str] = "random"

    def search(
        self,
        problem: PlacementProblem,
        evaluations: Evaluations,
        rng: np.random.Generator,
        context: SearchContext,
    ) -> None:
        """Ask for different encodings until the budget is spent."""
        known: dict[Encoding, None] = {row.encoding: None for row in evaluations.rows}
        first = len(known)
        for _ in range(evaluations.left):
            known[unseen(problem, known, rng)] = None
        evaluations.many(islice(known, first, None))
