"""A search from its beginning to its result: its folder, going on, and what it refuses."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from cnet_aihw.cluster import RaySettings
from cnet_aihw.compensation import Placement
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.locks import alone
from cnet_aihw.runtime.records import append_record, read_json, read_records
from cnet_aihw.search import (
    Evaluations,
    EvaluationStore,
    ObjectiveSettings,
    PlacementProblem,
    SearchResult,
    run_search,
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

from .synthetic import FIVE, SMALL, Synthetic, placement_problem

ROOT = Path(__file__).parents[2]


def synthetic(seed: int = 3) -> Synthetic:
    return Synthetic(FIVE, 0.15, seed, rugged=0.04)


def small() -> Synthetic:
    """24 encodings fit."""
    return Synthetic(SMALL, 0.15, rugged=0.04)


def search(
    folder: Path, s: Synthetic, searcher: Searcher | None = None, **rest: Any
) -> SearchResult:
    arguments = {"budget": 20, "progress": False, **rest}
    return run_search(s.problem, s, searcher or EvolutionSearcher(), folder, **arguments)


def trace(folder: Path) -> list[dict]:
    """The trace without what may differ after a kill: time, and whether the store had the value."""
    return [
        {**row, "seconds": None, "cached": None} for row in read_records(folder / "search.jsonl")
    ]


def test_the_result_is_the_best_of_all_that_was_evaluated(tmp_path: Path) -> None:
    s = small()
    result = search(tmp_path, s, ExhaustiveSearcher(), budget=125)
    encodings = list(s.problem.encodings())
    values = [s.accuracy(encoding) - s.problem.overhead(encoding) for encoding in encodings]
    assert result.encoding == encodings[int(np.argmax(values))]
    assert result.placement == s.problem.placement(result.encoding)
    assert result.reward == pytest.approx(max(values))
    assert result.score == pytest.approx(s.accuracy(result.encoding))
    assert (result.std, result.q05) == (0.0, result.score)
    assert result.overhead_weights == result.overhead_macs == s.problem.overhead(result.encoding)
    assert (result.evaluations, result.cached) == (len(encodings), 0)
    assert len(trace(tmp_path)) == len(s.evaluated) == len(encodings)
    assert SearchResult.from_record(read_json(tmp_path / "search.json")["result"]) == result


@pytest.mark.parametrize(
    ("objective", "value"),
    [
        (ObjectiveSettings(), 0.7),
        (ObjectiveSettings(kind="mean_minus_std", k=2.0), 0.7 - 2 * 0.2),
        (ObjectiveSettings(kind="yield", threshold=0.7), 2 / 3),
    ],
)
def test_the_objective_over_chips_is_what_counts(
    tmp_path: Path, objective: ObjectiveSettings, value: float
) -> None:
    class Chips(Synthetic):
        def evaluate(self, placement: Placement) -> tuple[float, ...]:
            return (0.5, 0.7, 0.9)

    problem = placement_problem(SMALL, 0.15, objective=objective)
    chips = Chips(SMALL, 0.15)
    result = run_search(problem, chips, RandomSearcher(), tmp_path, budget=5, progress=False)
    assert result.reward == pytest.approx(value - problem.overhead(result.encoding))
    assert (result.score, result.std) == (pytest.approx(0.7), pytest.approx(0.2))


def test_a_search_that_is_done_is_only_read(tmp_path: Path) -> None:
    first = search(tmp_path, synthetic())
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    s = synthetic()
    assert search(tmp_path, s) == first
    assert s.evaluated == []
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == files


def test_a_larger_budget_goes_on_where_the_search_stood(tmp_path: Path) -> None:
    search(tmp_path / "a", synthetic(), budget=20)
    s = synthetic()
    result = search(tmp_path / "a", s, budget=30)
    assert (len(s.evaluated), result.evaluations) == (10, 30)
    search(tmp_path / "b", synthetic(), budget=30)
    assert trace(tmp_path / "a") == trace(tmp_path / "b")
    with pytest.raises(CnetError) as error:
        search(tmp_path / "a", synthetic(), budget=20)
    assert (error.value.key, error.value.value) == ("budget", 20)


def test_a_result_stays_while_a_larger_budget_is_searched(tmp_path: Path) -> None:
    first = search(tmp_path, synthetic(), budget=5)
    stopping = synthetic()
    stopping.evaluate = interrupt  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path, stopping, budget=20)
    assert search(tmp_path, synthetic(), budget=5) == first
    assert search(tmp_path, synthetic(), budget=20).evaluations == 20


def interrupt(placement: Placement) -> tuple[float, ...]:
    raise KeyboardInterrupt


def test_searches_share_their_evaluations_at_equal_budget(tmp_path: Path) -> None:
    """An evaluation in the store is not made again, and counts all the same."""
    store = tmp_path / "store"
    search(tmp_path / "a", small(), ExhaustiveSearcher(), budget=125, store=store)
    s = small()
    result = search(tmp_path / "b", s, store=store)
    assert s.evaluated == []
    assert (result.evaluations, result.cached, result.seconds) == (20, 20, 0.0)
    search(tmp_path / "c", small())
    assert trace(tmp_path / "b") == trace(tmp_path / "c")


@dataclass
class Interrupting(Synthetic):
    """A Ctrl-C comes in the evaluation after some."""

    after: int = 7

    def evaluate(self, placement: Placement) -> tuple[float, ...]:
        if len(self.evaluated) == self.after:
            raise KeyboardInterrupt
        return super().evaluate(placement)


def test_after_ctrl_c_the_search_goes_on(tmp_path: Path) -> None:
    s = synthetic()
    interrupted = Interrupting(s.layers, s.limit, s.seed, s.rugged)
    with pytest.raises(KeyboardInterrupt, match="after 7 of 20 evaluations") as caught:
        search(tmp_path / "a", interrupted)
    assert str(tmp_path / "a") in str(caught.value)
    assert len(trace(tmp_path / "a")) == 7
    assert len(EvaluationStore(tmp_path / "a" / "evaluations", s.key())) == 7
    result = search(tmp_path / "a", s)
    assert len(s.evaluated) == 13
    assert result == replace(search(tmp_path / "b", synthetic()), seconds=result.seconds)
    assert trace(tmp_path / "a") == trace(tmp_path / "b")


def test_without_the_store_the_trace_is_enough_to_go_on(tmp_path: Path) -> None:
    s = synthetic()
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path, Interrupting(s.layers, s.limit, s.seed, s.rugged), store=tmp_path / "x")
    search(tmp_path, s, store=tmp_path / "y")
    assert len(s.evaluated) == 13


CHILD = """
import sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.search.test_run import SEARCHED, search, synthetic
slow = synthetic()
evaluate = slow.evaluate
slow.evaluate = lambda placement: (time.sleep(0.01), evaluate(placement))[1]
search(Path({folder!r}), slow, SEARCHED, budget=150)
"""
SEARCHED = SurrogateSearcher(batch=3)


def test_kill_minus_nine_at_random_moments(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print("moments from seed", seed)  # shown where the test fails
    moments, folder = random.Random(seed), tmp_path / "killed"
    path = folder / "search.jsonl"
    for lines in (1, 25):
        script = CHILD.format(root=str(ROOT), folder=str(folder))
        process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT)
        while not path.exists() or path.read_bytes().count(b"\n") < lines:
            assert process.poll() is None
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert read_json(folder / "search.json")["result"] is None
    s = synthetic()
    search(folder, s, SEARCHED, budget=150)
    assert 0 < len(s.evaluated) <= 125
    search(tmp_path / "whole", synthetic(), SEARCHED, budget=150)
    assert trace(folder) == trace(tmp_path / "whole")


WITHOUT = """
import sys
from pathlib import Path
for name in ("ray", "gymnasium", "hydra", "omegaconf"):
    sys.modules[name] = None
sys.path.insert(0, {root!r})
from tests.search.test_run import ALL, SMALL, Synthetic, search
for number, searcher in enumerate(ALL):
    result = search(Path({folder!r}) / str(number), Synthetic(SMALL, 0.1), searcher, budget=200)
    print(searcher.name, result.evaluations)
"""
ALL = (
    RandomSearcher(),
    GreedySearcher(),
    CoordinateSearcher(),
    EvolutionSearcher(),
    SurrogateSearcher(),
    TPESearcher(),
    ExhaustiveSearcher(),
)


def test_every_searcher_but_those_of_rllib_works_without_ray(tmp_path: Path) -> None:
    script = WITHOUT.format(root=str(ROOT), folder=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names == [searcher.name for searcher in ALL]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, "seed"),
        ({"searcher": EvolutionSearcher(children=2)}, "searcher.children"),
        ({"searcher": RandomSearcher()}, "searcher.name"),
        ({"s": Synthetic(FIVE, 0.1, rugged=0.04)}, "problem.limit"),
        ({"s": synthetic(seed=4)}, "problem.layers"),
    ],
)
def test_a_folder_of_another_search_is_refused(tmp_path: Path, change: dict, named: str) -> None:
    search(tmp_path, synthetic())
    with pytest.raises(CnetError) as error:
        search(tmp_path, **{"s": synthetic(), **change})
    assert error.value.key == named


def test_another_seed_is_another_search(tmp_path: Path) -> None:
    found = []
    for seed in (0, 1):
        search(tmp_path / str(seed), synthetic(), RandomSearcher(), seed=seed)
        found.append(trace(tmp_path / str(seed)))
    assert found[0] != found[1]


def test_a_trace_of_unknown_origin_is_not_overwritten(tmp_path: Path) -> None:
    append_record(tmp_path / "search.jsonl", {"encoding": [1]})
    with pytest.raises(CnetError) as error:
        search(tmp_path, synthetic())
    assert error.value.key == str(tmp_path / "search.jsonl")
    assert read_records(tmp_path / "search.jsonl") == [{"encoding": [1]}]


def test_two_searches_at_once_in_one_folder_are_refused(tmp_path: Path) -> None:
    with (
        alone(tmp_path, "search", "another search"),
        pytest.raises(CnetError),
    ):
        search(tmp_path, synthetic())


@dataclass
class Lazy:
    name: ClassVar[str] = "lazy"

    def search(
        self, problem: PlacementProblem, evaluations: Evaluations, rng: object, context: object
    ) -> None:
        evaluations(tuple(4 for _ in problem.layers))  # over the limit


class NoDataclass:
    name = "own"


@dataclass
class NoName:
    def search(self, problem: object, evaluations: object, rng: object, context: object) -> None:
        raise NotImplementedError


@dataclass
class TwoFolders(NoName):
    name: ClassVar[str] = "own/random"


@dataclass
class NoSearch:
    name: ClassVar[str] = "own"


@dataclass
class NoContext:
    name: ClassVar[str] = "own"

    def search(self, problem: object, evaluations: object, rng: object) -> None:
        raise NotImplementedError


@dataclass
class NotPlain(Lazy):
    folder: Path = Path("here")


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda s, f: search(f, s, budget=0), "budget"),
        (lambda s, f: search(f, s, ray=RaySettings(workers=-1)), "ray.workers"),
        (lambda s, f: search(f, s, Lazy()), "searcher"),
        *(
            (lambda s, f, kind=kind: search(f, s, kind()), "searcher")
            for kind in (NoDataclass, NoName, TwoFolders, NoSearch, NoContext)
        ),
        (lambda s, f: search(f, s, NotPlain()), "searcher"),
        (lambda s, f: search(f, s, ExhaustiveSearcher()), "budget"),
    ],
)
def test_what_cannot_be_is_refused_before_any_evaluation(
    tmp_path: Path, make: Callable[[Synthetic, Path], object], key: str
) -> None:
    s = synthetic()
    with pytest.raises(CnetError) as error:
        make(s, tmp_path / "search")
    assert error.value.key == key
    assert s.evaluated == []


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for the superuser")
def test_a_folder_that_cannot_be_written_to_is_said_so(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(CnetError):
        search(tmp_path / "search", synthetic())


def test_a_searcher_that_fails_is_named_with_its_error_and_resumes_once_it_is_mended(
    tmp_path: Path,
) -> None:
    @dataclass
    class Mine:
        name: ClassVar[str] = "mine"
        broken: ClassVar[bool] = True

        def search(self, problem: Any, evaluations: Any, rng: Any, context: Any) -> None:
            for encoding in problem.encodings():
                evaluations(encoding)
                if self.broken and evaluations.spent == 3:
                    raise KeyError("lost")

    s = small()
    with pytest.raises(CnetError) as error:
        search(tmp_path, s, Mine())
    assert (error.value.key, error.value.value) == ("searcher", "Mine")
    assert isinstance(error.value.__cause__, KeyError)
    assert "KeyError: 'lost' at test_run.py line" in str(error.value)
    Mine.broken = False
    assert search(tmp_path, s, Mine()).evaluations == 20
    assert len(s.evaluated) == 20


def test_searchers_of_one_name_are_told_apart(tmp_path: Path) -> None:
    @dataclass
    class Mine(RandomSearcher):
        pass

    search(tmp_path, small(), RandomSearcher())
    with pytest.raises(CnetError) as error:
        search(tmp_path, small(), Mine())
    assert error.value.key == "searcher.class"


def test_an_evaluation_that_fails_is_not_the_searchers_fault(tmp_path: Path) -> None:
    @dataclass
    class Mine(RandomSearcher):
        name: ClassVar[str] = "mine"

    class Broken(Synthetic):
        def evaluate(self, placement: Placement) -> tuple[float, ...]:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        search(tmp_path, Broken(SMALL, 0.15), Mine())
