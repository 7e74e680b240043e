"""The interface of searchers, and what a search gives them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np

from cnet_aihw.cluster.settings import RaySettings
from cnet_aihw.search.budgeted import Evaluations
from cnet_aihw.search.problem import PlacementProblem


@dataclass(frozen=True)
class SearchContext:
    """Surroundings of a search, on which its course does not depend."""

    folder: Path | None = None
    """Folder where a searcher may keep state of its own; None: nowhere."""

    ray: RaySettings = field(default_factory=RaySettings)
    """Settings of Ray, for searchers that use it."""

    on_ray: Callable[[], None] = lambda: None
    """To be called by a searcher once it has started Ray, so that the search is shown there."""


class Searcher(Protocol):
    """Proposes placements. Its class is a dataclass whose fields are its settings."""

    name: ClassVar[str]
    """Short name, for folders and tables."""

    def search(
        self,
        problem: PlacementProblem,
        evaluations: Evaluations,
        rng: np.random.Generator,
        context: SearchContext,
    ) -> None:
        """Ask ``evaluations`` for the rewards of encodings until it raises ``BudgetSpent``.

        It must be deterministic: with the same rewards and ``rng`` it asks for the same encodings.
        A search that was killed is resumed by doing it again, which costs nothing.

        Args:
            problem: the placement problem.
            evaluations: rewards of encodings; it ends the search by an exception when the budget is
                spent.
            rng: the only source of chance.
            context: surroundings of the search.
        """
