"""The look of all figures, and saving them: the same records give the same bytes."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.records import replace_file, write_text_atomic
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import check_count

BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, YELLOW, BLACK = "#CC79A7", "#56B4E9", "#F0E442", "#000000"
COLORS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)
"""Colours in the order of their use (Okabe and Ito 2008, without the yellow, which
is too light for lines); readable with any kind of colour vision."""

INK, QUIET, FAINT = "#222222", "#666666", "#dddddd"
WIDTH = 5.2
"""Width of a figure in inches: half a page on a screen, all of it on a phone, where its words are
still readable."""

_HIGHEST, _MOST_ROWS = 1000, 1000

_RC: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": QUIET,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "figure.dpi": 100,
    "font.size": 10,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.columnspacing": 1.4,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "legend.handlelength": 1.7,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "svg.fonttype": "path",
    "svg.hashsalt": "cnet_aihw",
    "text.color": INK,
    "xtick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.color": QUIET,
    "ytick.labelcolor": INK,
}


@contextmanager
def figure_style() -> Iterator[None]:
    """Use these settings of matplotlib inside the block, whatever the user's own are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC)
        yield


@checked
def new_figure(height: float, rows: int = 1, **options: Any) -> tuple[Figure, list[Axes]]:
    """Return a figure of the page's width with axes below each other.

    Args:
        height: in inches.
        rows: how many axes.
        options: for ``Figure.subplots``.

    Returns:
        The figure and its axes; it belongs to no window and no global list of figures.
    """
    if not 0.0 < height <= _HIGHEST:
        raise bad_value("height", height, f"inches above 0, at most {_HIGHEST}")
    check_count("rows", rows, most=_MOST_ROWS)
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, 1, squeeze=False, **options)
    return figure, list(axes[:, 0])


def color_of(index: int) -> str:
    """Return the colour of the n-th series of a figure."""
    return COLORS[index % len(COLORS)]


@checked
def save_figure(figure: Figure, folder: str | Path, name: str) -> str:
    """Write ``name``.png and ``name``.svg.

    Args:
        figure: the figure, drawn within `figure_style`.
        folder: folder of the files; made when missing.
        name: without a suffix; it also keeps the ids of the SVG apart from those of other figures.

    Returns:
        The SVG as an element that can stand in an HTML page.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    layout = figure.get_layout_engine()
    if layout is not None:  # once for both files: it takes as long as drawing
        layout.execute(figure)
        figure.set_layout_engine("none")
    replace_file(
        folder / f"{name}.png",
        lambda path: figure.savefig(path, format="png", dpi=160, metadata={"Software": None}),
    )
    text = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(text, format="svg", metadata=nothing)
    write_text_atomic(folder / f"{name}.svg", text.getvalue())
    return _inline(text.getvalue(), name)


def _inline(svg: str, name: str) -> str:
    """Return the element alone, with its own ids and without namespaces."""
    svg = svg[svg.index("<svg") :]
    name = re.sub(r"[^\w.+=-]", "-", name)  # as ids and addresses may be
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-")
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)  # it would hold for all the page
    return re.sub(r'\s(width|height)="[\d.]+pt"', "", svg, count=2).strip()
