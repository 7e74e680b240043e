"""Figures of uncertainty: reliability, and scores over samples and over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cnet_aihw.report.figures.plot import Look, Plot, Row, grouped, legend_below
from cnet_aihw.report.style import QUIET, color_of, new_figure
from cnet_aihw.report.tables import Table

_MARKERS = {"none": "o", "temperature": "s", "logit_affine": "^"}
_SCORES = (("nll", "NLL / nats"), ("ece", "ECE"))


def reliability(diagrams: Table) -> Plot | None:
    """Draw the share correct over the confidence, one line a method and correction."""
    if not diagrams.rows:
        return None
    groups = grouped(diagrams.rows, "training")
    figure, fields = new_figure(0.9 + 2.6 * len(groups), len(groups))
    shown: dict[str, Look] = {}
    methods = _methods(diagrams.rows)
    for field, (training, rows) in zip(fields, groups.items(), strict=True):
        field.plot([0.0, 1.0], [0.0, 1.0], color=QUIET, linestyle=":")
        for (method, correction), bins in grouped(rows, "method", "correction").items():
            look = _look(methods, method, correction)
            shown[_name(method, correction)] = look
            x, y = [[row[n] for row in bins] for n in ("confidence", "accuracy")]
            field.plot(x, y, **look)
        field.set_title(training)
        field.set_ylabel("share correct")
    fields[-1].set_xlabel("mean largest probability")
    legend_below(figure, shown.items())
    caption = (
        "Share of correct predictions over their largest probability, in 15 bins of equal width, "
        "at the first time and with the most samples, over all chips. On the dotted line "
        "confidence is right; below it a network is overconfident."
    )
    return Plot("uncertainty-reliability", "Reliability", caption, figure, diagrams)


def over_samples(found: Table) -> Plot | None:
    """Draw NLL and ECE over the number of samples, at the first time."""
    first = {(r["training"], r["method"], r["correction"]): r["t_inference"] for r in
             reversed(found.rows)}  # fmt: skip
    rows = [
        r
        for r in found.rows
        if r["t_inference"] == first[r["training"], r["method"], r["correction"]]
    ]
    plot = _curves(rows, "samples", found)
    if plot is None:
        return None
    figure, caption = plot
    caption = f"{caption} over the samples of a prediction, at the first time."
    return Plot("uncertainty-samples", "Scores over samples", caption, figure, found)


def over_time(found: Table) -> Plot | None:
    """Draw NLL and ECE over time, with the most samples; None without several times."""
    most: dict[Any, int] = {}
    for r in found.rows:
        key = (r["training"], r["method"], r["correction"])
        most[key] = max(most.get(key, 0), r["samples"])
    rows = [
        r
        for r in found.rows
        if r["t_inference"] and r["samples"] == most[r["training"], r["method"], r["correction"]]
    ]
    if len({r["t_inference"] for r in rows}) < 2:
        return None
    plot = _curves(rows, "t_inference", found)
    assert plot is not None
    figure, caption = plot
    caption = f"{caption} over the seconds since programming, with the most samples."
    return Plot("uncertainty-time", "Scores over time", caption, figure, found)


def _curves(rows: list[Row], along: str, found: Table) -> tuple[Any, str] | None:
    if not rows:
        return None
    groups = grouped(rows, "training")
    figure, fields = new_figure(0.9 + 3.6 * len(groups), 2 * len(groups))
    shown: dict[str, Look] = {}
    methods = _methods(found.rows)
    pairs = [(training, of, score) for training, of in groups.items() for score in _SCORES]
    for field, (training, of, (score, label)) in zip(fields, pairs, strict=True):
        for (method, correction), line in grouped(of, "method", "correction").items():
            look = _look(methods, method, correction)
            shown[_name(method, correction)] = look
            field.plot([r[along] for r in line], [r[score] for r in line], **look)
        field.set_xscale("log")
        if along == "samples":
            counts = sorted({r[along] for r in of})
            field.set_xticks(counts, [str(count) for count in counts])
            field.minorticks_off()
        field.set_title(training)
        field.set_ylabel(label)
    fields[-1].set_xlabel("samples" if along == "samples" else "seconds since programming")
    legend_below(figure, shown.items())
    return figure, "Mean negative log likelihood and expected calibration error over chips"


def _name(method: str, correction: str) -> str:
    return method if correction in ("none", method) else f"{method}, {correction}"


def _methods(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["method"] for row in rows))


def _look(methods: list[str], method: str, correction: str) -> dict[str, Any]:
    return {
        "color": color_of(methods.index(method)),
        "marker": _MARKERS.get(correction, "o"),
        "markersize": 3,
        "linestyle": "-" if correction == "none" else "--",
    }
