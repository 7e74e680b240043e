"""The interface of searchers, and what a search gives them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from traceback import walk_tb
from typing import ClassVar, Protocol

import numpy as np

from cnet_aihw.cluster.settings import RaySettings
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.origin import fault
from cnet_aihw.search.budgeted import BudgetSpent, Evaluations
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


def validate_searcher(searcher: object) -> None:
    """Check that an object can be a searcher, before any work.

    Raises:
        CnetError: if it is not a dataclass object, or its ``name`` or ``search`` is not that of
            :class:`Searcher`.
    """
    kind = searcher if isinstance(searcher, type) else type(searcher)
    if not is_dataclass(searcher) or isinstance(searcher, type):
        raise _not_a_searcher(
            f"{kind.__name__} is not a dataclass object; make its class a dataclass whose fields "
            "are its settings, so that a folder can tell which search it holds",
            "a dataclass object",
        )
    name = getattr(searcher, "name", None)
    if not isinstance(name, str) or not name or Path(name).name != name:
        raise _not_a_searcher(
            f"{kind.__name__}.name is {name!r}; give it a short text that a folder can have",
            "a short text",
        )
    try:
        inspect.signature(searcher.search).bind(*["problem", "evaluations", "rng", "context"])  # type: ignore[attr-defined]
    except (AttributeError, TypeError) as error:
        raise _not_a_searcher(
            f"{kind.__name__} has no method search(problem, evaluations, rng, context) ({error}); "
            "give it one, which asks evaluations for rewards",
            "search(problem, evaluations, rng, context)",
        ) from error


def ask_searcher(
    searcher: Searcher, evaluations: Evaluations, rng: np.random.Generator, context: SearchContext
) -> None:
    """Let a searcher search, and say in one sentence where a class from elsewhere fails.

    Raises:
        CnetError: names the searcher, its error and the line; errors of evaluations stay as they
            are.
    """
    try:
        searcher.search(evaluations.problem, evaluations, rng, context)
    except (BudgetSpent, CnetError, OSError):
        raise
    except Exception as error:
        kind, evaluating = type(searcher), Evaluations.many.__code__.co_filename
        files = [frame.f_code.co_filename for frame, _ in walk_tb(error.__traceback__)]
        if kind.__module__.startswith("cnet_aihw.") or evaluating in files:
            raise
        fix = "mend it; the same search then resumes"
        raise CnetError(
            f"the searcher {kind.__name__} fails after {evaluations.spent} evaluations "
            f"({type(error).__name__}: {fault(error)}); {fix}.",
            key="searcher",
            value=kind.__name__,
            fix=fix,
        ) from error


def _not_a_searcher(message: str, expected: str) -> CnetError:
    return CnetError(f"the searcher {message}.", key="searcher", expected=expected)
