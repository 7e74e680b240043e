"""Chips on processes of a real Ray: the same results, whatever becomes of a process."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cnet_aihw.evaluation import Score, evaluate_chips
from cnet_aihw.rram import LogNormalNoiseModel, RRAMRPUConfig, convert_to_analog
from cnet_aihw.runtime.records import read_records

from .conftest import SETTINGS

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("session")]
TWO = replace(SETTINGS, workers=2)


class Logged(Score):
    """The score, after a line with the process in a file, and some time."""

    def __init__(self, log: Path) -> None:
        super().__init__()
        self.log = log

    def __call__(self, *given: Any) -> dict[str, float]:
        with open(self.log, "a", encoding="utf-8") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(0.15)
        return super().__call__(*given)


def pids(log: Path) -> list[int]:
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)


def kill_one(log: Path, records: Path) -> None:
    """Kill a worker that has just begun with a chip."""
    wait_until(lambda: len(read_records(records)) > 2)
    begun = len(pids(log))
    wait_until(lambda: len(pids(log)) > begun)
    os.kill(pids(log)[-1], signal.SIGKILL)


def values(path: Path) -> list[dict[str, Any]]:
    found = [{k: v for k, v in r.items() if k != "seconds"} for r in read_records(path)]
    return sorted(found, key=lambda record: record["chip"])


def test_chips_of_a_killed_worker_are_done_again(tmp_path: Path) -> None:
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import tests
    torch.manual_seed(0)
    digital = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
    model = convert_to_analog(digital, RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.6)))
    data = torch.randn(40, 1, 4, 4), torch.randint(3, (40,))
    one, two, log = tmp_path / "one.jsonl", tmp_path / "two.jsonl", tmp_path / "log"
    given: dict[str, Any] = {"chips": 12, "batch_size": 20, "device": "cpu"}
    thread = threading.Thread(target=kill_one, args=(log, two))
    thread.start()
    found = evaluate_chips(model, data, measurement=Logged(log), records=two, ray=TWO, **given)
    thread.join()
    assert found == evaluate_chips(model, data, records=one, **given)
    assert values(two) == values(one)
    assert len(pids(log)) == 14  # the clean network here, and one chip twice
    assert len({*pids(log)} - {os.getpid()}) == 3
