"""Killed at any moment, by either signal, and started again: the results of an undisturbed run."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("CNET_KILLS", "4"))
"""Kills of each job; each adds some ten seconds."""
TINY = [
    *("model=mlp", "data.size=8", "data.limit_train=100", "training=plain", "training.lr=0.1"),
    *("training.epochs=3", "training.validation_chips=2", "training.batch_size=32"),
    *("training.checkpoint_seconds=0", "rram.sigma=0.8", "evaluation.chips=3", "progress=false"),
    *("compensation.limit=0.5", "compensation.limit_macs=null", "compensation.threshold=1.0"),
    "compensation.scan.chips=2",
    *("compensation.scan.samples=50", "search.budget=5", "search.chips=2", "search.samples=50"),
    *("search=random", "search.store=store", "run=run"),
]
JOBS = {
    "shared": [
        *(
            "compensation=paper",
            "compensation.shared.epochs=2",
            "compensation.shared.batch_size=32",
        ),
        *("compensation.shared.validation_chips=2", "search.evaluator.shared_steps=20"),
    ],
    "per chip": ["compensation.per_chip.samples=60"],
}
"""Train, scan, search, fit, evaluate, table and report, with either fit."""

# A process that has imported all that a job needs, and forks for each job.
SERVER = """
import faulthandler, json, os, select, signal, sys
import cnet_aihw.jobs.application, torch
import cnet_aihw.compensation, cnet_aihw.evaluation, cnet_aihw.search, cnet_aihw.training
import cnet_aihw.jobs.build, cnet_aihw.jobs.steps_search, cnet_aihw.jobs.steps_compensation
import cnet_aihw.report.run_page, cnet_aihw.zoo, matplotlib.pyplot
from cnet_aihw.jobs.cli import main

def job(words, folder, number, after_writes, log):
    os.chdir(folder)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1), os.dup2(out, 2)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    faulthandler.dump_traceback_later(120, exit=True, file=open(log, "a"))
    writes, fsync = [], os.fsync

    def counted(descriptor):
        writes.append(1)
        if len(writes) == after_writes:
            os.kill(os.getpid(), number)
        fsync(descriptor)

    os.fsync = counted
    sys.argv = ["cnet-aihw", *words]
    code = 0
    try:
        main()
    except SystemExit as stop:
        code = stop.code or 0
    os.write(1, b"writes %d\\n" % len(writes))
    os._exit(code)

for line in sys.stdin:
    asked = json.loads(line)
    after, seconds = asked.pop("after_writes"), asked.pop("seconds")
    child = os.fork()
    if not child:
        try:
            job(**asked, after_writes=after)
        finally:
            os._exit(99)
    if seconds is not None:
        waiting = os.pidfd_open(child)
        if not select.select([waiting], [], [], seconds)[0]:
            os.kill(child, asked["number"])
        os.close(waiting)
    print(os.waitpid(child, 0)[1], flush=True)
"""


@dataclass
class Server:
    """Runs jobs, and stops them."""

    process: subprocess.Popen

    def run(
        self,
        folder: Path,
        words: list[str],
        number: int = 0,
        after_writes: int = 0,
        seconds: float | None = None,
    ) -> tuple[int, str]:
        """Return the exit code, negative after a signal, and what was printed."""
        log = folder.with_suffix(".txt")
        log.unlink(missing_ok=True)
        asked = {"words": words, "folder": str(folder), "number": number, "log": str(log)}
        asked |= {"after_writes": after_writes, "seconds": seconds}
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        status = int(self.process.stdout.readline())
        return os.waitstatus_to_exitcode(status), log.read_text()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", SERVER],
        env=environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        yield Server(process)
        assert process.stdin is not None
        process.stdin.close()


UNEQUAL = {"seconds", "fit_seconds", "epoch_seconds", "cached", "clean_passes"}
"""How long it took, whether a value was in the store when the search was killed, and passes of the
clean network, of which each process makes its own."""


def results(folder: Path) -> dict[str, Any]:
    """All weights, records and tables of a run."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if ".hydra" in name or path.name == "checkpoint.safetensors":
            continue
        if path.suffix == ".safetensors":
            found[name] = path.read_bytes()
        elif path.suffix in (".json", ".jsonl"):
            lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
            found[name] = [plain(json.loads(line)) for line in lines]
    return found


def plain(record: Any) -> Any:
    """A record without what differs from run to run."""
    if isinstance(record, dict):
        return {name: plain(value) for name, value in record.items() if name not in UNEQUAL}
    return [plain(value) for value in record] if isinstance(record, list) else record


@dataclass
class Count:
    """Kills so far, by signal."""

    kills: dict[int, int] = field(default_factory=lambda: {signal.SIGKILL: 0, signal.SIGTERM: 0})

    @property
    def total(self) -> int:
        return sum(self.kills.values())


@pytest.mark.parametrize("name", JOBS)
def test_kills_leave_no_trace(server: Server, tmp_path: Path, name: str) -> None:
    words, rng, count = [*TINY, *JOBS[name]], np.random.default_rng(len(name)), Count()
    whole = tmp_path / "whole"
    whole.mkdir()
    begin = time.monotonic()
    code, said = server.run(whole, words)
    seconds = time.monotonic() - begin
    assert code == 0, said
    writes = int(said.rpartition("writes ")[2])
    wanted = results(whole / "run")
    assert {"plain/best.safetensors", "plain/scan.json", "plain/search.json", "table.json"} <= set(
        wanted
    )
    run = 0
    while count.total < KILLS:
        run += 1
        folder = tmp_path / f"run{run}"
        folder.mkdir()
        while True:
            number = int(rng.choice([signal.SIGKILL, signal.SIGTERM]))
            moment: dict[str, Any] = {"after_writes": int(rng.integers(1, max(3, writes // 4)))}
            if rng.random() < 0.3:  # between two writes, or in a library
                moment = {"seconds": float(rng.uniform(0.2, seconds / 2))}
            if count.total >= KILLS:
                moment = {}
            code, said = server.run(folder, words, number, **moment)
            if code == 0:
                break
            if number == signal.SIGKILL:
                assert code == -signal.SIGKILL, said
            else:
                assert code == 128 + signal.SIGTERM, said
                assert "Traceback" not in said
                assert said.partition("cnet-aihw: stopped")[2].count("\n") == 2, said
            count.kills[number] += 1
        found = results(folder / "run")
        assert set(found) == set(wanted)
        for path, value in wanted.items():
            assert found[path] == value, (path, run, count)
    assert min(count.kills.values()) >= 1


def test_two_jobs_in_one_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cnet_aihw.jobs.cli", *TINY, "training.epochs=2000"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL) as one:
        while not (tmp_path / "run/plain/epochs.jsonl").exists():
            assert one.poll() is None
            time.sleep(0.05)
        two = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        one.kill()
    assert two.returncode == 2
    assert two.stderr.count("\n") == 1
    assert "a job runs in" in two.stderr


def marked(mark: str) -> list[str]:
    """Processes in whose environment a mark stands, which what they start inherits."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                if mark.encode() in (folder / "environ").read_bytes():
                    found.append((folder / "cmdline").read_text())
    return found


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, *([signal.SIGKILL] if os.environ.get("CNET_ALL") else [])]
)
def test_soon_after_a_signal_nothing_of_ray_is_left(tmp_path: Path, number: signal.Signals) -> None:
    """With a search of RLlib and a worker in full swing."""
    words = [*TINY, *JOBS["per chip"], "search=ppo", "search.budget=60", "ray.num_cpus=2"]
    words += ["ray.workers=1", "ray.dashboard=false"]
    script = (
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # the background ignores it\n"
        "from cnet_aihw.jobs.cli import main\n"
        "main()\n"
    )
    mark = uuid4().hex
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CNET_MARK": mark}
    trace = tmp_path / "run/plain/search/ppo-seed0/search.jsonl"
    with subprocess.Popen(
        [sys.executable, "-c", script, *words],
        cwd=tmp_path,
        env=environment,
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as job:
        assert job.stderr is not None
        while not (trace.exists() and trace.read_text().count("\n") >= 3):
            assert job.poll() is None, job.stderr.read()
            time.sleep(0.05)
        assert len(marked(mark)) > 3
        job.send_signal(number)
        moment = time.monotonic()
        job.wait(30)
        while left := marked(mark):
            assert time.monotonic() < moment + 60, left  # 10 on an idle machine
            time.sleep(0.1)
        said = job.stderr.read()
    if number != signal.SIGKILL:
        assert job.returncode == 128 + number
        assert said == "cnet-aihw: stopped; the same command with run=run resumes it.\n"
