"""Limits of containers and batch systems, in both versions of control groups."""

import os
from pathlib import Path

import pytest

from cnet_aihw.runtime import control_groups
from cnet_aihw.runtime.control_groups import cpu_quota, memory_left, memory_limit, usable_cpus

GIB = 2**30


def groups(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, membership: str, files: dict[str, str]
) -> None:
    """Lay out a hierarchy, and put this process into one of its groups."""
    (tmp_path / "membership").write_text(membership)
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(control_groups, "ROOT", tmp_path / "cgroup")
    monkeypatch.setattr(control_groups, "_MEMBERSHIP", tmp_path / "membership")


def of_version_2(folder: str, limit: str, used: int, cached: int, cpus: str) -> dict[str, str]:
    return {
        f"{folder}memory.max": f"{limit}\n",
        f"{folder}memory.current": f"{used}\n",
        f"{folder}memory.stat": f"anon {used - cached}\ninactive_file {cached}\n",
        f"{folder}cpu.max": f"{cpus}\n",
    }


def test_version_2_takes_the_least_of_its_own_group_and_those_around(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files = {
        **of_version_2("job/", "max", 3 * GIB, GIB, "150000 100000"),
        **of_version_2("job/step/", str(4 * GIB), 3 * GIB, GIB, "max 100000"),
    }
    groups(monkeypatch, tmp_path, "0::/job/step\n", files)
    assert (memory_limit(), memory_left()) == (4 * GIB, 2 * GIB)
    assert cpu_quota() == 1.5
    assert usable_cpus() == min(1.5, len(os.sched_getaffinity(0)))


def test_version_1_in_a_container_that_sees_the_path_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files = {
        "memory/memory.limit_in_bytes": f"{2 * GIB}\n",
        "memory/memory.usage_in_bytes": f"{GIB}\n",
        "memory/memory.stat": f"total_inactive_file {GIB // 2}\n",
        "cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
        "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    }
    membership = "4:memory:/docker/0123\n3:cpu,cpuacct:/docker/0123\n"
    groups(monkeypatch, tmp_path, membership, files)
    assert (memory_limit(), memory_left()) == (2 * GIB, GIB + GIB // 2)
    assert cpu_quota() == 0.5


@pytest.mark.parametrize(
    ("membership", "files"),
    [
        ("0::/\n", of_version_2("", "max", GIB, 0, "max 100000")),
        (
            "2:cpu:/\n1:memory:/\n",
            {
                "memory/memory.limit_in_bytes": "9223372036854771712\n",
                "memory/memory.usage_in_bytes": "1\n",
                "cpu/cpu.cfs_quota_us": "-1\n",
                "cpu/cpu.cfs_period_us": "100000\n",
            },
        ),
        ("", {"x": ""}),
    ],
    ids=["version 2", "version 1", "none"],
)
def test_without_limits_the_machine_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, membership: str, files: dict[str, str]
) -> None:
    groups(monkeypatch, tmp_path, membership, files)
    assert (memory_limit(), memory_left(), cpu_quota()) == (None, None, None)
    assert usable_cpus() == len(os.sched_getaffinity(0))
