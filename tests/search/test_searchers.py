"""Searchers: what each finds within a budget, and the manners that all of them share."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from cnet_aihw.compensation import Placement
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import read_records
from cnet_aihw.search import BudgetSpent, Evaluation, Evaluations, Plan
from cnet_aihw.search.searchers import (
    CoordinateSearcher,
    EvolutionSearcher,
    ExhaustiveSearcher,
    GreedySearcher,
    RandomSearcher,
    Searcher,
    SurrogateSearcher,
    TPESearcher,
)

from .synthetic import FIVE, SMALL, VGG16, Synthetic

SEARCHERS: dict[str, Callable[[], Searcher]] = {
    "random": RandomSearcher,
    "greedy": GreedySearcher,
    "coordinate": CoordinateSearcher,
    "evolution": EvolutionSearcher,
    "surrogate": SurrogateSearcher,
    "surrogate in batches": lambda: SurrogateSearcher(batch=4),
    "tpe": TPESearcher,
}
every_searcher = pytest.mark.parametrize("make", SEARCHERS.values(), ids=SEARCHERS)


class Watched(Evaluations):
    """Evaluations of a synthetic problem that remember all that is asked for."""

    def __init__(self, synthetic: Synthetic, budget: int, trace: Path | None = None) -> None:
        def measure(placements: Sequence[Placement]) -> Iterator[tuple[Evaluation, bool]]:
            for placement in placements:
                yield Evaluation(synthetic.evaluate(placement), 0.0), False

        super().__init__(synthetic.problem, measure, budget, trace)
        self.asked: list[Plan] = []

    def many(self, plans: Iterable[Sequence[int]]) -> list[float | None]:
        plans = [tuple(plan) for plan in plans]
        self.asked += plans
        return super().many(plans)


def search(
    make: Callable[[], Searcher],
    synthetic: Synthetic,
    budget: int,
    seed: int = 0,
    trace: Path | None = None,
) -> Watched:
    evaluations = Watched(synthetic, budget, trace)
    with suppress(BudgetSpent):
        make().search(synthetic.problem, evaluations, np.random.default_rng(seed), None)
    return evaluations


@pytest.mark.parametrize(
    ("name", "budget"),
    [
        ("coordinate", 60),
        ("surrogate", 40),
        ("surrogate in batches", 60),
        ("greedy", 120),
        ("evolution", 200),
        ("tpe", 120),
    ],
)
@pytest.mark.parametrize("seed", [3, 4])
def test_the_optimum_of_additive_layers_is_found_within_a_budget(
    name: str, budget: int, seed: int
) -> None:
    """5 layers of 5 choices; the judge is the exhaustive search."""
    synthetic = Synthetic(FIVE, 0.15, seed)
    judge = search(ExhaustiveSearcher, synthetic, budget=3125)
    found = search(SEARCHERS[name], synthetic, budget, seed)
    assert judge.best and found.best
    assert len(judge.rows) == sum(1 for _ in synthetic.problem.plans())
    assert found.best.reward > judge.best.reward - 0.01


@pytest.mark.parametrize(("name", "budget"), [("surrogate", 60), ("coordinate", 200)])
def test_better_than_random_on_many_rugged_layers(name: str, budget: int) -> None:
    """13 layers that act on each other: random search with 200 evaluations is far behind."""
    synthetic = Synthetic(VGG16, 0.05, rugged=0.04, noise=0.01)
    random = search(RandomSearcher, synthetic, 200)
    found = search(SEARCHERS[name], synthetic, budget)
    assert random.best and found.best
    assert synthetic.reward(found.best.plan) > synthetic.reward(random.best.plan) + 0.05


@every_searcher
@pytest.mark.parametrize(("layers", "limit"), [(SMALL, 0.15), (SMALL[:1], 1.0)])
def test_every_plan_is_evaluated_once_where_the_budget_is_large_enough(
    make: Callable[[], Searcher], layers: list[tuple[int, int, int]], limit: float
) -> None:
    synthetic = Synthetic(layers, limit, rugged=0.05)
    plans = list(synthetic.problem.plans())
    assert len(plans) == 5 or 20 < len(plans) < 125
    found = search(make, synthetic, budget=1000)
    assert sorted(row.plan for row in found.rows) == plans
    assert found.best and found.best.reward == pytest.approx(synthetic.best)


@every_searcher
def test_the_budget_is_spent_to_the_last_and_nothing_over_the_limit_is_asked_for(
    make: Callable[[], Searcher],
) -> None:
    synthetic = Synthetic(VGG16, 0.05, rugged=0.04)
    for budget in (1, 7, 30):
        synthetic.evaluated.clear()
        found = search(make, synthetic, budget)
        assert len(found.rows) == len(synthetic.evaluated) == budget
        assert all(map(synthetic.problem.fits, found.asked))


@every_searcher
def test_the_same_seed_gives_the_same_search(make: Callable[[], Searcher]) -> None:
    synthetic = Synthetic(FIVE, 0.15, rugged=0.04, noise=0.01)
    first, again, other = (search(make, synthetic, 120, seed).rows for seed in (1, 1, 2))
    assert first == again
    assert first != other


@every_searcher
def test_a_larger_budget_only_goes_on(make: Callable[[], Searcher]) -> None:
    synthetic = Synthetic(FIVE, 0.15, rugged=0.04, noise=0.01)
    shorter, longer = (search(make, synthetic, budget).rows for budget in (28, 60))
    assert longer[:28] == shorter


class Killed(BaseException):
    """Stands for a kill in the middle of an evaluation."""


@every_searcher
def test_a_killed_search_goes_on_to_the_same_trace(
    make: Callable[[], Searcher], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthetic = Synthetic(FIVE, 0.15, rugged=0.04)
    search(make, synthetic, 40, trace=tmp_path / "whole.jsonl")
    evaluate, left = synthetic.evaluate, 0

    def killed_after_some(placement: Placement) -> tuple[float, ...]:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        return evaluate(placement)

    monkeypatch.setattr(synthetic, "evaluate", killed_after_some)
    kills = 0
    while True:
        left = 11
        try:
            search(make, synthetic, 40, trace=tmp_path / "killed.jsonl")
            break
        except Killed:
            kills += 1
    assert kills > 2
    assert read_records(tmp_path / "killed.jsonl") == read_records(tmp_path / "whole.jsonl")


def test_an_exhaustive_search_that_the_budget_does_not_cover_is_refused_at_once() -> None:
    synthetic = Synthetic(VGG16, 1.0)
    with pytest.raises(CnetError, match="more placements to evaluate than its budget of 500"):
        search(ExhaustiveSearcher, synthetic, budget=500)
    assert synthetic.evaluated == []


def test_an_exhaustive_search_goes_in_lexicographic_order() -> None:
    found = search(ExhaustiveSearcher, Synthetic(SMALL, 0.15), budget=1000)
    plans = [row.plan for row in found.rows]
    assert plans == sorted(plans)
    assert plans[0] == (0, 0, 0)


def test_coordinate_search_tries_the_most_sensitive_layer_first() -> None:
    synthetic = Synthetic(FIVE, 0.15, seed=4)
    sensitivities = [layer.sensitivity for layer in synthetic.problem.layers]
    most = sensitivities.index(max(sensitivities))
    found = search(CoordinateSearcher, synthetic, budget=4)
    changed = {layer for row in found.rows for layer, choice in enumerate(row.plan) if choice}
    assert changed == {most}


def test_tpe_without_optuna_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(CnetError, match=r"cnet_aihw\[tpe\]"):
        TPESearcher()


@pytest.mark.parametrize(
    "make",
    [
        lambda: EvolutionSearcher(population=4, tournament=5),
        lambda: EvolutionSearcher(children=0),
        lambda: EvolutionSearcher(crossover=1.5),
        lambda: SurrogateSearcher(batch=0),
        lambda: SurrogateSearcher(exploration=-1.0),
        lambda: TPESearcher(initial=0),
    ],
)
def test_settings_that_cannot_be_are_refused(make: Callable[[], Searcher]) -> None:
    with pytest.raises(CnetError, match="give"):
        make()
