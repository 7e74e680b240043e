"""Figures of a sweep: accuracy against what was swept."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from cnet_aihw.report.figures.chips import band
from cnet_aihw.report.figures.plot import (
    Colors,
    Plot,
    Row,
    grouped,
    legend_below,
    look_of,
    network_entries,
    percent,
)
from cnet_aihw.report.style import new_figure
from cnet_aihw.report.tables import Table

_FEW = 6  # lines whose bands can be told apart


def against(table: Table, swept: str, others: Sequence[str], colors: Colors) -> list[Plot]:
    """Mean accuracy, and the 5 % quantile, against one swept value.

    Args:
        table: a row for each network of each job.
        swept: the column on the x axis.
        others: columns of other swept values; each combination has lines of its own.
        colors: of the trainings.
    """
    spread = (
        "Mean accuracy over chips of the test part; bands are one standard deviation over chips to "
        "each side."
    )
    worst = "The 5 % quantile over chips: 95 % of the chips have at least this accuracy."
    drawn = (("mean", "Accuracy on chips", spread), ("q05", "5 % quantile of the chips", worst))
    plots = []
    for name, title, caption in drawn:
        figure, (field,) = new_figure(3.7)
        x_of = _axis(field, table.rows, swept)
        lines = grouped(table.rows, "training", "compensation", "t_inference", *others).values()
        for rows in lines:
            ordered = sorted(rows, key=lambda row: x_of[row[swept]])
            x = [x_of[row[swept]] for row in ordered]
            color = colors[rows[0]["training"]]
            y = percent(row[name] for row in ordered)
            if name == "mean" and len(lines) <= _FEW:
                band(field, x, ordered, color)
            field.plot(x, y, color=color, **look_of(rows[0]))
        field.set_ylabel("accuracy on chips, %")
        legend_below(figure, *network_entries(table.rows, colors))
        several = f" There is a line for each value of {' and '.join(others)}." if others else ""
        heading = f"{title} against {swept}"
        plots.append(Plot(f"sweep-{name}", heading, caption + several, figure, table))
    return plots


def _axis(field: Axes, rows: Sequence[Row], swept: str) -> dict[str, float]:
    """Place each swept value on the x axis: numbers where they are, words side by side."""
    values = list(grouped(rows, swept))
    field.set_xlabel(swept)
    numbers = {value: number(value) for value in values}
    places = {value: x for value, x in numbers.items() if x is not None}
    if len(places) == len(values):
        if min(places.values()) > 0 and max(places.values()) >= 50 * min(places.values()):
            field.set_xscale("log")
        return places
    field.set_xticks(range(len(values)), [str(value) for value in values])
    field.margins(x=0.1)
    return {value: float(place) for place, value in enumerate(values)}


def number(value: object) -> float | None:
    """What a word of the command line is as a number, if it is one."""
    try:
        return float(str(value))
    except ValueError:
        return None
