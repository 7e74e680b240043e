"""A progress bar with the time left, on a terminal only."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[str, float, float, str], None]
"""Takes the description of a bar, units done, all units, and a text."""
_listener: Listener | None = None


@contextmanager
def reported_to(listener: Listener) -> Iterator[None]:
    """Report the progress of all bars inside the block in place of showing them."""
    global _listener
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before


@contextmanager
def progress_bar(
    description: str, total: int, done: int = 0, show: bool = True
) -> Iterator[Callable[[int, str], None]]:
    """Show a bar on stderr while the block runs, if stderr is a terminal.

    Args:
        description: text before the bar.
        total: units of work.
        done: units done already.
        show: False shows nothing anywhere.

    Yields:
        ``advance(units, text)``: call it when so many more units are done; ``text`` is shown
        behind the bar.
    """
    if show and _listener is not None:
        yield _counted(_listener, description, total, done)
        return
    if not show or not sys.stderr.isatty():
        yield lambda units, text: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )
    hour = 3600.0  # the speed is that of the last hour: units may take minutes
    console = Console(stderr=True)
    with Progress(*columns, console=console, speed_estimate_period=hour) as progress:
        task = progress.add_task(description, total=total, completed=done, text="")
        yield lambda units, text: progress.update(task, advance=units, text=text)


def _counted(
    listener: Listener, description: str, total: float, done: float
) -> Callable[[int, str], None]:
    """Return the ``advance`` of a bar that is reported."""

    def advance(units: int, text: str) -> None:
        nonlocal done
        done += units
        listener(description, done, total, text)

    listener(description, done, total, "")
    return advance
