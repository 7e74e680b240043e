"""Jobs on Ray give the records and tables of plain ones, also where a node of the cluster dies."""

import inspect
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml
from hydra.core.utils import JobReturn, JobStatus

from cnet_aihw.jobs.application import CONFIG_DIR
from cnet_aihw.jobs.ray_job import _sendable
from cnet_aihw.jobs.ray_launcher import RayJobs, job_names
from cnet_aihw.jobs.sweep_screen import _update, lines
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.progress import progress_bar, reported_to
from cnet_aihw.runtime.records import read_json, read_records

from ..cluster.pretended import Shuffled
from .conftest import MLP8, Cli, command

LAUNCHER = "hydra/launcher=ray_jobs"
STEPS = ",".join(f"cnet_aihw.jobs.steps.{name}" for name in ("train", "evaluate", "table"))
WHOLE = bool(os.environ.get("CNET_ALL"))
JOBS = 8 if WHOLE else 4
SWEEP = [
    *(
        "-m",
        *MLP8,
        "training=plain",
        "rram.sigma=0.1,0.2,0.3,0.4",
        "seed=0,1" if WHOLE else "seed=1",
    ),
    f"job.steps=[{STEPS}]",
]


def test_workers_extend_the_chips_of_a_run(
    cli: Callable[..., Any], trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnet_aihw.cluster.workers.Workers", Shuffled)
    monkeypatch.setattr(Shuffled, "started", [])
    words = [*trained, "job=evaluate", "evaluation.chips=6"]
    assert cli(*words, "ray.workers=2", "ray.num_cpus=2").code == 0
    (pool,) = Shuffled.started
    assert (pool.settings.workers, pool.name) == (2, "chips")
    spread = read_json(Path("run/plain/chips.json"))["statistics"]
    Path("run/plain/chips.jsonl").unlink()
    assert cli(*words).code == 0
    assert read_json(Path("run/plain/chips.json"))["statistics"] == spread


def test_the_file_has_the_launcher_s_arguments() -> None:
    text = (CONFIG_DIR / "hydra" / "launcher" / "ray_jobs.yaml").read_text(encoding="utf-8")
    given = yaml.safe_load(text)
    assert given.pop("_target_") == f"{RayJobs.__module__}.RayJobs"
    parameters = inspect.signature(RayJobs).parameters
    assert given == {name: parameter.default for name, parameter in parameters.items()}


class Odd(Exception):
    """An error that cannot be copied."""

    def __init__(self, one: str, other: int) -> None:
        super().__init__(f"{one} and {other}")


@pytest.mark.parametrize("error", [ValueError("six"), Odd("five", 5), CnetError("Give more.")])
def test_an_error_of_a_job_is_sent_with_its_trace(error: Exception) -> None:
    try:
        raise error
    except Exception as raised:
        sent = pickle.loads(
            pickle.dumps(_sendable(JobReturn(status=JobStatus.FAILED, _return_value=raised)))
        )
    found = sent._return_value
    assert str(error) in str(found)
    notes = getattr(found, "__notes__", [])
    assert len(notes) == (not isinstance(error, CnetError))
    assert all("raise error" in note and __file__ in note for note in notes)


def test_jobs_are_called_by_what_differs() -> None:
    assert job_names([["a=1", "b=1"], ["a=1", "b=2"]]) == ["b=1", "b=2"]
    assert job_names([["a=1", "b=1"]]) == ["a=1,b=1"]
    assert job_names([[]]) == ["job"]


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"cpus_per_job": 0}, "cpus_per_job"),
        ({"cpus_per_job": "many"}, "cpus_per_job"),
        ({"gpus_per_job": -1}, "gpus_per_job"),
        ({"retries": -1}, "retries"),
        ({"retries": 1.5}, "retries"),
    ],
)
def test_impossible_values_are_refused_before_anything(given: dict[str, Any], key: str) -> None:
    with pytest.raises(CnetError) as error:
        RayJobs(**given).launch([["seed=0"]], 0)
    assert error.value.key == f"hydra.launcher.{key}"


def test_workers_inside_jobs_are_refused_before_ray_starts(
    error_of: Callable[..., CnetError],
) -> None:
    with mock.patch("ray.init", side_effect=AssertionError("Ray was started")):
        assert error_of("-m", LAUNCHER, "seed=0,1", "ray.workers=2").key == "ray.workers"


UNSENT = """
from torch import nn

def net():
    stem = nn.utils.parametrizations.weight_norm(nn.Linear(64, 8))
    return nn.Sequential(nn.Flatten(), stem, nn.ReLU(), nn.Linear(8, 10))
"""


@pytest.mark.parametrize(
    "steps",
    [
        ["job=pipeline"],
        ["job=attack"],
        [
            "job.steps=[cnet_aihw.jobs.steps.train,cnet_aihw.jobs.steps_search.search]",
            *("compensation=default", "search=random"),
        ],
    ],
    ids=["pipeline", "attack", "search"],
)
def test_a_network_that_workers_cannot_be_given_is_refused_before_any_training(
    error_of: Callable[..., CnetError], steps: list[str]
) -> None:
    """Parametrized layers cannot be pickled; the first measurement said so, after the training."""
    Path("unsent.py").write_text(UNSENT)
    model = ["model=custom", "model._target_=unsent.net", "training=plain"]
    words = [word for word in MLP8 if word != "model=mlp"]
    with mock.patch("ray.init", side_effect=AssertionError("Ray was started")):
        error = error_of(*words, *model, *steps, "ray.workers=2", "hydra.run.dir=run")
    assert (error.key, error.fix) == ("model", "ray.workers=0")
    assert not list(Path("run").rglob("run.json"))
    missing = CnetError("Ray is not installed", key="ray")
    with mock.patch("cnet_aihw.cluster.machine.check_installed", side_effect=missing):
        assert error_of(*words, *model, *steps, "ray.workers=2", "hydra.run.dir=run") is missing


def test_a_network_that_workers_are_not_given_may_be_any(cli: Cli) -> None:
    """One chip, or one attack, is made in this process; without compensation nothing is scanned."""
    Path("unsent.py").write_text(UNSENT)
    words = [word for word in MLP8 if word != "model=mlp"]
    words += ["model=custom", "model._target_=unsent.net", "training=plain", "evaluation.chips=1"]
    few = ["attack.chips=2", "attack.samples=4", "attack.method.steps=1", "attack.checks=false"]
    steps = ("steps.train", "steps_search.scan", "steps.evaluate")
    for job in (
        [f"job.steps=[{','.join(f'cnet_aihw.jobs.{step}' for step in steps)}]"],
        ["job=attack", "attack.threat=[nominal]", "attack.eps=[0.1]", *few],
        ["job=uncertainty", "bayes.chips=1", "bayes.samples=[2]", "bayes.source=chips"],
    ):
        assert cli(*words, *job, "ray.workers=2", "hydra.run.dir=run").code == 0
    assert len(read_records("run/plain/chips.jsonl")) == 1


@pytest.mark.parametrize("end", ["done", "failed"])
def test_each_job_has_a_line_with_its_progress(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnet_aihw.jobs.sweep_screen.time.time", lambda: 110.0)
    jobs: list[dict[str, Any]] = [{"name": name, "state": "waiting"} for name in ("a=1", "a=2")]
    _update(jobs, {1: {"state": "running", "started": 100.0}})
    _update(jobs, {1: {"what": "chips", "done": 3.0, "total": 10.0, "text": "accuracy 90 %"}})
    assert lines(jobs, now=107.0) == [
        ("#0", "a=1", "waiting", "", ""),
        ("#1", "a=2", "running", "chips 3/10  accuracy 90 %", "7 s"),
    ]
    _update(jobs, {1: {"state": end}})
    _update(jobs, {1: {"state": "running", "done": 4.0}})  # late news
    assert lines(jobs, now=200.0)[1][2:] == (end, "", "10 s")


def test_progress_is_reported_in_place_of_shown() -> None:
    seen: list[tuple[str, float, float, str]] = []
    with reported_to(lambda *news: seen.append(news)):
        with progress_bar("chips", 5, 2) as advance:
            advance(2, "now")
        with progress_bar("inner", 5, show=False) as advance:
            advance(1, "not shown")
    assert seen == [("chips", 2, 5, ""), ("chips", 4, 5, "now")]


@pytest.fixture
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500}
    with mock.patch.dict(os.environ, RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0"):
        head = {
            "num_cpus": 1,
            "include_dashboard": False,
            "_system_config": {**quick, "health_check_failure_threshold": 2},
        }
        cluster = Cluster(initialize_head=True, head_node_args=head)
        yield cluster
        cluster.shutdown()


def tables(folder: Path) -> list[Path]:
    return list(folder.rglob("table.json"))


def rows(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_json(folder / "sweep.json")["rows"]
    return found


@pytest.mark.slow
def test_a_sweep_outlives_a_node(cluster: Any, tmp_path: Path) -> None:
    node = cluster.add_node(num_cpus=1)
    words = [LAUNCHER, f"ray.address={cluster.address}", "run=on_ray", *SWEEP]
    words.append("ray.ship_code=false")  # the nodes are here
    with subprocess.Popen(
        [sys.executable, "-m", "cnet_aihw.jobs.cli", *words],
        cwd=tmp_path,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as driver:
        with pytest.MonkeyPatch.context() as patch:  # meanwhile, the same sweep without Ray
            patch.chdir(tmp_path)
            patch.setattr("cnet_aihw.report.write_report", lambda folder: folder)
            patch.setattr(sys, "path", list(sys.path))
            command("run=plain", *SWEEP)
        while len(tables(tmp_path / "on_ray")) < 2:
            assert driver.poll() is None, driver.communicate()[0]
            time.sleep(0.02)
        done = len(tables(tmp_path / "on_ray"))
        cluster.remove_node(node, allow_graceful=False)
        said, _ = driver.communicate(timeout=300)
        assert driver.returncode == 0, said
    assert done < JOBS
    assert rows(tmp_path / "on_ray") == rows(tmp_path / "plain")
    assert len(rows(tmp_path / "on_ray")) == JOBS
    assert f"({JOBS} of {JOBS})" in said
