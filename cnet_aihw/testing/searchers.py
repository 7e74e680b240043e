"""The contract of searchers, and a placement problem with a known optimum."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

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
from cnet_aihw.testing.promises import promise

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


def check_searcher(make: Callable[[], Searcher], *, seeds: tuple[int, int] = (1, 2)) -> None:
    """Check that a searcher keeps to limits and budget, repeats itself, and finds something.

    Args:
        make: makes the searcher.
        seeds: two seeds.

    Raises:
        AssertionError: names the promise that is not kept.
    """
    searcher, problem = make(), small_problem()
    promise(bool(searcher.name), searcher, "name is a short text")
    every = list(problem.encodings())
    for budget in (1, 5, 12):
        asked, rows = _search(make, problem, budget, seeds[0])
        promise(all(map(problem.fits, asked)), searcher, "asks for nothing over the limits")
        promise(len(rows) <= budget, searcher, "keeps to the budget")
        promise(len(rows) == budget, searcher, f"spends the budget of {budget}")
        promise(len(set(rows)) == len(rows), searcher, "asks for no placement twice")
        again = _search(make, problem, budget, seeds[0])[1]
        promise(rows == again, searcher, "the same seed gives the same search")
    shorter, longer = (_search(make, problem, n, seeds[0])[1] for n in (8, 16))
    promise(longer[:8] == shorter, searcher, "a larger budget begins with the smaller one")
    whole = _search(make, problem, 10 * len(every), seeds[1])[1]
    promise(set(whole) == set(every), searcher, "a large budget evaluates all placements, and ends")


def _search(
    make: Callable[[], Searcher], problem: PlacementProblem, budget: int, seed: int
) -> tuple[list[Encoding], list[Encoding]]:
    asked: list[Encoding] = []

    def measure(placements: Sequence[Placement]) -> Iterator[tuple[Evaluation, bool]]:
        for placement in placements:
            encoding = tuple(problem.encode(placement))
            asked.append(encoding)
            yield Evaluation((score_of(encoding),), 0.0), False

    evaluations = Evaluations(problem, measure, budget)
    with suppress(BudgetSpent):
        make().search(problem, evaluations, np.random.default_rng(seed), SearchContext())
    return asked, [tuple(row.encoding) for row in evaluations.rows]
