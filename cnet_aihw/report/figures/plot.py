"""A figure with its caption and data, and parts that several figures share."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from cnet_aihw.report.style import QUIET, color_of
from cnet_aihw.report.tables import Table

Row = Mapping[str, Any]
Look = Mapping[str, Any]
"""Keyword arguments of a line, as matplotlib names them."""
Colors = Mapping[str, str]
"""A colour for each training, the same in all figures of a page."""


NETWORK = ("training", "compensation", "calibration")
"""Columns that tell the networks of a run apart."""

_LEGEND_WIDTH = 78
_LONGEST_NAME = 24
"""Characters of a layer's name on an axis."""
_ROOM = 8
"""Characters of a turned name that figures have room for."""
_MOST_NAMES = 80
"""Names of layers that an axis has room for."""


@dataclass(frozen=True)
class Plot:
    """A figure with the words and numbers that belong to it."""

    name: str
    """Name of its files, without a suffix."""

    title: str
    """Heading."""

    caption: str
    """Description of what it shows, with units."""

    figure: Figure
    """The figure, not yet saved."""

    data: Table
    """The table that it is drawn from."""


def grouped(rows: Iterable[Row], *names: str) -> dict[Any, list[Row]]:
    """Group rows by the values of some columns, in the order of their first appearance."""
    groups: dict[Hashable, list[Row]] = {}
    for row in rows:
        values = tuple(row.get(name) for name in names)
        groups.setdefault(values if len(names) > 1 else values[0], []).append(row)
    return groups


def colors_of(names: Iterable[str]) -> Colors:
    """Give each name a colour, in their order."""
    return {name: color_of(index) for index, name in enumerate(dict.fromkeys(names))}


def with_colors(rows: Iterable[Row], colors: Colors) -> dict[str, str]:
    """Return the trainings that rows are of, each with its colour."""
    return {training: colors[training] for training in grouped(rows, "training")}


def percent(values: Iterable[float]) -> list[float]:
    """Return shares in percent."""
    return [100.0 * value for value in values]


def whole_numbers(axes: Axes) -> None:
    """Mark the x axis at whole numbers only."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def beside(groups: int) -> list[float]:
    """Return small shifts along an axis, so that points at one place do not hide each other."""
    width = min(0.08 * (groups - 1), 0.5)
    return [width * (g / (groups - 1) - 0.5) if groups > 1 else 0.0 for g in range(groups)]


def short_names(layers: Sequence[str]) -> list[str]:
    """Return names of layers of at most 24 characters, without a beginning that all share.

    Args:
        layers: their full names; where none is longer, these are returned.
    """
    if max(map(len, layers), default=0) <= _LONGEST_NAME:
        return list(layers)
    paths = [layer.split(".") for layer in layers]
    shared = 0
    while all(len(path) > shared + 1 and path[shared] == paths[0][shared] for path in paths):
        shared += 1
    names = [".".join(path[shared:]) for path in paths]
    head = _LONGEST_NAME // 3
    tail = _LONGEST_NAME - head - 1
    return [
        name
        if len(name) <= _LONGEST_NAME
        else f"{name[:head]}\N{HORIZONTAL ELLIPSIS}{name[-tail:]}"
        for name in names
    ]


def along_network(axes: Axes, layers: Sequence[str]) -> dict[str, int]:
    """Put the layers on the x axis in their order; returns the place of each.

    Long names are shortened, and of many layers some are named, and the figure grows with them.
    """
    places = {layer: place for place, layer in enumerate(layers)}
    names = short_names(layers)
    turned = sum(len(name) + 2 for name in names) > 55  # characters that stand side by side
    size = 9 if len(layers) <= 24 else 7
    step = -(-len(layers) // _MOST_NAMES)
    axes.set_xticks(
        range(0, len(layers), step), names[::step], rotation=90 if turned else 0, fontsize=size
    )
    figure = axes.get_figure(root=True)
    assert figure is not None
    first = min(axes.get_shared_x_axes().get_siblings(axes), key=figure.axes.index)
    if turned and axes is first:  # room for the names of all axes that share them
        longest = max(map(len, names)) - _ROOM
        figure.set_figheight(figure.get_figheight() + max(longest, 0) * 0.65 * size / 72)
    axes.set_xlim(-0.5, len(layers) - 0.5)
    axes.grid(axis="x", visible=False)
    return places


def legend_below(figure: Figure, *lines: Iterable[tuple[str, Look]]) -> None:
    """Draw one legend under all axes: in one line where that fits, else line by line.

    Args:
        figure: its axes have their legend together.
        lines: entries (label and look) that belong together.
    """
    given = [list(line) for line in lines]
    entries = [entry for line in given for entry in line]
    columns = len(entries)
    if sum(_widths(entries, columns)) > _LEGEND_WIDTH:
        columns = max(len(line) for line in given)
        blanks = ("", {"linestyle": "none"})
        entries = [e for line in given for e in [*line, *[blanks] * (columns - len(line))]]
    while columns > 1 and sum(_widths(entries, columns)) > _LEGEND_WIDTH:
        columns -= 1
        entries = [entry for line in given for entry in line]
    ordered = [entry for column in range(columns) for entry in entries[column::columns]]
    handles = [Line2D([], [], **{"color": QUIET, **look}) for _, look in ordered]
    labels = [label for label, _ in ordered]
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def _widths(entries: list[tuple[str, Look]], columns: int) -> list[int]:
    """Return the width of each legend column in characters; 8 are the line and the gap."""
    return [max(len(label) + 8 for label, _ in entries[c::columns]) for c in range(columns)]


PLAIN_LOOK: Look = {"linestyle": "--", "marker": "o", "markerfacecolor": "white"}
COMPENSATED_LOOK: Look = {"linestyle": "-", "marker": "o"}


def look_of(row: Row) -> Look:
    """Return a line's look: broken and hollow without compensation, solid and full with it."""
    return PLAIN_LOOK if row.get("compensation") is None else COMPENSATED_LOOK


def network_entries(
    rows: Sequence[Row], colors: Colors
) -> tuple[list[tuple[str, Look]], list[tuple[str, Look]]]:
    """Return a legend's lines: a colour for each training, a look without and with compensation."""
    trainings: list[tuple[str, Look]] = [
        (name, {"color": color, "linewidth": 4})
        for name, color in with_colors(rows, colors).items()
    ]
    if all(row.get("compensation") is None for row in rows):
        return trainings, []
    return trainings, [("as trained", PLAIN_LOOK), ("with compensation", COMPENSATED_LOOK)]
