"""Limits of the control groups that this process is in: of a container or a batch system."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
"""Mount point of the hierarchies, versions 1 and 2."""

_MEMBERSHIP = Path("/proc/self/cgroup")
_UNLIMITED = 2**60  # version 1 writes the largest multiple of a page that fits


def memory_limit() -> int | None:
    """Return the bytes of memory that the groups allow; None without a limit."""
    return min((limit for limit, _ in _memory()), default=None)


def memory_left() -> int | None:
    """Return the bytes of memory that the groups leave, without cached files; None: no limit."""
    return min((left for _, left in _memory()), default=None)


def usable_cpus() -> float:
    """Return the CPUs that this process may use: its affinity, and the quota of its groups."""
    return min([float(len(os.sched_getaffinity(0))), *_cpu_quotas()])


def cpu_quota() -> float | None:
    """Return the CPUs that the quota of the groups allows; None without a quota."""
    return min(_cpu_quotas(), default=None)


def _memory() -> Iterator[tuple[int, int]]:
    """Yield limit and rest of each group with a limit."""
    for folder in _folders(""):
        yield from _memory_of(folder, "memory.max", "memory.current", "inactive_file")
    for folder in _folders("memory"):
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        yield from _memory_of(folder, *names)


def _memory_of(folder: Path, limit: str, use: str, cache: str) -> Iterator[tuple[int, int]]:
    with suppress(OSError, ValueError):  # no such file, or "max": no limit
        allowed, used = int((folder / limit).read_text()), int((folder / use).read_text())
        if allowed < _UNLIMITED:
            yield allowed, max(0, allowed - used + _entries(folder / "memory.stat").get(cache, 0))


def _cpu_quotas() -> Iterator[float]:
    for folder in _folders(""):
        with suppress(OSError, ValueError):
            allowed, every = (folder / "cpu.max").read_text().split()
            yield int(allowed) / int(every)
    for folder in _folders("cpu"):
        with suppress(OSError, ValueError):
            quota, period = (
                int((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period")
            )
            if quota > 0:
                yield quota / period


def _folders(controller: str) -> Iterator[Path]:
    """Yield the groups of this process, from its own one outwards; "": those of version 2."""
    with suppress(OSError):
        for line in _MEMBERSHIP.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controller not in controllers.split(","):
                continue
            for mount in (ROOT / controllers, ROOT / controller, ROOT / "unified"):
                inner = mount / path.strip("/")
                if mount.is_dir():
                    # in a container the path may be that of the machine; its own group is the mount
                    yield from (inner, *inner.parents[: len(inner.relative_to(mount).parts)])
                    break


def _entries(path: Path) -> dict[str, int]:
    """Return the numbers of a file of lines "name: number unit"."""
    try:
        lines = [line.replace(":", " ").split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {line[0]: int(line[1]) for line in lines if len(line) > 1 and line[1].isdigit()}
