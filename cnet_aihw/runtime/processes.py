"""Names of processes, by which another one later sees whether they still run."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path


def this_process() -> str:
    """Return the name of this process: its machine, its id and when it started, as JSON."""
    pid = os.getpid()
    return json.dumps([socket.gethostname(), pid, _started(pid)])


def host_of(name: str) -> str:
    """Return the machine of a process; empty where the name is not of `this_process`."""
    try:
        host, _, _ = json.loads(name)
    except (ValueError, TypeError):
        return ""
    return str(host)


def is_alive(name: str) -> bool:
    """Say whether a process of this machine still runs; one of another machine does not count."""
    try:
        host, pid, started = json.loads(name)
    except (ValueError, TypeError):
        return False
    if host != socket.gethostname():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return started is None or _started(pid) == started


def _started(pid: int) -> str | None:
    """When a process started, which tells it from a later one of the same id; None if unknown."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return None
    state, *rest = text.rpartition(")")[2].split()
    return None if state in "ZX" else rest[18]  # a zombie does not work any more
