"""A search that uses Ray stands on its dashboard by name, with its figures."""

import json
import time
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from cnet_aihw.cluster import RaySession
from cnet_aihw.cluster.session import NAMESPACE
from cnet_aihw.compensation import Placement
from cnet_aihw.search import Evaluation, Evaluations, PlacementProblem
from cnet_aihw.search.rllib import SearchMonitor

from ..synthetic import SMALL, placement_problem

pytestmark = pytest.mark.slow


def observed(problem: PlacementProblem, monitor: SearchMonitor) -> Evaluations:
    """Three evaluations, the second of which is the best and the third one was known already."""

    def measure(placements: Sequence[Placement]) -> list[tuple[Evaluation, bool]]:
        return [(Evaluation((0.9 - 0.2 * (len(p) != 1),), 1.0), len(p) == 2) for p in placements]

    evaluations = Evaluations(problem, measure, 20, observers=[monitor])
    evaluations.many([(0, 0, 0), (1, 0, 0), (1, 1, 0)])
    return evaluations


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return str(answer.read().decode())


def eventually(get: Callable[[], Any], right: Callable[[Any], bool], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not right(value := get()):
        assert time.monotonic() < deadline, value
        time.sleep(0.2)
    return value


def test_a_search_is_on_the_dashboard_and_among_the_metrics(session: RaySession) -> None:
    import ray

    problem = placement_problem(SMALL, 0.9)
    monitor = SearchMonitor("vgg16-mnist", "evolution")
    evaluations = observed(problem, monitor)
    best = evaluations.best
    assert best is not None and best.evaluation == 2

    actor = ray.get_actor("vgg16-mnist", namespace=NAMESPACE)
    status = eventually(lambda: ray.get(actor.status.remote()), lambda s: s.get("evaluations") == 3)
    assert status == {
        "search": "vgg16-mnist",
        "searcher": "evolution",
        "status": "running",
        "budget": 20,
        "best_placement": {"layer0": 1 / 16},
        "best_reward": best.reward,
        "best_score": best.score,
        "best_overhead": best.overhead_weights,
        "evaluations": 3,
        "cache_hits": 1,
    }

    dashboard = f"http://{session.dashboard}"
    assert json.loads(fetch(f"{dashboard}/api/version"))["ray_version"] == ray.__version__

    evaluations.scalars({"entropy": 0.7})  # figures of the searcher are shown at once
    status = eventually(lambda: ray.get(actor.status.remote()), lambda s: "searcher_figures" in s)
    assert status["searcher_figures"] == {"entropy": 0.7}

    def states() -> dict[str, str]:
        actors = json.loads(fetch(f"{dashboard}/api/v0/actors?detail=1"))["data"]["result"]
        return {
            a["name"]: a["state"] for a in actors["result"] if a["class_name"] == "SearchStatus"
        }

    eventually(states, lambda found: found.get("vgg16-mnist") == "ALIVE")

    node = ray.nodes()[0]
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"

    def metrics() -> dict[str, float]:
        lines = [line for line in fetch(url).splitlines() if 'search="vgg16-mnist"' in line]
        return {line.split("{")[0]: float(line.split()[-1]) for line in lines}

    expected = {
        "ray_cnet_search_best_reward": best.reward,
        "ray_cnet_search_best_score": best.score,
        "ray_cnet_search_best_overhead": best.overhead_weights,
        "ray_cnet_search_evaluations": 3.0,
        "ray_cnet_search_cache_hits": 1.0,
    }
    assert eventually(metrics, lambda found: len(found) == 5) == pytest.approx(expected)

    monitor.close()
    eventually(states, lambda found: found.get("vgg16-mnist") == "DEAD")


def test_two_searches_of_one_name_have_an_actor_each(session: RaySession) -> None:
    import ray

    first, second = SearchMonitor("twice", "random"), SearchMonitor("twice", "evolution")
    try:
        asked = {
            name: ray.get(ray.get_actor(name, namespace=NAMESPACE).status.remote())["searcher"]
            for name in (first.name, second.name)
        }
        assert first.name == "twice" and second.name.startswith("twice-")
        assert list(asked.values()) == ["random", "evolution"]
    finally:
        first.close()
        second.close()
