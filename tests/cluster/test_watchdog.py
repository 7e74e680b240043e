"""Processes that a private Ray leaves behind are ended: late ones, and those without a mark."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import pytest

from cnet_aihw.cluster import watchdog

pytestmark = pytest.mark.slow


def watch(mark: str) -> subprocess.Popen[bytes]:
    script = str(Path(watchdog.__file__))
    return subprocess.Popen([sys.executable, script, mark[::-1]], stdin=subprocess.PIPE)


def test_a_process_that_starts_late_is_ended_too() -> None:
    mark = uuid4().hex
    environment = {**os.environ, "MARK": mark}
    dog = watch(mark)
    first = subprocess.Popen(["sleep", "600"], env=environment)
    assert dog.stdin is not None
    dog.stdin.close()  # as if the process that holds the pipe were gone
    assert first.wait(30) < 0
    time.sleep(1)  # meanwhile, it looks several times and finds none
    second = subprocess.Popen(["sleep", "600"], env=environment)
    assert second.wait(30) < 0
    assert dog.wait(30) == 0


def test_what_writes_to_the_session_is_ended_and_what_reads_it_is_not(tmp_path: Path) -> None:
    log = tmp_path / "session" / "agent.log"
    log.parent.mkdir()
    log.touch()
    dog = watch(uuid4().hex)
    assert dog.stdin is not None
    dog.stdin.write(os.fsencode(log.parent))
    with log.open("a") as output, log.open() as read, (tmp_path / "session_2").open("w") as other:
        agent = subprocess.Popen(["sleep", "600"], stdout=output)
        reader = subprocess.Popen(["sleep", "600"], stdin=read)
        neighbour = subprocess.Popen(["sleep", "600"], stdout=other)
    dog.stdin.close()
    try:
        assert agent.wait(30) == -signal.SIGKILL
        assert dog.wait(30) == 0
        assert reader.poll() is None and neighbour.poll() is None
    finally:
        for process in (agent, reader, neighbour):
            process.kill()
