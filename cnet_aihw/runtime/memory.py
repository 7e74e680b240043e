"""Free memory, and a check that something will fit before it is built."""

from __future__ import annotations

from pathlib import Path

from cnet_aihw.runtime.errors import CnetError

_GROUPS = (  # limit, use and the entry of the page cache that can be given back
    ("/sys/fs/cgroup/memory.max", "memory.current", "inactive_file"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def available_bytes() -> int | None:
    """Return the bytes of main memory that a process can still take without swapping.

    It is the least of what the machine and the control group of this process (a container's limit)
    leave; None where the system does not say, which is so outside Linux.
    """
    found = [value for value in (_of_machine(), *map(_of_group, _GROUPS)) if value is not None]
    return min(found, default=None)


def free_bytes(device: object) -> int:
    """Return the free bytes of a torch device; 0 where they are not known."""
    import torch

    where = torch.device(device)  # type: ignore[call-overload]
    if where.type == "cuda":
        try:
            return int(torch.cuda.mem_get_info(where)[0])
        except (RuntimeError, AssertionError):
            return 0
    return available_bytes() or 0


def check_memory(need: int, what: str) -> None:
    """Check that something fits into the free main memory, before it is built.

    Args:
        need: bytes that it takes.
        what: what it is, such as "the data set of 60000 images".

    Raises:
        CnetError: if it does not fit; ``value`` is the need and ``expected`` the free bytes.
    """
    free = available_bytes()
    if free is not None and need > free:
        raise CnetError(
            f"{what} needs {_gib(need)} GiB of memory and {_gib(free)} GiB are free; "
            "take fewer or smaller samples, or stream them with a DataLoader.",
            key="memory",
            value=need,
            expected=free,
            fix="take fewer or smaller samples, or stream them with a DataLoader",
        )


def _gib(size: int) -> str:
    tenths = 10 * size // 2**30  # whole, as floats do not hold any size
    return f"{tenths // 10}.{tenths % 10}" if tenths < 10**9 else "over 10^8"


def _of_machine() -> int | None:
    entries = _entries(Path("/proc/meminfo"))
    return entries["MemAvailable"] * 1024 if "MemAvailable" in entries else None


def _of_group(names: tuple[str, str, str]) -> int | None:
    limit_file, use, cache = Path(names[0]), names[1], names[2]
    try:
        limit = limit_file.read_text().strip()
        used = int((limit_file.parent / use).read_text())
    except (OSError, ValueError):
        return None
    if not limit.isdigit():  # "max": without a limit
        return None
    given_back = _entries(limit_file.parent / "memory.stat").get(cache, 0)
    return max(0, int(limit) - used + given_back)


def _entries(path: Path) -> dict[str, int]:
    """Return the numbers of a file of lines "name: number unit"."""
    try:
        lines = [line.replace(":", " ").split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {line[0]: int(line[1]) for line in lines if len(line) > 1 and line[1].isdigit()}
