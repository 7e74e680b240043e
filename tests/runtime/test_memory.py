"""Free memory, as the kernel says it, and the check before something is built."""

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
