"""PPO: finds what is to be found, always the same, and a kill does not change that."""

import os
import random
import shutil
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cnet_aihw.cluster import RaySession
from cnet_aihw.compensation import Placement
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import read_json, read_records
from cnet_aihw.search import (
    Evaluation,
    Evaluations,
    ObjectiveSettings,
    SearchContext,
    SearchResult,
    run_search,
)
from cnet_aihw.search.budgeted import BudgetSpent
from cnet_aihw.search.rllib import PPOSearcher

from ..synthetic import FIVE, SMALL, Synthetic, placement_problem
from .conftest import BUDGET, SEARCHER, SEED, SETTINGS, Killed

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("session")]

CONTEXT = SearchContext(ray=SETTINGS)


def synthetic() -> Synthetic:
    return Synthetic(FIVE, 0.15)


def search(folder: Path, searcher: PPOSearcher = SEARCHER, **rest: Any) -> SearchResult:
    s = synthetic()
    arguments = {"budget": BUDGET, "seed": SEED, "ray": SETTINGS, "progress": False, **rest}
    return run_search(s.problem, s, searcher, folder, **arguments)


def trace(folder: Path) -> list[dict]:
    """The trace without what may differ after a kill: time, and whether the store had the value."""
    return [
        {**row, "seconds": None, "cached": None} for row in read_records(folder / "search.jsonl")
    ]


class Watched:
    """Evaluations without a folder: what is measured together, and the searcher's figures."""

    def __init__(self, s: Synthetic, budget: int) -> None:
        self.batches: list[int] = []
        self.figures: list[dict[str, float]] = []
        self._synthetic = s
        self.evaluations = Evaluations(s.problem, self._measure, budget, observers=[self])

    def _measure(self, placements: Sequence[Placement]) -> list[tuple[Evaluation, bool]]:
        self.batches.append(len(placements))
        return [(Evaluation(self._synthetic.evaluate(p), 0.0), False) for p in placements]

    def run(self, searcher: PPOSearcher, seed: int = 0) -> list[tuple[int, ...]]:
        with suppress(BudgetSpent):
            rng = np.random.default_rng(seed)
            searcher.search(self._synthetic.problem, self.evaluations, rng, CONTEXT)
        return [row.encoding for row in self.evaluations.rows]

    def evaluated(self, row: object, evaluations: object) -> None:
        pass

    def scalars(self, step: int, values: dict[str, float]) -> None:
        self.figures.append(values)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    "searcher",
    [
        PPOSearcher(model_iterations=3),
        PPOSearcher(model_iterations=0),
        PPOSearcher(model_iterations=0, policy="gru"),
    ],
    ids=["imagined", "evaluated", "gru"],
)
def test_it_finds_the_best_placement(searcher: PPOSearcher) -> None:
    s = synthetic()
    watched = Watched(s, 100)
    encodings = watched.run(searcher)
    assert max(map(s.reward, encodings)) == pytest.approx(s.best, abs=0.005)
    assert len(encodings) == len(set(encodings)) and all(map(s.problem.fits, encodings))
    # The encodings of an iteration are evaluated side by side.
    assert watched.batches[0] > 4 and max(watched.batches) <= 8
    first, last = watched.figures[0], watched.figures[-1]
    assert first.keys() == {"return", "entropy", "value_loss", "policy_loss", "restarts"}
    # It begins all but evenly, and has made up its mind at the end.
    assert first["entropy"] > 0.8 * np.log(5) * np.mean([sum(m) / 5 for m in open_choices(s)])
    assert last["return"] > first["return"] + 0.05 and last["entropy"] < first["entropy"]


@pytest.mark.parametrize("runners", [0, 1])
def test_it_ends_when_all_is_known(runners: int) -> None:
    """In a moment, and without evaluating anything twice."""
    s = Synthetic(SMALL, 0.15)
    searcher = PPOSearcher(model_iterations=1, num_env_runners=runners)
    watched = Watched(s, 10**6)
    encodings = watched.run(searcher)
    assert sorted(encodings) == list(s.problem.encodings())
    assert len(watched.figures) < len(encodings) / 4  # iterations


def test_no_walk_is_repeated() -> None:
    """Every iteration brings something new, even once the agent has made up its mind."""
    watched = Watched(synthetic(), 300)
    watched.run(PPOSearcher(model_iterations=0, lr=0.05))
    assert watched.evaluations.left == 0
    assert len(watched.figures) == len(watched.batches)
    assert watched.figures[-1]["restarts"] == 0


def test_it_ends_when_it_only_walks_over_the_limit() -> None:
    s = synthetic()
    tight = replace(s.problem, limit=1e-9, objective=ObjectiveSettings(over_limit="penalty"))
    s.problem = tight
    watched = Watched(s, 10**6)
    watched.run(PPOSearcher(model_iterations=0, patience=2, give_up=1))
    assert watched.evaluations.spent <= 1


def open_choices(s: Synthetic) -> list[tuple[bool, ...]]:
    """Choices that are open in episodes that spend nothing."""
    return [s.problem.mask((0,) * index) for index in range(len(s.problem.layers))]


def test_a_seed_gives_a_search_and_leaves_no_trace_in_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    torch.manual_seed(1), np.random.seed(2), random.seed(3)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    threads = torch.get_num_threads()
    first = Watched(synthetic(), 24).run(SEARCHER)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert random.getstate() == states[2]
    assert torch.get_num_threads() == threads
    assert not (tmp_path / "ray_results").exists()
    torch.manual_seed(4)
    assert Watched(synthetic(), 24).run(SEARCHER) == first
    assert Watched(synthetic(), 24).run(SEARCHER, seed=1) != first


def test_evaluations_have_the_threads_of_the_caller() -> None:
    s, seen = synthetic(), []

    def measure(placements: Sequence[Placement]) -> list[tuple[Evaluation, bool]]:
        seen.append(torch.get_num_threads())
        return [(Evaluation(s.evaluate(p), 0.0), False) for p in placements]

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with suppress(BudgetSpent):
            evaluations = Evaluations(s.problem, measure, 9)
            SEARCHER.search(s.problem, evaluations, np.random.default_rng(0), CONTEXT)
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {2}


def test_walks_of_other_processes_give_one_search_as_well() -> None:
    searcher = replace(SEARCHER, num_env_runners=2)
    first, second = Watched(synthetic(), 20), Watched(synthetic(), 20)
    encodings = first.run(searcher)
    assert len(encodings) == 20 and first.batches[0] > 4
    assert second.run(searcher) == encodings


def test_a_process_that_walks_and_dies_ends_the_search_in_one_sentence(
    session: RaySession,
) -> None:
    watched = Watched(synthetic(), 60)

    def kill_one(row: Any, evaluations: Evaluations) -> None:
        if row.evaluation == 10:
            from ray.util.state import list_actors  # at the top it would spoil pytest's capture

            name = "SingleAgentEnvRunner"
            running = [("class_name", "=", name), ("state", "=", "ALIVE")]
            runners = list_actors(f"http://{session.dashboard}", filters=running)
            os.kill(runners[0].pid, signal.SIGKILL)

    watched.evaluated = kill_one  # type: ignore[method-assign]
    with pytest.raises(CnetError) as error:
        watched.run(replace(SEARCHER, num_env_runners=2))
    assert error.value.key == "ppo.num_env_runners"


def test_with_a_penalty_it_learns_to_stay_within_the_limit() -> None:
    s = synthetic()
    objective = ObjectiveSettings(over_limit="penalty")
    s.problem = placement_problem(FIVE, 0.15, objective=objective)
    watched = Watched(s, 30)
    watched.run(PPOSearcher(model_iterations=0))
    assert all(map(s.problem.fits, map(s.problem.encode, s.evaluated)))
    returns = [figures["return"] for figures in watched.figures]
    assert returns[0] < 0 < returns[-1]


def test_after_a_kill_it_goes_on_to_the_same_end(killed: Killed, tmp_path: Path) -> None:
    assert killed.said == ""  # neither Ray nor RLlib speaks on the terminal
    without = tmp_path / "without"
    shutil.copytree(killed.folder, without)
    shutil.rmtree(without / "ppo")
    done = len(trace(killed.folder))
    assert 0 < read_json(killed.folder / "ppo" / "state.json")["evaluations"] <= done < BUDGET

    whole = search(tmp_path / "whole")
    for folder in (killed.folder, without):  # from the agent's state, and from the beginning
        resumed = search(folder)
        assert trace(folder) == trace(tmp_path / "whole")
        assert resumed.encoding == whole.encoding and resumed.reward == whole.reward
        assert trace(folder)[:done] == trace(killed.folder)[:done]


def test_a_larger_budget_goes_on(tmp_path: Path) -> None:
    search(tmp_path / "more", budget=20)
    search(tmp_path / "more", budget=33)
    search(tmp_path / "once", budget=33)
    assert trace(tmp_path / "more") == trace(tmp_path / "once")


def test_it_ends_where_every_placement_is_evaluated() -> None:
    s = Synthetic(FIVE[:2], 0.5)
    encodings = Watched(s, 1000).run(replace(SEARCHER, patience=3))
    assert sorted(encodings) == sorted(s.problem.encodings())


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"policy": "lstm"}, "ppo.policy"),
        ({"hidden": 0}, "ppo.hidden"),
        ({"episodes_per_iteration": 1}, "ppo.episodes_per_iteration"),
        ({"lr": 0.0}, "ppo.lr"),
        ({"entropy_coeff": -1.0}, "ppo.entropy_coeff"),
        ({"num_env_runners": 3}, "ppo.episodes_per_iteration"),
    ],
)
def test_settings_that_cannot_be_are_refused(change: dict[str, Any], key: str) -> None:
    with pytest.raises(CnetError) as error:
        PPOSearcher(**change)
    assert error.value.key == key


def test_more_processes_than_cpus_are_refused_before_any_evaluation(tmp_path: Path) -> None:
    with pytest.raises(CnetError) as error:
        search(tmp_path, replace(SEARCHER, num_env_runners=2), ray=replace(SETTINGS, workers=1))
    assert (error.value.key, error.value.expected) == ("ray.num_cpus", "at least 3")
