"""Free memory, as the kernel says it, and the check before something is built."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from cnet_aihw.runtime import memory
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.memory import available_bytes, check_memory, free_bytes


def test_free_memory_is_less_than_the_machine_has() -> None:
    free = available_bytes()
    total = next(
        int(line.split()[1]) * 1024
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemTotal")
    )
    assert free is not None and 0 < free <= total
    assert free_bytes("cpu") == pytest.approx(free, rel=0.5)


def test_a_need_beyond_the_free_memory_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 2**30)
    check_memory(2**30, "a data set")
    with pytest.raises(CnetError) as error:
        check_memory(2**31, "a data set")
    assert (error.value.key, error.value.value, error.value.expected) == ("memory", 2**31, 2**30)
    assert "2.0 GiB" in str(error.value) and "1.0 GiB" in str(error.value)
    monkeypatch.setattr(memory, "available_bytes", lambda: None)
    check_memory(2**50, "a data set")


FAULTS = """
import resource, sys
import numpy as np
from cnet_aihw.runtime.memory import keep_freed_memory

if sys.argv[1:]:
    keep_freed_memory()
np.ones(2**20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    kept = [np.ones(2**20) for _ in range(3)]
    del kept
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif("glibc" not in platform.libc_ver(), reason="the allocator is not glibc's")
def test_memory_that_is_freed_is_taken_again() -> None:
    """60 blocks of 2,048 pages, of which the first three are new."""

    def faults(*words: str) -> int:
        command = [sys.executable, "-c", FAULTS, *words]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert faults("keep") < faults() / 3
