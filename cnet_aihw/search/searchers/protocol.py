"""What every searcher does; anything that does it can be searched with."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np

from cnet_aihw.search.budgeted import Evaluations
from cnet_aihw.search.problem import PlacementProblem
from cnet_aihw.search.settings import RaySettings


class Searcher(Protocol):
    """Proposes placements: a dataclass whose fields are its settings."""

    name: ClassVar[str]
    """What it is called in records and tables."""

    def search(
        self,
        problem: PlacementProblem,
        evaluations: Evaluations,
        rng: np.random.Generator,
        folder: Path | None,
    ) -> None:
        """Ask for plans until the budget is spent, or nothing more is to be gained.

        The same problem, rewards and generator give the same plans in the same order: a search that
        was killed goes on by asking for all of them again, which costs nothing.

        Args:
            problem: the placement problem.
            evaluations: what to ask; it ends the search by an exception when the budget is spent.
            rng: the only source of chance.
            folder: where it may keep state of its own; None: nowhere.
        """


@runtime_checkable
class UsesRay(Protocol):
    """What a searcher that needs Ray does as well."""

    def start_ray(self, settings: RaySettings) -> None:
        """Start what it needs, before anything is evaluated.

        Args:
            settings: where Ray runs; they do not belong to the searcher's own, as they change
                nothing in what it finds.

        Raises:
            CnetError: if that is not possible there.
        """
