"""Evaluations of a search: what is counted, what is written, and how a search is resumed."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnet_aihw.compensation import Placement
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import append_record, read_records
from cnet_aihw.search import BudgetSpent, Encoding, Evaluation, Evaluations, TraceRow
from cnet_aihw.search.budgeted import PATIENCE

from .synthetic import SMALL, placement_problem

PROBLEM = placement_problem(SMALL, limit=0.2)
ENCODINGS = list(PROBLEM.encodings())
TOO_MUCH: Encoding = (0, 0, 4)
A, B, C, D = ENCODINGS[1:5]
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


def budgeted(budget: int = 10, trace: Path | None = None) -> tuple[Evaluations, Measured]:
    measured = Measured()
    return Evaluations(PROBLEM, measured, budget, trace), measured


def test_the_budget_counts_different_plans_that_fit() -> None:
    evaluations, measured = budgeted(budget=2)
    reward = evaluations(A)
    assert evaluations(A) == reward
    assert evaluations(TOO_MUCH) == -PROBLEM.overhead(TOO_MUCH)
    assert (evaluations.spent, evaluations.left) == (1, 1)
    evaluations(B)
    with pytest.raises(BudgetSpent):
        evaluations(C)
    assert evaluations(A) == reward
    assert evaluations(TOO_MUCH) < 0
    assert measured.placements == [PROBLEM.placement(A), PROBLEM.placement(B)]


def test_no_compensation_is_an_encoding_like_any_other() -> None:
    evaluations, measured = budgeted()
    assert evaluations((0, 0, 0)) == pytest.approx(0.5 - 0.08 / 3)
    assert measured.placements == [Placement({})]
    assert evaluations.rows[0].placement == {}


def test_a_batch_is_as_if_asked_one_after_the_other(tmp_path: Path) -> None:
    asked = [A, B, TOO_MUCH, A, C, D]
    batch, measured = budgeted(3, tmp_path / "batch.jsonl")
    single, _ = budgeted(3, tmp_path / "single.jsonl")
    rewards = batch.many(asked)
    assert measured.batches == [[PROBLEM.placement(encoding) for encoding in (A, B, C)]]
    assert rewards[:5] == [single(encoding) for encoding in asked[:5]]
    assert rewards[5] is None
    with pytest.raises(BudgetSpent):
        single(D)
    assert read_records(tmp_path / "batch.jsonl") == read_records(tmp_path / "single.jsonl")


def test_a_line_of_the_trace_tells_all_of_an_evaluation(tmp_path: Path) -> None:
    evaluations, _ = budgeted(trace=tmp_path / "search.jsonl")
    evaluations.many([ENCODINGS[-1], (0, 0, 0)])
    first, second = read_records(tmp_path / "search.jsonl")
    encoding = ENCODINGS[-1]
    ratios = {f"layer{i}": PROBLEM.choices[choice] for i, choice in enumerate(encoding) if choice}
    accuracy = 0.5 + 0.1 * sum(map(float, ratios.values()))
    chips = np.array([accuracy, accuracy - 0.1, accuracy + 0.02])
    assert first == {
        "evaluation": 1,
        "placement": ratios,
        "encoding": list(encoding),
        "reward": pytest.approx(chips.mean() - PROBLEM.overhead(encoding)),
        "score": pytest.approx(chips.mean()),
        "std": pytest.approx(chips.std(ddof=1)),
        "q05": pytest.approx(np.quantile(chips, 0.05)),
        "overhead_weights": PROBLEM.overhead(encoding),
        "overhead_macs": PROBLEM.overhead(encoding),
        "best_reward": first["reward"],
        "cached": False,
        "seconds": 2.0,
    }
    assert (second["evaluation"], second["placement"]) == (2, {})
    assert second["best_reward"] == max(first["reward"], second["reward"])
    assert [row.as_record() for row in evaluations.rows] == [first, second]
    assert evaluations.best == max(evaluations.rows, key=lambda row: row.reward)


def test_the_bad_end_of_errors_is_the_upper_one() -> None:
    problem = replace(PROBLEM, higher_is_better=False, reference=1.0)
    evaluations = Evaluations(problem, Measured(), 1)
    evaluations(A)
    (row,) = evaluations.rows
    middle = row.score + 0.08 / 3  # of three chips; the others are 0.1 below and 0.02 above it
    assert row.q05 == pytest.approx(middle + 0.9 * 0.02)


def test_of_equals_the_first_is_the_best() -> None:
    def measure(placements: Sequence[Placement]) -> list[tuple[Evaluation, bool]]:
        return [
            (Evaluation((PROBLEM.overhead(PROBLEM.encode(p)),), 0.0), False) for p in placements
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


def test_chips_that_failed_are_left_out_of_the_score_and_worth_nothing(tmp_path: Path) -> None:
    def measure(placements: Sequence[Placement]) -> list[tuple[Evaluation, bool]]:
        return [(Evaluation((0.8, None, 0.6), 0.0), False) for _ in placements]

    evaluations = Evaluations(PROBLEM, measure, 3, tmp_path / "search.jsonl")
    evaluations(A)
    (record,) = read_records(tmp_path / "search.jsonl")
    assert record["score"] == pytest.approx(0.7)
    assert record["reward"] == pytest.approx(1.4 / 3 - PROBLEM.overhead(A))


def test_nothing_is_left_where_every_plan_is_evaluated() -> None:
    evaluations, _ = budgeted(budget=len(ENCODINGS) + 100)
    assert evaluations.left == len(ENCODINGS)
    assert None not in evaluations.many(ENCODINGS)
    assert evaluations.left == 0


@pytest.mark.parametrize("asked", [[A], [TOO_MUCH], []])
def test_a_searcher_that_asks_for_nothing_new_is_stopped(asked: list[Encoding]) -> None:
    evaluations, _ = budgeted()
    evaluations(A)
    with pytest.raises(BudgetSpent):
        for _ in range(PATIENCE + 1):
            evaluations.many(asked)


@pytest.mark.parametrize(
    "encoding",
    [(0, 0), (0, 0, 0, 0), (0, 0, 5), (0, -1, 0), (0.0, 0.5, 1.0), {"layer0": 0.5}, 3],
)
def test_an_impossible_encoding_is_refused(encoding: Any) -> None:
    with pytest.raises(CnetError) as error:
        budgeted()[0](encoding)
    assert (error.value.key, error.value.value) == ("encoding", encoding)


def test_a_budget_below_one_is_refused() -> None:
    with pytest.raises(CnetError) as error:
        budgeted(budget=0)
    assert error.value.key == "budget"


def test_what_stands_in_the_trace_is_not_measured_again(tmp_path: Path) -> None:
    trace = tmp_path / "search.jsonl"
    budgeted(trace=trace)[0].many([A, B, C])
    before = trace.read_bytes()
    again, measured = budgeted(trace=trace)
    assert again(A) == read_records(trace)[0]["reward"]
    again.many([B, C])
    assert (measured.batches, again.replayed, trace.read_bytes()) == ([], 3, before)
    again(D)
    assert measured.placements == [PROBLEM.placement(D)]
    assert trace.read_bytes().startswith(before)
    assert [row["evaluation"] for row in read_records(trace)] == [1, 2, 3, 4]


def test_where_another_plan_is_asked_for_the_trace_is_cut(tmp_path: Path) -> None:
    trace = tmp_path / "search.jsonl"
    budgeted(trace=trace)[0].many([A, B, C])
    first = read_records(trace)[0]
    again, measured = budgeted(trace=trace)
    again.many([A, D, B])
    assert measured.batches == [[PROBLEM.placement(D), PROBLEM.placement(B)]]
    assert read_records(trace)[0] == first
    assert [tuple(row["encoding"]) for row in read_records(trace)] == [A, D, B]
    assert again.replayed == 1


def test_what_a_search_does_not_ask_for_again_is_cut_at_its_end(tmp_path: Path) -> None:
    trace = tmp_path / "search.jsonl"
    budgeted(trace=trace)[0].many([A, B, C])
    again, _ = budgeted(trace=trace)
    again.many([A, B])
    assert len(read_records(trace)) == 3
    again.finish()
    assert [tuple(row["encoding"]) for row in read_records(trace)] == [A, B]


def test_a_torn_last_line_is_evaluated_again(tmp_path: Path) -> None:
    trace = tmp_path / "search.jsonl"
    budgeted(trace=trace)[0].many([A, B])
    whole = trace.read_bytes()
    trace.write_bytes(whole[:-20])
    again, measured = budgeted(trace=trace)
    again.many([A, B])
    assert measured.placements == [PROBLEM.placement(B)]
    assert trace.read_bytes() == whole


def test_a_trace_of_something_else_is_refused(tmp_path: Path) -> None:
    append_record(tmp_path / "search.jsonl", {"epoch": 3})
    with pytest.raises(CnetError) as error:
        budgeted(trace=tmp_path / "search.jsonl")
    assert error.value.key == str(tmp_path / "search.jsonl")


def test_a_searcher_with_a_state_of_its_own_takes_over_the_first_lines(tmp_path: Path) -> None:
    trace = tmp_path / "search.jsonl"
    budgeted(trace=trace)[0].many([A, B, C])
    again, measured = budgeted(trace=trace)
    again.replay(2)
    assert [row.encoding for row in again.rows] == [A, B]
    assert A in again and C not in again
    again(C)
    assert measured.batches == []
    with pytest.raises(CnetError) as error:
        again.replay(4)
    assert (error.value.value, error.value.expected) == (3, 4)


def test_everything_is_reported_to_observers_in_order(tmp_path: Path) -> None:
    class Watching:
        def __init__(self) -> None:
            self.seen: list[object] = []

        def evaluated(self, row: TraceRow, evaluations: Evaluations) -> None:
            assert evaluations.rows[-1] == row
            self.seen.append((row.encoding, evaluations.best))

        def scalars(self, step: int, values: dict[str, float]) -> None:
            self.seen.append((step, values))

        def close(self) -> None:
            self.seen.append("closed")

    watching = Watching()
    evaluations = Evaluations(PROBLEM, Measured(), 5, tmp_path / "search.jsonl", [watching])
    evaluations.many([A, TOO_MUCH, B])
    evaluations.scalars({"entropy": 0.7})
    evaluations.close()
    encodings, scalars, closed = watching.seen[:2], watching.seen[2], watching.seen[3]
    assert [encoding for encoding, _ in encodings] == [A, B]
    assert encodings[1][1] == evaluations.best
    assert (scalars, closed) == ((2, {"entropy": 0.7}), "closed")
