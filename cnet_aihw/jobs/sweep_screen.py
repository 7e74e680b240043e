"""All jobs of a sweep on one screen: a line for each, on a terminal; else a log line at its end."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"

log = logging.getLogger(__name__)

States = Mapping[int, Mapping[str, Any]]
"""Number of a job -> what is new of it: ``state``, ``started``, ``what``, ``done``, ``total`` and
``text``."""


@contextmanager
def sweep_screen(names: Sequence[str]) -> Iterator[Callable[[States], None]]:
    """Show the jobs of a sweep while the block runs.

    Args:
        names: names of the jobs, in their order.

    Yields:
        ``show(states)``: call it with what is new.
    """
    jobs: list[dict[str, Any]] = [{"name": name, "state": WAITING} for name in names]
    if not sys.stderr.isatty():
        yield lambda states: _update(jobs, states)
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), refresh_per_second=2) as live:

        def show(states: States) -> None:
            _update(jobs, states)
            live.update(_table(lines(jobs, time.time())))

        show({})
        yield show


def lines(jobs: Sequence[Mapping[str, Any]], now: float) -> list[tuple[str, str, str, str, str]]:
    """Return a line for each job: number, name, state, progress, time.

    Args:
        jobs: name and state of each, and what else is known.
        now: seconds since the epoch.
    """
    found = []
    for number, job in enumerate(jobs):
        parts = []
        if job["state"] == RUNNING and job.get("total"):
            parts.append(f"{job['what']} {job['done']:.0f}/{job['total']:.0f}")
            parts.append(str(job.get("text", "")))
        started = job.get("started")
        seconds = "" if started is None else f"{job.get('ended', now) - started:.0f} s"
        progress = "  ".join(part for part in parts if part)
        found.append((f"#{number}", str(job["name"]), str(job["state"]), progress, seconds))
    return found


def _update(jobs: list[dict[str, Any]], states: States) -> None:
    for number, state in states.items():
        job, before = jobs[number], jobs[number]["state"]
        if before in (DONE, FAILED):  # late news of a job that is over
            continue
        job |= state
        if job["state"] in (DONE, FAILED):
            job["ended"] = time.time()
            over = sum(one["state"] in (DONE, FAILED) for one in jobs)
            log.info("#%d %s: %s (%d of %d)", number, job["name"], job["state"], over, len(jobs))


def _table(rows: Sequence[tuple[str, ...]]) -> Any:
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for row in rows:
        table.add_row(*row)
    return table
