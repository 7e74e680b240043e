"""One killed search."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from cnet_aihw.runtime.records import read_records
from cnet_aihw.search.rllib import PPOSearcher

from ...cluster.conftest import SETTINGS as SETTINGS

ROOT = Path(__file__).parents[3]
SEARCHER = PPOSearcher(model_iterations=1, checkpoint_every=2)
SEED, BUDGET = 5, 60


@pytest.fixture(scope="session", autouse=True)
def sent_by_value() -> None:
    """Worker processes cannot import tests."""
    from ray import cloudpickle

    from .. import synthetic
    from . import evaluators

    for module in (synthetic, evaluators):
        cloudpickle.register_pickle_by_value(module)


@dataclass(frozen=True)
class Killed:
    """A process that searched, and was killed in the middle."""

    folder: Path
    mark: str
    """Stands in the environment of the process and of all that it started."""
    driver: int
    """Its number, with which the name of its Ray's session ends."""
    said: str
    moment: float


DRIVER = """
import sys, time
from cnet_aihw.cluster import RaySettings
from cnet_aihw.search import run_search
from tests.search.rllib.conftest import BUDGET, SEARCHER, SEED
from tests.search.synthetic import FIVE, Synthetic

class Slow(Synthetic):
    def evaluate(self, placement):
        time.sleep(0.1)
        return super().evaluate(placement)

slow = Slow(FIVE, 0.15)
settings = RaySettings(num_cpus=1, dashboard=False)
run_search(slow.problem, slow, SEARCHER, sys.argv[1], budget=BUDGET, seed=SEED, ray=settings)
"""


@pytest.fixture(scope="session")
def killed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Killed]:
    folder, mark = tmp_path_factory.mktemp("killed") / "search", uuid4().hex
    # RAY_ADDRESS names a cluster that is not there: a private Ray does not care.
    env = {**os.environ, "CNET_MARK": mark, "RAY_ADDRESS": "127.0.0.1:1"}
    command = [sys.executable, "-c", DRIVER, str(folder)]
    with subprocess.Popen(command, env=env, cwd=ROOT, text=True, stderr=subprocess.PIPE) as driver:
        request.getfixturevalue("session")  # starts at the same time
        assert driver.stderr is not None
        while len(read_records(folder / "search.jsonl")) < 0.6 * BUDGET:
            assert driver.poll() is None, driver.stderr.read()
            time.sleep(0.02)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        yield Killed(folder, mark, driver.pid, driver.stderr.read(), time.monotonic())
