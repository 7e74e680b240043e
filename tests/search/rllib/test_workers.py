"""Workers: the same values as in one process, once each, whatever becomes of a worker."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Lock

import pytest

from cnet_aihw.compensation import Placement
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.search import EvaluationStore
from cnet_aihw.search.rllib import EvaluationWorkers

from .conftest import SETTINGS
from .evaluators import Logged

PLACEMENTS = [Placement({f"layer{i}": i / 8}) for i in range(6)]
TWO = replace(SETTINGS, workers=2, cpus_per_worker=1.0)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("session")]


def values(results: object) -> list[tuple[tuple[float, ...], bool]]:
    return [(value.scores, known) for value, known in results]  # type: ignore[attr-defined]


def wait_until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_values_come_in_order_and_each_placement_is_evaluated_once(tmp_path: Path) -> None:
    evaluator = Logged(tmp_path / "log", 0.1)
    store = EvaluationStore(tmp_path / "store", evaluator.key())
    store.measure(PLACEMENTS[4], evaluator)
    asked = [*PLACEMENTS, PLACEMENTS[0]]
    with EvaluationWorkers(evaluator, store, TWO, "order") as workers:
        pids = workers.pids
        first = values(workers.measure(asked))
        again = values(workers.measure(asked))
    assert [v for v, _ in first] == [Logged(tmp_path / "other").evaluate(p) for p in asked]
    assert [known for _, known in first[:6]] == [False] * 4 + [True, False]
    assert all(known for _, known in again)
    begun = evaluator.lines()
    assert sorted(layers for _, layers in begun) == sorted(",".join(p) for p in PLACEMENTS)
    assert {pid for pid, _ in begun} == {*pids, os.getpid()}
    assert len(store) == len(PLACEMENTS)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists() and not gone(pid)]


def gone(pid: int) -> bool:
    wait_until(lambda: not Path(f"/proc/{pid}").exists())
    return True


def test_a_worker_killed_in_the_middle_costs_only_that_evaluation(tmp_path: Path) -> None:
    evaluator = Logged(tmp_path / "log", 0.4)
    store = EvaluationStore(tmp_path / "store", evaluator.key())
    with EvaluationWorkers(evaluator, store, TWO, "killed") as workers:
        results = workers.measure(PLACEMENTS)
        first = next(results)
        done = len(store)
        wait_until(lambda: len(evaluator.lines()) > done + 1)
        victim, layers = evaluator.lines()[-1]
        os.kill(victim, signal.SIGKILL)
        measured = values([first, *results])
    assert measured == [(Logged(tmp_path / "other").evaluate(p), False) for p in PLACEMENTS]
    begun = [layers for _, layers in evaluator.lines()]
    assert begun.count(layers) == 2 and len(begun) == len(PLACEMENTS) + 1
    assert len(store) == len(PLACEMENTS)


def test_a_placement_that_kills_every_worker_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnet_aihw.cluster.workers.RETRIES", 1)
    evaluator = Logged(tmp_path / "log", deadly="layer2")
    store = EvaluationStore(tmp_path / "store", evaluator.key())
    settings = replace(TWO, workers=1)
    with EvaluationWorkers(evaluator, store, settings, "deadly") as workers:
        with pytest.raises(CnetError) as error:
            list(workers.measure(PLACEMENTS[:3]))
        assert (error.value.key, error.value.value) == ("ray.workers", PLACEMENTS[2])
        assert len(list(workers.measure(PLACEMENTS[:2]))) == 2


def test_what_the_evaluator_refuses_is_said_as_it_says_it(tmp_path: Path) -> None:
    evaluator = Logged(tmp_path / "log", refused="layer1")
    store = EvaluationStore(tmp_path / "store", evaluator.key())
    settings = replace(TWO, workers=1)
    with (
        EvaluationWorkers(evaluator, store, settings, "refused") as workers,
        pytest.raises(CnetError, match=r"^the network has no layer 'layer1'.$"),
    ):
        list(workers.measure(PLACEMENTS))


def test_workers_that_do_not_start_end_the_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnet_aihw.cluster.workers._START_SECONDS", {True: 3.0})
    monkeypatch.setattr("cnet_aihw.cluster.workers._LOOK", 1.0)
    monkeypatch.setattr("cnet_aihw.cluster.workers.check_gpus", lambda wanted: None)
    evaluator = Logged(tmp_path / "log")
    store = EvaluationStore(tmp_path / "store", evaluator.key())
    settings = replace(TWO, workers=1, gpus_per_worker=1.0)  # of which there is none
    with (
        pytest.raises(CnetError) as error,
        EvaluationWorkers(evaluator, store, settings, "never"),
    ):
        pass
    assert error.value.key == "ray.workers"
    assert evaluator.lines() == []


def test_workers_that_do_not_come_back_end_the_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where Ray's memory monitor ends each new one: the state of the actors is not ALIVE."""
    monkeypatch.setattr("cnet_aihw.cluster.workers._LOST_SECONDS", 2.0)
    monkeypatch.setattr("cnet_aihw.cluster.workers._LOOK", 0.5)
    monkeypatch.setattr("ray._private.state.actors", lambda name: {"State": "RESTARTING"})
    evaluator = Logged(tmp_path / "log", 60.0)
    store = EvaluationStore(tmp_path / "store", evaluator.key())
    with (
        EvaluationWorkers(evaluator, store, replace(TWO, workers=1), "lost") as workers,
        pytest.raises(CnetError) as error,
    ):
        list(workers.measure(PLACEMENTS[:1]))
    assert error.value.key == "ray.workers"
    assert "memory" in str(error.value)


class Unpicklable(Logged):
    def __init__(self, log: Path) -> None:
        super().__init__(log)
        self.lock = Lock()


class OnCuda(Logged):
    device = "cuda:1"


@pytest.mark.parametrize(
    ("make", "settings", "key"),
    [
        (Unpicklable, TWO, "evaluator"),
        (OnCuda, TWO, "ray.gpus_per_worker"),
        (Logged, replace(TWO, workers=3), "ray.num_cpus"),
        (Logged, replace(TWO, gpus_per_worker=1.0), "ray.gpus_per_worker"),
        (Logged, replace(TWO, address="127.0.0.1:1", num_cpus=None), "ray.address"),
    ],
)
def test_what_cannot_work_is_said_before_any_evaluation(
    tmp_path: Path, make: Callable[[Path], Logged], settings: object, key: str
) -> None:
    evaluator = make(tmp_path / "log")
    store = EvaluationStore(tmp_path / "store", evaluator.key())
    with (
        pytest.raises(CnetError) as error,
        EvaluationWorkers(evaluator, store, settings, "x"),  # type: ignore[arg-type]
    ):
        pass
    assert error.value.key == key
    assert evaluator.lines() == []
