"""The store of evaluations: each placement once, by any number of processes, whatever dies."""

import json
import math
import multiprocessing
import os
import signal
import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from cnet_aihw.compensation import Placement
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.search import Evaluation, EvaluationStore

FORK = multiprocessing.get_context("fork")
PLACEMENTS = [Placement({"a": i / 16, "b": 0.5}) for i in range(8)]


class Logged:
    """Takes its time for an evaluation, and writes down in a file that it began one."""

    def __init__(self, log: Path, seconds: float = 0.0) -> None:
        self.log, self.seconds = log, seconds

    def key(self) -> str:
        return "0123456789abcdef" * 4

    def describe(self) -> dict:
        return {"evaluator": "logged", "chips": 2}

    def evaluate(self, placement: Placement) -> tuple[float, ...]:
        with open(self.log, "a") as file:
            file.write(placement.to_json() + "\n")
        time.sleep(self.seconds)
        return (0.1 + placement.get("a", 0.0), 1 / 3)

    def begun(self) -> list[dict]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture
def evaluator(tmp_path):
    return Logged(tmp_path / "log")


@pytest.fixture
def store(tmp_path, evaluator):
    return EvaluationStore(tmp_path / "store", evaluator.key())


def reopened(store: EvaluationStore) -> EvaluationStore:
    return EvaluationStore(store.folder, store.key)


def claims(store: EvaluationStore) -> list[tuple]:
    with sqlite3.connect(store.path) as plain:
        return plain.execute("SELECT * FROM claims").fetchall()


def test_a_value_is_evaluated_once_and_read_back_exactly(store, evaluator):
    placement = Placement({"a": 0.3, "b": "digital"})
    assert store.get(placement) is None
    value, known = store.measure(placement, evaluator)
    assert value.scores == (0.1 + 0.3, 1 / 3) and value.seconds >= 0 and not known
    assert store.measure(placement, evaluator) == (value, True)
    assert reopened(store).measure(placement, evaluator) == (value, True)
    assert len(evaluator.begun()) == len(store) == 1


def test_what_is_the_same_placement(store, evaluator):
    value, _ = store.measure(Placement({"a": 0.25, "b": 0.5, "c": 0.0}), evaluator)
    assert store.get(Placement({"b": 0.5, "a": 0.25})) == value
    assert reopened(store).get(Placement({"b": 0.5, "d": 0, "a": 0.25})) == value
    for other in ({"a": 0.25}, {"a": 0.5, "b": 0.25}, {"a": 0.25, "b": "digital"}, {}):
        assert store.get(Placement(other)) is None


def test_the_evaluator_is_described_beside_its_values(store, evaluator):
    store.measure(PLACEMENTS[0], evaluator)
    assert store.description() == evaluator.describe()
    with sqlite3.connect(store.path) as plain:
        rows = plain.execute("SELECT key, placement, scores FROM evaluations").fetchall()
    assert [(k, json.loads(p), json.loads(s)) for k, p, s in rows] == [
        (evaluator.key(), {"b": 0.5}, [0.1, 1 / 3])
    ]


def test_evaluators_share_a_file_and_see_their_own_values_alone(store, evaluator):
    store.measure(PLACEMENTS[0], evaluator)
    other = EvaluationStore(store.folder, "f" * 64)
    assert other.get(PLACEMENTS[0]) is None and len(other) == 0
    assert other.description() is None


def test_values_of_others_are_seen_while_both_are_open(store, evaluator):
    other = reopened(store)
    for placement in PLACEMENTS:
        value, _ = other.measure(placement, evaluator)
        assert store.get(placement) == value


def _measure_all(folder: Path, log: Path, seconds: float, results: Path, backwards: bool) -> None:
    evaluator = Logged(log, seconds)
    store = EvaluationStore(folder, evaluator.key())
    order = PLACEMENTS[::-1] if backwards else PLACEMENTS
    found = [[p.to_json(), store.measure(p, evaluator)[0].as_record()] for p in order]
    results.write_text(json.dumps(sorted(found, key=lambda row: row[0])))


@pytest.mark.parametrize("backwards", [False, True])
def test_processes_that_race_evaluate_each_placement_once(tmp_path, store, evaluator, backwards):
    """In the same order, where they wait for each other each time, and in opposite orders."""
    children = [
        FORK.Process(
            target=_measure_all,
            args=(store.folder, evaluator.log, 0.02, tmp_path / f"{i}.json", backwards and i == 0),
        )
        for i in range(3)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    begun = [json.dumps(placement) for placement in evaluator.begun()]
    assert sorted(begun) == sorted(placement.to_json() for placement in PLACEMENTS)
    assert len({(tmp_path / f"{i}.json").read_text() for i in range(3)}) == 1
    assert claims(store) == []


def _start_one(store: EvaluationStore, evaluator: Logged) -> multiprocessing.Process:
    """A process in the middle of the evaluation of the first placement."""
    slow = Logged(evaluator.log, 600.0)
    child = FORK.Process(target=reopened(store).measure, args=(PLACEMENTS[0], slow))
    child.start()
    deadline = time.monotonic() + 60
    while not evaluator.log.exists() or PLACEMENTS[0] not in map(Placement, evaluator.begun()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return child


def test_a_killed_process_loses_only_what_it_was_at(store, evaluator):
    kept, _ = store.measure(PLACEMENTS[1], evaluator)
    child = _start_one(store, evaluator)
    assert reopened(store).measure(PLACEMENTS[2], evaluator)[1] is False  # others need not wait
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert child.exitcode == -signal.SIGKILL
    later = reopened(store)
    assert later.get(PLACEMENTS[0]) is None
    assert later.measure(PLACEMENTS[0], evaluator)[1] is False
    assert later.get(PLACEMENTS[1]) == kept
    assert len(later) == 3


def test_who_waits_for_a_process_that_is_killed_goes_on(store, evaluator):
    child = _start_one(store, evaluator)
    waiting = FORK.Process(target=reopened(store).measure, args=(PLACEMENTS[0], evaluator))
    waiting.start()
    time.sleep(0.2)
    assert store.get(PLACEMENTS[0]) is None and len(evaluator.begun()) == 1
    os.kill(child.pid, signal.SIGKILL)
    waiting.join(60)
    assert waiting.exitcode == 0
    assert store.get(PLACEMENTS[0]).scores == (0.1, 1 / 3)
    child.join()


def test_an_evaluation_that_fails_leaves_nothing(store, evaluator):
    def fail(placement: Placement) -> tuple[float, ...]:
        raise CnetError("no such layer")

    failing = Logged(evaluator.log)
    failing.evaluate = fail
    with pytest.raises(CnetError, match="no such layer"):
        store.measure(PLACEMENTS[0], failing)
    assert claims(store) == []
    assert store.get(PLACEMENTS[0]) is None
    assert store.measure(PLACEMENTS[0], evaluator)[1] is False


def test_an_evaluator_that_gives_no_chip_leaves_nothing(store, evaluator):
    for scores in ((), (None, None), (0.5, math.nan), (math.inf,)):
        evaluator.evaluate = lambda placement, scores=scores: scores
        with pytest.raises(CnetError) as error:
            store.measure(Placement({}), evaluator)
        assert (error.value.key, error.value.value) == ("scores", scores)
    assert len(store) == 0


@pytest.mark.parametrize("scores", [0.9, None, "0.9", ("0.9",), (True,), {0.1, 0.2}])
def test_scores_that_are_none_are_named(store, evaluator, scores):
    evaluator.evaluate = lambda placement: scores
    with pytest.raises(CnetError) as error:
        store.measure(Placement({}), evaluator)
    assert (error.value.key, error.value.value) == ("scores", scores)
    assert claims(store) == []


@pytest.mark.parametrize(
    "scores",
    [
        [0.5, 0.75],
        np.array([0.5, 0.75]),
        torch.tensor([0.5, 0.75]),
        (np.float32(0.5), torch.tensor(0.75)),
    ],
)
def test_scores_of_numpy_and_torch_are_plain_numbers(store, evaluator, scores):
    evaluator.evaluate = lambda placement: scores
    value, _ = store.measure(Placement({}), evaluator)
    assert value.scores == (0.5, 0.75)
    assert {type(score) for score in value.scores} == {float}
    assert reopened(store).get(Placement({})) == value


def test_chips_that_failed_are_kept_as_such(store, evaluator):
    evaluator.evaluate = lambda placement: (0.5, None)
    value, _ = store.measure(Placement({}), evaluator)
    assert reopened(store).get(Placement({})) == value
    assert value.scores == (0.5, None)


def test_a_claim_belongs_to_one_process_while_it_lives(store, evaluator):
    assert store.claim(PLACEMENTS[0])
    assert not reopened(store).claim(PLACEMENTS[0])
    store.release([PLACEMENTS[0]])
    assert reopened(store).claim(PLACEMENTS[0])
    store.put(PLACEMENTS[0], Evaluation((0.5,), 0.0), evaluator)
    assert not store.claim(PLACEMENTS[0]) and claims(store) == []
    store.put(PLACEMENTS[0], Evaluation((0.9,), 0.0), evaluator)
    assert store.get(PLACEMENTS[0]).scores == (0.5,)


@pytest.mark.parametrize("started", ["0", None])
def test_a_claim_of_another_process_with_the_same_id_lapses(store, started):
    """Ids are used again: a process is known by when it started, too."""
    store.claim(PLACEMENTS[0])
    with sqlite3.connect(store.path) as plain:
        (owner,) = plain.execute("SELECT owner FROM claims").fetchone()
        host, pid, _ = json.loads(owner)
        plain.execute("UPDATE claims SET owner = ?", (json.dumps([host, pid, started]),))
    assert store.claim(PLACEMENTS[0]) is (started is not None)


def test_who_takes_too_long_loses_its_claim(store, evaluator, monkeypatch):
    """As a process that is stopped, or hangs: nobody waits for it for ever."""
    monkeypatch.setattr("cnet_aihw.search.store.CLAIM_SECONDS", 0.1)
    store.claim(PLACEMENTS[0])  # of this process, which is alive
    value, known = reopened(store).measure(PLACEMENTS[0], evaluator)
    assert not known
    assert store.get(PLACEMENTS[0]) == value
    assert claims(store) == []


def test_values_of_another_evaluator_are_refused(tmp_path, evaluator):
    store = EvaluationStore(tmp_path, "f" * 64)
    with pytest.raises(CnetError) as error:
        store.measure(PLACEMENTS[0], evaluator)
    assert error.value.key == "evaluator"
    assert not evaluator.log.exists()


def test_a_damaged_file_is_named(store, evaluator):
    store.folder.mkdir()
    store.path.write_bytes(b"something else" * 100)
    with pytest.raises(CnetError) as error:
        store.get(PLACEMENTS[0])
    assert (error.value.key, error.value.fix) == (str(store.path), "delete it")


def test_a_folder_that_cannot_be_written_to_is_said_before_any_work(tmp_path, evaluator):
    (tmp_path / "file").touch()
    store = EvaluationStore(tmp_path / "file", evaluator.key())
    with pytest.raises(CnetError):
        store.measure(PLACEMENTS[0], evaluator)
    assert not evaluator.log.exists()


def test_looking_up_reads_no_other_row(store, evaluator, monkeypatch):
    """A searcher asks for the same placements again and again, among thousands."""
    asked: list[str] = []
    connect = sqlite3.connect

    def watched(*args, **kwargs):
        connection = connect(*args, **kwargs)
        connection.set_trace_callback(asked.append)
        return connection

    value, _ = store.measure(PLACEMENTS[0], evaluator)
    monkeypatch.setattr(sqlite3, "connect", watched)
    assert reopened(store).get(PLACEMENTS[0]) == value
    monkeypatch.undo()
    looked_up = [text for text in asked if text.startswith("SELECT") and "evaluations" in text]
    with sqlite3.connect(store.path) as plain:
        plans = [plain.execute(f"EXPLAIN QUERY PLAN {text}").fetchall() for text in looked_up]
    assert plans
    assert all("(key=? AND placement=?)" in plan[-1] for (plan,) in plans)  # by an index


def test_evaluations_read_back_as_they_were() -> None:
    value = Evaluation((0.1, 1 / 3, 0.0), 1.5)
    assert Evaluation.from_record(json.loads(json.dumps(value.as_record()))) == value
