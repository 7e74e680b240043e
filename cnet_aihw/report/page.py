"""A self-contained HTML page, and the files of its figures and tables."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from cnet_aihw.report.figures.plot import Plot
from cnet_aihw.report.run_tables import HIDDEN
from cnet_aihw.report.style import save_figure
from cnet_aihw.report.tables import Table
from cnet_aihw.runtime.locks import locked
from cnet_aihw.runtime.records import write_text_atomic

PAGE = "report.html"
FOLDER = "report"
"""The folder beside the page with PNG and SVG of each figure and a CSV file of each table."""

_WAIT = 600.0  # seconds for another process that writes the page


@dataclass(frozen=True)
class Number:
    """A number at the top of the page."""

    value: str
    what: str
    more: str = ""


@dataclass(frozen=True)
class Section:
    """A heading and its content; an empty one is left out."""

    title: str
    text: str = ""
    table: Table | None = None
    """Shown, and written as a CSV file."""
    notes: Sequence[str] = ()
    plots: Sequence[Plot | None] = ()
    details: Sequence[tuple[str, str]] = ()
    """Headings that open, each with a verbatim text."""
    links: Sequence[tuple[str, str]] = ()
    """Text and address, relative to the page."""

    @property
    def anchor(self) -> str:
        """Return the title as an id."""
        return re.sub(r"\W+", "-", self.title.lower()).strip("-")

    @property
    def drawn(self) -> list[Plot]:
        """Return the plots without missing ones."""
        return [plot for plot in self.plots if plot is not None]

    @property
    def on_screen_only(self) -> bool:
        """Say whether it holds nothing but headings to open."""
        return not (self.table or self.notes or self.drawn or self.links)

    @property
    def filled(self) -> bool:
        """Say whether it holds anything."""
        table = self.table is not None and bool(self.table.rows)
        return bool(table or self.notes or self.drawn or self.details or self.links)


@dataclass(frozen=True)
class Page:
    """The content of a page."""

    title: str
    subtitle: str
    command: str | None = None
    versions: str = ""
    numbers: Sequence[Number] = ()
    missing: Sequence[str] = ()
    sections: Sequence[Section] = field(default_factory=list)
    sortable: bool = False
    """Whether long tables can be sorted and filtered, by a script in the page."""


def write_page(page: Page, folder: Path) -> Path:
    """Write report.html, and report/ with a PNG and SVG of each figure and a CSV of each table.

    Files of an earlier page in report/ are removed. Call it within `figure_style`. A second process
    waits: job=report may be given while a job ends with its page.

    Args:
        page: its content.
        folder: the folder of the page.

    Returns:
        The page's path.

    Raises:
        CnetError: if the folder cannot be written to, or another process writes there for minutes.
    """
    with locked(folder, "report", _WAIT):
        return _written(page, folder)


def _written(page: Page, folder: Path) -> Path:
    sections = [section for section in page.sections if section.filled]
    files = folder / FOLDER
    files.mkdir(parents=True, exist_ok=True)
    for old in [path for path in files.iterdir() if path.suffix in (".png", ".svg", ".csv")]:
        old.unlink()
    svgs = {}
    for section in sections:
        if section.table is not None:
            section.table.write(files)
        for plot in section.drawn:
            svgs[plot.name] = save_figure(plot.figure, files, plot.name)
            plot.data.write(files)
    environment = Environment(
        loader=PackageLoader("cnet_aihw.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    text = environment.get_template("page.html.j2").render(
        page=page, sections=sections, svgs=svgs, files=FOLDER, hidden=HIDDEN
    )
    path = folder / PAGE
    write_text_atomic(path, text + "\n")
    return path
