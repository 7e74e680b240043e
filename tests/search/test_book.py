"""The book of a search: what is counted, what is written, and how an earlier start is taken up."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from cnet_aihw.compensation import Placement
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import append_record, read_records
from cnet_aihw.search import BudgetSpent, Evaluation, Evaluations, Plan, TraceRow
from cnet_aihw.search.budgeted import PATIENCE

from .synthetic import SMALL, placement_problem

PROBLEM = placement_problem(SMALL, limit=0.2)
PLANS = list(PROBLEM.plans())
TOO_MUCH: Plan = (0, 0, 4)
A, B, C, D = PLANS[1:5]
assert not PROBLEM.fits(TOO_MUCH)


class Measured:
    """Values of placements; remembers what it was asked for."""

    def __init__(self) -> None:
        self.batches: list[list[Placement]] = []

    def __call__(self, placements: Sequence[Placement]) -> Iterator[tuple[Evaluation, bool]]:
        self.batches.append(list(placements))
        for placement in placements:
            accuracy = 0.5 + 0.1 * sum(map(float, placement.values()))
            yield Evaluation((accuracy, accuracy - 0.1, accuracy + 0.02), 2.0), False

    @property
    def placements(self) -> list[Placement]:
        return [placement for batch in self.batches for placement in batch]


def book(budget: int = 10, trace: Path | None = None) -> tuple[Evaluations, Measured]:
    measured = Measured()
    return Evaluations(PROBLEM, measured, budget, trace), measured


def test_the_budget_counts_different_plans_that_fit() -> None:
    evaluations, measured = book(budget=2)
    reward = evaluations(A)
    assert evaluations(A) == reward
    assert evaluations(TOO_MUCH) == -PROBLEM.overhead(TOO_MUCH)
    assert (evaluations.spent, evaluations.left) == (1, 1)
    evaluations(B)
    with pytest.raises(BudgetSpent, match="all 2 evaluations"):
        evaluations(C)
    assert evaluations(A) == reward
    assert evaluations(TOO_MUCH) < 0
    assert measured.placements == [PROBLEM.placement(A), PROBLEM.placement(B)]


def test_no_compensation_is_a_plan_like_any_other() -> None:
    evaluations, measured = book()
    assert evaluations((0, 0, 0)) == pytest.approx(0.5 - 0.08 / 3)
    assert measured.placements == [Placement({})]
    assert evaluations.rows[0].placement == {}


def test_a_batch_is_as_if_asked_one_after_the_other(tmp_path: Path) -> None:
    asked = [A, B, TOO_MUCH, A, C, D]
    batch, measured = book(3, tmp_path / "batch.jsonl")
    single, _ = book(3, tmp_path / "single.jsonl")
    rewards = batch.many(asked)
    assert measured.batches == [[PROBLEM.placement(plan) for plan in (A, B, C)]]
    assert rewards[:5] == [single(plan) for plan in asked[:5]]
    assert rewards[5] is None
    with pytest.raises(BudgetSpent):
        single(D)
    assert read_records(tmp_path / "batch.jsonl") == read_records(tmp_path / "single.jsonl")


def test_a_line_of_the_trace_tells_all_of_an_evaluation(tmp_path: Path) -> None:
    evaluations, _ = book(trace=tmp_path / "search.jsonl")
    evaluations.many([PLANS[-1], (0, 0, 0)])
    first, second = read_records(tmp_path / "search.jsonl")
    plan = PLANS[-1]
    ratios = {f"layer{i}": PROBLEM.choices[choice] for i, choice in enumerate(plan) if choice}
    accuracy = 0.5 + 0.1 * sum(map(float, ratios.values()))
    chips = np.array([accuracy, accuracy - 0.1, accuracy + 0.02])
    assert first == {
        "evaluation": 1,
        "placement": ratios,
        "plan": list(plan),
        "reward": pytest.approx(chips.mean() - PROBLEM.overhead(plan)),
        "accuracy": pytest.approx(chips.mean()),
        "std": pytest.approx(chips.std(ddof=1)),
        "q05": pytest.approx(np.quantile(chips, 0.05)),
        "overhead_weights": PROBLEM.overhead(plan),
        "overhead_macs": PROBLEM.overhead(plan),
        "best_reward": first["reward"],
        "cached": False,
        "seconds": 2.0,
    }
    assert (second["evaluation"], second["placement"]) == (2, {})
    assert second["best_reward"] == max(first["reward"], second["reward"])
    assert [row.as_record() for row in evaluations.rows] == [first, second]
    assert evaluations.best == max(evaluations.rows, key=lambda row: row.reward)


def test_of_equals_the_first_is_the_best() -> None:
    def measure(placements: Sequence[Placement]) -> list[tuple[Evaluation, bool]]:
        return [
            (Evaluation((PROBLEM.overhead(PROBLEM.plan_of(p)),), 0.0), False) for p in placements
        ]

    evaluations = Evaluations(PROBLEM, measure, 3)
    evaluations.many([C, A, B])
    assert {row.reward for row in evaluations.rows} == {0.0}
    assert evaluations.best == evaluations.rows[0]


def test_each_line_is_written_as_soon_as_its_value_is_there(tmp_path: Path) -> None:
    trace, seen = tmp_path / "search.jsonl", []

    def measure(placements: Sequence[Placement]) -> Iterator[tuple[Evaluation, bool]]:
        for _ in placements:
            seen.append(len(read_records(trace)))
            yield Evaluation((0.5,), 0.0), False

    Evaluations(PROBLEM, measure, 3, trace).many([A, B, C])
    assert seen == [0, 1, 2]


def test_nothing_is_left_where_every_plan_is_evaluated() -> None:
    evaluations, _ = book(budget=len(PLANS) + 100)
    assert evaluations.left == len(PLANS)
    assert None not in evaluations.many(PLANS)
    assert evaluations.left == 0


@pytest.mark.parametrize("asked", [[A], [TOO_MUCH], []])
def test_a_searcher_that_asks_for_nothing_new_is_stopped(asked: list[Plan]) -> None:
    evaluations, _ = book()
    evaluations(A)
    with pytest.raises(BudgetSpent, match="nothing new"):
        for _ in range(PATIENCE + 1):
            evaluations.many(asked)


@pytest.mark.parametrize("plan", [(0, 0), (0, 0, 0, 0), (0, 0, 5), (0, -1, 0)])
def test_what_is_no_plan_is_refused(plan: Plan) -> None:
    with pytest.raises(CnetError, match="3 choices, each from 0 to 4"):
        book()[0](plan)


def test_a_budget_below_one_is_refused() -> None:
    with pytest.raises(CnetError, match="budget of a search is 0"):
        book(budget=0)


def test_what_stands_in_the_trace_is_not_measured_again(tmp_path: Path) -> None:
    trace = tmp_path / "search.jsonl"
    book(trace=trace)[0].many([A, B, C])
    before = trace.read_bytes()
    again, measured = book(trace=trace)
    assert again(A) == read_records(trace)[0]["reward"]
    again.many([B, C])
    assert (measured.batches, again.replayed, trace.read_bytes()) == ([], 3, before)
    again(D)
    assert measured.placements == [PROBLEM.placement(D)]
    assert trace.read_bytes().startswith(before)
    assert [row["evaluation"] for row in read_records(trace)] == [1, 2, 3, 4]


def test_where_another_plan_is_asked_for_the_trace_is_cut(tmp_path: Path) -> None:
    trace = tmp_path / "search.jsonl"
    book(trace=trace)[0].many([A, B, C])
    first = read_records(trace)[0]
    again, measured = book(trace=trace)
    again.many([A, D, B])
    assert measured.batches == [[PROBLEM.placement(D), PROBLEM.placement(B)]]
    assert read_records(trace)[0] == first
    assert [tuple(row["plan"]) for row in read_records(trace)] == [A, D, B]
    assert again.replayed == 1


def test_what_a_search_does_not_ask_for_again_is_cut_at_its_end(tmp_path: Path) -> None:
    trace = tmp_path / "search.jsonl"
    book(trace=trace)[0].many([A, B, C])
    again, _ = book(trace=trace)
    again.many([A, B])
    assert len(read_records(trace)) == 3
    again.finish()
    assert [tuple(row["plan"]) for row in read_records(trace)] == [A, B]


def test_a_torn_last_line_is_evaluated_again(tmp_path: Path) -> None:
    trace = tmp_path / "search.jsonl"
    book(trace=trace)[0].many([A, B])
    whole = trace.read_bytes()
    trace.write_bytes(whole[:-20])
    again, measured = book(trace=trace)
    again.many([A, B])
    assert measured.placements == [PROBLEM.placement(B)]
    assert trace.read_bytes() == whole


def test_a_trace_of_something_else_is_refused(tmp_path: Path) -> None:
    append_record(tmp_path / "search.jsonl", {"epoch": 3})
    with pytest.raises(CnetError, match="no evaluation of a search"):
        book(trace=tmp_path / "search.jsonl")


def test_a_searcher_with_a_state_of_its_own_takes_over_the_first_lines(tmp_path: Path) -> None:
    trace = tmp_path / "search.jsonl"
    book(trace=trace)[0].many([A, B, C])
    again, measured = book(trace=trace)
    again.replay(2)
    assert [row.plan for row in again.rows] == [A, B]
    assert A in again and C not in again
    again(C)
    assert measured.batches == []
    with pytest.raises(CnetError, match=r"has 3 evaluations .* knows of 4"):
        again.replay(4)


def test_observers_are_told_of_all_in_order(tmp_path: Path) -> None:
    class Watching:
        def __init__(self) -> None:
            self.told: list[object] = []

        def evaluated(self, row: TraceRow, evaluations: Evaluations) -> None:
            assert evaluations.rows[-1] == row
            self.told.append((row.plan, evaluations.best))

        def scalars(self, step: int, values: dict[str, float]) -> None:
            self.told.append((step, values))

        def close(self) -> None:
            self.told.append("closed")

    watching = Watching()
    evaluations = Evaluations(PROBLEM, Measured(), 5, tmp_path / "search.jsonl", [watching])
    evaluations.many([A, TOO_MUCH, B])
    evaluations.scalars({"entropy": 0.7})
    evaluations.close()
    plans, scalars, closed = watching.told[:2], watching.told[2], watching.told[3]
    assert [plan for plan, _ in plans] == [A, B]
    assert plans[1][1] == evaluations.best
    assert (scalars, closed) == ((2, {"entropy": 0.7}), "closed")
