"""Two processes that write the page of one folder."""

import multiprocessing
import time
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from cnet_aihw.report.page import Page, Section, write_page
from cnet_aihw.report.tables import Column, Table

FORK = multiprocessing.get_context("fork")


class Slow(Table):
    """A table that takes a second to write."""

    events: Any = None

    def write(self, folder: Path) -> None:
        begun, done = self.events
        begun.set()
        time.sleep(1.0)
        super().write(folder)
        done.set()


def page(kind: type[Table], value: int) -> Page:
    table = kind("results", [Column("chips")], [{"chips": value}])
    return Page("run", "of a test", sections=[Section("results", table=table)])


def _write(folder: Path, begun: Event, done: Event) -> None:
    Slow.events = (begun, done)
    write_page(page(Slow, 1), folder)


def test_the_second_waits_until_the_first_is_written(tmp_path: Path) -> None:
    begun, done = FORK.Event(), FORK.Event()
    other = FORK.Process(target=_write, args=(tmp_path, begun, done))
    other.start()
    try:
        assert begun.wait(60)
        write_page(page(Table, 2), tmp_path)
        assert done.is_set()
    finally:
        other.join(60)
    assert other.exitcode == 0
    assert (tmp_path / "report" / "results.csv").read_text() == "chips\n2\n"
    assert list(tmp_path.rglob("*.tmp")) == []
