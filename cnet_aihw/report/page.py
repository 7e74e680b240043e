"""One HTML page that needs nothing beside it, and the files of its figures and tables."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from cnet_aihw.report.figures.plot import Plot
from cnet_aihw.report.style import save_figure
from cnet_aihw.report.tables import Table
from cnet_aihw.runtime.records import replace_file

PAGE = "report.html"
FOLDER = "report"
"""The folder beside the page with PNG and SVG of each figure and a CSV file of each table."""


@dataclass(frozen=True)
class Number:
    """A number that the page begins with."""

    value: str
    what: str
    more: str = ""


@dataclass(frozen=True)
class Section:
    """A heading with what belongs under it; one that has nothing is left out."""

    title: str
    text: str = ""
    table: Table | None = None
    """Shown, and written as a CSV file."""
    notes: Sequence[str] = ()
    plots: Sequence[Plot | None] = ()
    details: Sequence[tuple[str, str]] = ()
    """Headings that open, each with a text as it stands."""
    links: Sequence[tuple[str, str]] = ()
    """Text and address, relative to the page."""

    @property
    def anchor(self) -> str:
        """The title as an id."""
        return re.sub(r"\W+", "-", self.title.lower()).strip("-")

    @property
    def drawn(self) -> list[Plot]:
        """The plots that there are."""
        return [plot for plot in self.plots if plot is not None]

    @property
    def on_screen_only(self) -> bool:
        """Whether there is nothing in it but headings to open."""
        return not (self.table or self.notes or self.drawn or self.links)

    @property
    def filled(self) -> bool:
        """Whether there is anything in it."""
        table = self.table is not None and bool(self.table.rows)
        return bool(table or self.notes or self.drawn or self.details or self.links)


@dataclass(frozen=True)
class Page:
    """All that stands on a page."""

    title: str
    subtitle: str
    command: str | None = None
    versions: str = ""
    numbers: Sequence[Number] = ()
    missing: Sequence[str] = ()
    sections: Sequence[Section] = field(default_factory=list)


def write_page(page: Page, folder: Path) -> Path:
    """Write report.html, and report/ with a PNG and SVG of each figure and a CSV of each table.

    What an earlier page left in report/ is taken out. Called within `figure_style`.

    Args:
        page: what is on it.
        folder: where to.

    Returns:
        The page.
    """
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
        page=page, sections=sections, svgs=svgs, files=FOLDER
    )
    path = folder / PAGE
    replace_file(path, lambda temporary: temporary.write_text(text + "\n", encoding="utf-8"))
    return path
