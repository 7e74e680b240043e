"""Figures of a sweep: the score against the swept value."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes

from cnet_aihw.report.figures.chips import band
from cnet_aihw.report.figures.plot import (
    NETWORK,
    Colors,
    Plot,
    Row,
    grouped,
    legend_below,
    look_of,
    network_entries,
)
from cnet_aihw.report.style import new_figure
from cnet_aihw.report.tables import ACCURACY, Metric, Table

_FEW = 6  # lines whose bands remain readable


def against(
    table: Table,
    swept: str,
    others: Sequence[str],
    colors: Colors,
    metric: Metric = ACCURACY,
) -> list[Plot]:
    """Draw the mean score, and the quantile of the worst chips, against one swept value.

    Args:
        table: a row for each network of each job.
        swept: the column on the x axis.
        others: columns of other swept values; each combination has lines of its own.
        colors: of the trainings.
        metric: the score.
    """
    spread = (
        f"Mean {metric.name} over chips of the test part; bands are one standard deviation over "
        "chips to each side."
    )
    least = "at least" if metric.higher_is_better else "at most"
    worst = f"The worst 5 % quantile: 95 % of the chips have {least} this {metric.name}."
    title = f"{metric.title} on chips"
    drawn = (("mean", title, spread), ("q05", "Worst 5 % quantile of the chips", worst))
    plots = []
    for name, title, caption in drawn:
        figure, (field,) = new_figure(3.7)
        x_of = _axis(field, table.rows, swept)
        lines = grouped(table.rows, *NETWORK, "t_inference", *others).values()
        for rows in lines:
            ordered = sorted(rows, key=lambda row: x_of[row[swept]])
            x = [x_of[row[swept]] for row in ordered]
            color = colors[rows[0]["training"]]
            y = metric.shown(row[name] for row in ordered)
            if name == "mean" and len(lines) <= _FEW:
                band(field, x, ordered, color, metric)
            field.plot(x, y, color=color, **look_of(rows[0]))
        field.set_ylabel(f"{metric.name} on chips{', %' if metric.unit else ''}")
        legend_below(figure, *network_entries(table.rows, colors))
        several = f" There is a line for each value of {' and '.join(others)}." if others else ""
        heading = f"{title} against {swept}"
        plots.append(Plot(f"sweep-{name}", heading, caption + several, figure, table))
    return plots


def _axis(field: Axes, rows: Sequence[Row], swept: str) -> dict[str, float]:
    """Place each swept value on the x axis: numbers by value, words side by side."""
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
    """Return a word of the command line as a number, if it is a finite one."""
    try:
        found = float(str(value))
    except ValueError:
        return None
    return found if math.isfinite(found) else None
