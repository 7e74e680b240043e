"""Free memory, a check that something will fit before it is built, and memory that is kept."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from pathlib import Path

from cnet_aihw.runtime.control_groups import memory_left, memory_limit
from cnet_aihw.runtime.errors import CnetError

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h


def available_bytes() -> int | None:
    """Return the bytes of main memory that a process can still take without swapping.

    It is the least of what the machine and the control group of this process (a container's limit)
    leave; None where the system does not say, which is so outside Linux.
    """
    found = (_of_machine("MemAvailable"), memory_left())
    return min((value for value in found if value is not None), default=None)


def total_bytes() -> int | None:
    """Return the bytes of main memory of the machine, or of the control group where that is less.

    None where the system does not say.
    """
    found = (_of_machine("MemTotal"), memory_limit())
    return min((value for value in found if value is not None), default=None)


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


def _of_machine(name: str) -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), None)


def keep_freed_memory() -> None:
    """Let this process keep memory that it frees, up to half a GiB, for what it allocates next.

    Activations of a batch are freed and allocated again at each forward pass; glibc gives blocks of
    that size back to the system, so that each pass pays for all its pages. Elsewhere than on glibc
    nothing is done.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, 32 * 2**20)  # the largest that it takes
        mallopt(_TRIM_THRESHOLD, 2**29)
