"""Processes that a private Ray leaves behind are ended, also one that starts after the others."""

import os
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import pytest

from cnet_aihw.cluster import watchdog

pytestmark = pytest.mark.slow


def test_a_process_that_starts_late_is_ended_too() -> None:
    mark = uuid4().hex
    environment = {**os.environ, "MARK": mark}
    script = str(Path(watchdog.__file__))
    dog = subprocess.Popen([sys.executable, script, mark[::-1]], stdin=subprocess.PIPE)
    first = subprocess.Popen(["sleep", "600"], env=environment)
    assert dog.stdin is not None
    dog.stdin.close()  # as if the process that holds the pipe were gone
    assert first.wait(30) < 0
    time.sleep(1)  # meanwhile, it looks several times and finds none
    second = subprocess.Popen(["sleep", "600"], env=environment)
    assert second.wait(30) < 0
    assert dog.wait(30) == 0
