"""A progress bar with the time left, on a terminal only."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


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
