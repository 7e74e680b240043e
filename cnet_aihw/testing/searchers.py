"""The contract of searchers, and a placement problem with a known optimum."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from cnet_aihw.compensation import Placement
from cnet_aihw.search import (
    BudgetSpent,
    CandidateLayer,
    Encoding,
    Evaluation,
    Evaluations,
    ObjectiveSettings,
    PlacementProblem,
    SearchContext,
)
from cnet_aihw.search.searchers import Searcher
from cnet_aihw.testing.chance import one_source_of_chance
from cnet_aihw.testing.promises import promise, promised

RATIOS = (0.0, 0.25, 0.5, 1.0)
COSTS = ((0.0, 0.01, 0.02, 0.04), (0.0, 0.02, 0.04, 0.08), (0.0, 0.01, 0.03, 0.05))
GAINS = ((0.0, 0.1, 0.15, 0.16), (0.0, 0.02, 0.03, 0.2), (0.0, 0.05, 0.02, 0.01))
LIMIT = 0.1


def small_problem() -> PlacementProblem:
    """Return a problem of three layers with four choices each, 45 placements of which fit."""
    layers = tuple(
        CandidateLayer(f"layer{i}", "conv2d", 8, 8, 1, i / 3, max(gains))
        for i, gains in enumerate(GAINS)
    )
    return PlacementProblem(layers, RATIOS, COSTS, COSTS, LIMIT, None, ObjectiveSettings())


def score_of(encoding: Sequence[int]) -> float:
    """Return the score of a placement of :func:`small_problem`: that of its layers added."""
    return 0.5 + sum(gains[choice] for gains, choice in zip(GAINS, encoding, strict=True))


def check_searcher(
    make: Callable[[], Searcher], *, seeds: tuple[int, int] = (1, 2), ends_early: bool = False
) -> None:
    """Check that a searcher keeps to limits and budget, repeats itself, and finds something.

    Args:
        make: makes the searcher.
        seeds: two seeds.
        ends_early: whether it may end before the budget is spent or everything is evaluated.

    Raises:
        AssertionError: names the promise that is not kept.
    """
    searcher, problem = make(), small_problem()
    promise(bool(searcher.name), searcher, "name is a short text")
    promise(is_dataclass(searcher), searcher, "is a dataclass, whose fields are its settings")
    every = list(problem.encodings())
    courses = {}
    for budget in (1, 5, 12, 16):
        found = _search(make, problem, budget, seeds[0])
        promise(found.over == 0, searcher, "asks for nothing over the limits")
        promise(len(found.rows) <= budget, searcher, "keeps to the budget")
        promise(bool(found.rows), searcher, "asks for a placement")
        promise(
            len(found.rows) == budget or ends_early,
            searcher,
            f"spends the budget of {budget}; give ends_early=True where it is to end by itself",
        )
        courses[budget] = found.rows
    _search(make, problem, 16, seeds[1])
    for budget, rows in courses.items():
        again = _search(make, problem, budget, seeds[0], seconds=9.0, cached=True).rows
        promise(rows == again, searcher, "the same seed gives the same search")
        promise(
            courses[16][: len(rows)] == rows,
            searcher,
            f"a larger budget begins with the smaller one (of {budget})",
        )
    for stop in (3, 11):
        _check_resumed(make, problem, seeds[0], stop, courses[16])
    whole = _search(make, problem, 10 * len(every), seeds[1]).rows
    promise(
        set(whole) == set(every) or ends_early,
        searcher,
        "a large budget evaluates all placements, and ends; give ends_early=True where it need not",
    )


def _check_resumed(
    make: Callable[[], Searcher],
    problem: PlacementProblem,
    seed: int,
    stop: int,
    wanted: list[Encoding],
) -> None:
    """Check that a search that was killed after some evaluations resumes."""
    with TemporaryDirectory() as folder:
        trace = Path(folder) / "search.jsonl"
        with suppress(_Killed):
            _search(make, problem, 16, seed, trace=trace, stop=stop)
        resumed = _search(make, problem, 16, seed, trace=trace)
        stop = min(stop, len(wanted))
        promise(
            resumed.rows == wanted and resumed.replayed == stop,
            make(),
            f"resumes as if it had not been killed (after {stop} evaluations)",
        )


class _Killed(BaseException):
    """The end of a process."""


class _Watched(Evaluations):
    """Evaluations that count what is asked for over the limits."""

    over = 0

    def many(self, encodings: Iterable[Sequence[int]]) -> list[float | None]:
        """Return the rewards."""
        asked = [tuple(encoding) for encoding in encodings]
        self.over += sum(not self.problem.fits(self._checked(encoding)) for encoding in asked)
        return super().many(asked)


@dataclass(frozen=True)
class _Course:
    """A search: what it evaluated, and how often it asked for something over the limits."""

    rows: list[Encoding]
    over: int
    replayed: int


def _search(
    make: Callable[[], Searcher],
    problem: PlacementProblem,
    budget: int,
    seed: int,
    *,
    trace: Path | None = None,
    stop: int | None = None,
    seconds: float = 0.0,
    cached: bool = False,
) -> _Course:
    measured = 0

    def measure(placements: Sequence[Placement]) -> Iterator[tuple[Evaluation, bool]]:
        nonlocal measured
        for placement in placements:
            if measured == stop:
                raise _Killed
            measured += 1
            yield Evaluation((score_of(problem.encode(placement)),), seconds), cached

    rng = np.random.default_rng(seed)
    with one_source_of_chance(make(), rng):
        searcher = make()
    evaluations = _Watched(problem, measure, budget, trace, gains=lambda _: GAINS)
    sentence = "asks for encodings of the problem until the budget is spent"
    with (
        one_source_of_chance(searcher, rng),
        promised(searcher, sentence),
        suppress(BudgetSpent),
    ):
        searcher.search(problem, evaluations, rng, SearchContext())
    rows = [tuple(row.encoding) for row in evaluations.rows]
    return _Course(rows, evaluations.over, evaluations.replayed)
