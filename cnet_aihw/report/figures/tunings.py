"""Figures of tuning on chips: score against writes and added weights, and its course."""

from __future__ import annotations

from typing import Any

from cnet_aihw.report.figures.plot import Look, Plot, Row, grouped, legend_below
from cnet_aihw.report.style import QUIET, color_of, new_figure
from cnet_aihw.report.tables import Metric, Table, counted_in

_NETWORK = ("training", "compensation", "rewrite_sigma")
_WAYS = (
    *(("progressive", "model"), ("all", "model"), ("all", "exact"), ("all", "feedback")),
    *(("all", "random_target"), ("digital", "model"), ("digital", "perturbation")),
    ("correctors", "model"),
)


def front(tunings: Table, metric: Metric) -> Plot | None:
    """Draw scores over writes of a cell, one field a network and fresh variation."""
    if not tunings.rows:
        return None
    groups = grouped(tunings.rows, *_NETWORK)
    figure, fields = new_figure(0.9 + 2.2 * len(groups), len(groups))
    shown: dict[str, Look] = {}
    for field, (network, rows) in zip(fields, groups.items(), strict=True):
        (start,) = metric.shown([rows[0]["before"]])
        field.axhline(start, color=QUIET, linestyle=":")
        shown["not tuned"] = {"color": QUIET, "linestyle": ":"}
        for row in rows:
            look = _look(row)
            point = {**look, "linestyle": "none"}
            at, error = row["writes_mean"], row["std"]
            bars = None if error is None else metric.shown([error])
            field.errorbar([at], metric.shown([row["score"]]), yerr=bars, **point)
            shown[_name(row)] = point
            if row["tuned_per_chip"] is not None:
                field.plot([at], metric.shown([row["tuned_per_chip"]]), **_hollow(point))
        calibrated = [row for row in rows if row["per_chip"] is not None]
        if calibrated:
            look = {"color": QUIET, "marker": "s", "linestyle": "none"}
            field.plot([1.0], metric.shown([calibrated[0]["per_chip"]]), **look)
            added = 100.0 * calibrated[0]["overhead"]
            shown[f"calibrated instead (+{added:.2g} % weights)"] = look
            shown["hollow: calibrated on top"] = {**_hollow(look), "marker": "o"}
        field.set_xscale("log")
        field.set_title(_title(network))
        field.set_ylabel(metric.label)
    fields[-1].set_xlabel("writes of a cell")
    legend_below(figure, shown.items())
    caption = (
        f"Mean {metric.name} on the chip that a network was tuned on, over the mean writes of a "
        f"cell; bars are a standard deviation over {counted_in(tunings.rows, 'chips', 'chip')}. "
        "Hollow marks and the square have the calibration of each chip, which adds digital weights "
        "and no writes."
    )
    return Plot("tunings-front", "Score and cost of tuning", caption, figure, tunings)


def course(entries: Table, metric: Metric) -> Plot | None:
    """Draw the score on the chip over samples, one field a network and fresh variation."""
    if not entries.rows:
        return None
    groups = grouped(entries.rows, *_NETWORK)
    figure, fields = new_figure(0.9 + 2.2 * len(groups), len(groups))
    shown: dict[str, Look] = {}
    for field, (network, rows) in zip(fields, groups.items(), strict=True):
        for of_way in grouped(rows, "tune", "backward").values():
            look = _look(of_way[0])
            scores = metric.shown(row["score"] for row in of_way)
            field.plot([row["forwards"] for row in of_way], scores, **look)
            shown[_name(of_way[0])] = look
        field.set_title(_title(network))
        field.set_ylabel(metric.label)
    fields[-1].set_xlabel("samples that went through the network in steps")
    legend_below(figure, shown.items())
    caption = (
        f"Mean {metric.name} on the validation part after each epoch, on the chip as far as it "
        "was written then: progressive tuning begins with the first layer on the chip and ends "
        "with the last."
    )
    return Plot("tunings-course", "Course of the tuning", caption, figure, entries)


def _look(row: Row) -> dict[str, Any]:
    way = (row["tune"], row["backward"])
    index = _WAYS.index(way) if way in _WAYS else len(_WAYS)
    return {"color": color_of(index), "marker": "o"}


def _hollow(look: Look) -> dict[str, Any]:
    return {**look, "markerfacecolor": "none"}


def _name(row: Row) -> str:
    return f"{row['tune']}, {row['backward']}"


def _title(network: tuple[Any, ...]) -> str:
    training, compensation, fresh = network
    return f"{', '.join(filter(None, (training, compensation)))}; fresh at a write: {fresh:g}"
