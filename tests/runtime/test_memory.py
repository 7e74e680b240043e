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


@pytest.mark.parametrize(
    ("limit", "expected"), [("1000000", 1000000 - 300000 + 50000), ("max", None)]
)
def test_a_containers_limit_counts_without_the_page_cache(
    tmp_path: Path, limit: str, expected: int | None
) -> None:
    (tmp_path / "memory.max").write_text(limit + "\n")
    (tmp_path / "memory.current").write_text("300000\n")
    (tmp_path / "memory.stat").write_text("anon 250000\ninactive_file 50000\n")
    names = (str(tmp_path / "memory.max"), "memory.current", "inactive_file")
    assert memory._of_group(names) == expected


def test_a_need_beyond_the_free_memory_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 2**30)
    check_memory(2**30, "a data set")
    with pytest.raises(CnetError) as error:
        check_memory(2**31, "a data set")
    assert (error.value.key, error.value.value, error.value.expected) == ("memory", 2**31, 2**30)
    assert "2.0 GiB" in str(error.value) and "1.0 GiB" in str(error.value)
    monkeypatch.setattr(memory, "available_bytes", lambda: None)
    check_memory(2**50, "a data set")
