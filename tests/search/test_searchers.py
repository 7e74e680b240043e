"""Searchers: what each finds within a budget, and the manners that all of them share."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cnet_aihw.compensation import Placement
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import read_records
from cnet_aihw.search import (
    BudgetSpent,
    Encoding,
    Evaluation,
    Evaluations,
    ObjectiveSettings,
    SearchContext,
)
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
    "tpe in batches": lambda: TPESearcher(batch=3),
}
every_searcher = pytest.mark.parametrize("make", SEARCHERS.values(), ids=SEARCHERS)


class Watched(Evaluations):
    """Evaluations of a synthetic problem that remember all that is asked for."""

    def __init__(self, synthetic: Synthetic, budget: int, trace: Path | None = None) -> None:
        def measure(placements: Sequence[Placement]) -> Iterator[tuple[Evaluation, bool]]:
            for placement in placements:
                yield Evaluation(synthetic.evaluate(placement), 0.0), False

        super().__init__(synthetic.problem, measure, budget, trace)
        self.asked: list[Encoding] = []

    def many(self, encodings: Iterable[Sequence[int]]) -> list[float | None]:
        encodings = [tuple(encoding) for encoding in encodings]
        self.asked += encodings
        return super().many(encodings)


def search(
    make: Callable[[], Searcher],
    synthetic: Synthetic,
    budget: int,
    seed: int = 0,
    trace: Path | None = None,
) -> Watched:
    evaluations = Watched(synthetic, budget, trace)
    with suppress(BudgetSpent):
        make().search(synthetic.problem, evaluations, np.random.default_rng(seed), SearchContext())
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
    assert len(judge.rows) == sum(1 for _ in synthetic.problem.encodings())
    assert found.best.reward > judge.best.reward - 0.01


@every_searcher
def test_what_was_evaluated_first_is_not_drawn_in_place_of_something_new(
    make: Callable[[], Searcher],
) -> None:
    synthetic = Synthetic(SMALL, 0.15)
    everything = list(synthetic.problem.encodings())
    evaluations = Watched(synthetic, len(everything))
    evaluations(everything[-1])
    with suppress(BudgetSpent):
        make().search(synthetic.problem, evaluations, np.random.default_rng(0), SearchContext())
    assert sorted(row.encoding for row in evaluations.rows) == everything


@every_searcher
def test_choices_that_repeat_others_are_not_evaluated_again(
    make: Callable[[], Searcher],
) -> None:
    synthetic = Synthetic(SMALL, 0.15)
    synthetic.problem = replace(synthetic.problem, repeats=((2,), (), (3, 4)))
    everything = list(synthetic.problem.encodings())
    found = search(make, synthetic, 10 * len(everything))
    assert sorted(row.encoding for row in found.rows) == everything


@pytest.mark.parametrize(("name", "budget"), [("surrogate", 60), ("coordinate", 200)])
def test_better_than_random_on_many_rugged_layers(name: str, budget: int) -> None:
    """13 layers that act on each other: random search with 200 evaluations is far behind."""
    synthetic = Synthetic(VGG16, 0.05, rugged=0.04, noise=0.01)
    random = search(RandomSearcher, synthetic, 200)
    found = search(SEARCHERS[name], synthetic, budget)
    assert random.best and found.best
    assert synthetic.reward(found.best.encoding) > synthetic.reward(random.best.encoding) + 0.05


@every_searcher
@pytest.mark.parametrize(("layers", "limit"), [(SMALL, 0.15), (SMALL[:1], 1.0)])
def test_every_plan_is_evaluated_once_where_the_budget_is_large_enough(
    make: Callable[[], Searcher], layers: list[tuple[int, int, int]], limit: float
) -> None:
    synthetic = Synthetic(layers, limit, rugged=0.05)
    encodings = list(synthetic.problem.encodings())
    assert len(encodings) == 5 or 20 < len(encodings) < 125
    found = search(make, synthetic, budget=1000)
    assert sorted(row.encoding for row in found.rows) == encodings
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
    first, again, other = (search(make, synthetic, 60, seed).rows for seed in (1, 1, 2))
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
    with pytest.raises(CnetError) as error:
        search(ExhaustiveSearcher, synthetic, budget=500)
    assert (error.value.key, error.value.value) == ("budget", 500)
    assert synthetic.evaluated == []


def test_an_exhaustive_search_goes_in_lexicographic_order() -> None:
    found = search(ExhaustiveSearcher, Synthetic(SMALL, 0.15), budget=1000)
    encodings = [row.encoding for row in found.rows]
    assert encodings == sorted(encodings)
    assert encodings[0] == (0, 0, 0)


def test_coordinate_search_tries_the_most_sensitive_layer_first() -> None:
    synthetic = Synthetic(FIVE, 0.15, seed=4)
    sensitivities = [layer.sensitivity for layer in synthetic.problem.layers]
    most = sensitivities.index(max(sensitivities))
    found = search(CoordinateSearcher, synthetic, budget=4)
    changed = {layer for row in found.rows for layer, choice in enumerate(row.encoding) if choice}
    assert changed == {most}


@pytest.mark.parametrize("make", [TPESearcher, EvolutionSearcher])
def test_without_optuna_the_extra_is_named(
    make: Callable[[], Searcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(CnetError) as error:
        make()
    assert error.value.fix == "pip install 'cnet_aihw[optuna]'"


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: EvolutionSearcher(population=1), "evolution.population"),
        (lambda: EvolutionSearcher(children=0), "evolution.children"),
        (lambda: EvolutionSearcher(crossover=1.5), "evolution.crossover"),
        (lambda: SurrogateSearcher(batch=0), "surrogate.batch"),
        (lambda: SurrogateSearcher(exploration=-1.0), "surrogate.exploration"),
        (lambda: TPESearcher(initial=0), "tpe.initial"),
    ],
)
def test_settings_that_cannot_be_are_refused(make: Callable[[], Searcher], key: str) -> None:
    with pytest.raises(CnetError) as error:
        make()
    assert error.value.key == key


@pytest.mark.parametrize("name", ["greedy", "coordinate", "evolution", "surrogate"])
def test_the_cheapest_placement_that_reaches_a_score_is_found(name: str) -> None:
    synthetic = Synthetic(FIVE, 0.15)
    objective = ObjectiveSettings(direction="cheapest", drop=0.2)
    reference = max(map(synthetic.accuracy, synthetic.problem.encodings()))
    problem = replace(synthetic.problem, objective=objective, reference=reference)
    wanted = [e for e in problem.encodings() if synthetic.accuracy(e) >= 0.8 * reference]
    least = min(map(problem.overhead_weights, wanted))
    synthetic.problem = problem
    found = search(SEARCHERS[name], synthetic, 150).best
    assert synthetic.accuracy(found.encoding) >= 0.8 * reference
    assert found.overhead_weights <= 1.5 * least
