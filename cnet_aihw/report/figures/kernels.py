"""Figures of kernel features: accuracy and error over the size, and expected against measured."""

from __future__ import annotations

from typing import Any

from cnet_aihw.report.figures.plot import Look, Plot, grouped, legend_below
from cnet_aihw.report.style import QUIET, color_of, new_figure
from cnet_aihw.report.tables import Metric, Table

_SOFTWARE: Look = {"linestyle": "--", "marker": "o", "markerfacecolor": "white"}
_CHIPS: Look = {"linestyle": "-", "marker": "o"}
_PREDICTED: Look = {"linestyle": ":", "marker": ""}


def over_size(found: Table, metric: Metric) -> Plot | None:
    """Draw score and error of the kernel over log2 s/d, one line of fields a kernel."""
    rows = [row for row in found.rows if row.get("log2_ratio") is not None]
    if not rows:
        return None
    kernels = grouped(rows, "kernel")
    figure, fields = new_figure(0.9 + 2.0 * 2 * len(kernels), 2 * len(kernels))
    names = list(grouped(rows, "features"))
    for place, (kernel, of_kernel) in enumerate(kernels.items()):
        score, error = fields[2 * place], fields[2 * place + 1]
        for features, line in grouped(of_kernel, "features").items():
            line = sorted(line, key=lambda row: float(row["log2_ratio"]))
            color = color_of(names.index(features))
            _line(score, line, "clean", {**_SOFTWARE, "color": color}, metric)
            _line(score, line, "mean", {**_CHIPS, "color": color}, metric)
            _line(error, line, "clean_error", {**_SOFTWARE, "color": color})
            _line(error, line, "error", {**_CHIPS, "color": color})
            _line(error, line, "predicted_error", {**_PREDICTED, "color": color})
        score.set_title(kernel)
        score.set_ylabel(metric.label)
        error.set_title(kernel)
        error.set_ylabel("error of the kernel")
        error.set_ylim(bottom=0.0)
    fields[-1].set_xlabel("log2 s/d")
    colors: list[tuple[str, Look]] = [
        (str(name), {"color": color_of(n), "linewidth": 4}) for n, name in enumerate(names)
    ]
    looks = [("in software", _SOFTWARE), ("on chips", _CHIPS), ("predicted on chips", _PREDICTED)]
    legend_below(figure, colors, looks)
    caption = (
        "Score, and error of the kernel, over the rows of the projection for each column of the "
        "data: in software, on chips, and the closed form of the error for independent rows."
    )
    return Plot("kernels-size", "Kernel features over their number", caption, figure, found)


def _line(field: Any, rows: Any, name: str, look: Look, metric: Metric | None = None) -> None:
    drawn = [row for row in rows if row.get(name) is not None]
    values = [row[name] for row in drawn]
    shown = values if metric is None else metric.shown(values)
    field.plot([row["log2_ratio"] for row in drawn], shown, **look)


def expected(pairs: Table) -> Plot | None:
    """Draw measured values of kernels over exact and expected ones."""
    if not pairs.rows:
        return None
    kernels = grouped(pairs.rows, "kernel")
    figure, fields = new_figure(0.9 + 2.6 * len(kernels), len(kernels))
    looks: dict[str, Look] = {
        "exact": {"color": QUIET, "marker": "o", "linestyle": "none", "markerfacecolor": "white"},
        "expected": {"color": color_of(0), "marker": "o", "linestyle": "none"},
    }
    for field, (kernel, rows) in zip(fields, kernels.items(), strict=True):
        for name, look in looks.items():
            line = [row for row in rows if row[name] is not None]
            field.plot([r[name] for r in line], [r["measured"] for r in line], **look)
        reach = [row[n] for row in rows for n in ("exact", "measured")]
        field.plot([min(reach), max(reach)], [min(reach), max(reach)], color=QUIET, linewidth=1)
        field.set_title(f"{kernel}, s {rows[0]['s']}")
        field.set_ylabel("measured, mean over chips")
    fields[-1].set_xlabel("kernel between two samples")
    legend_below(figure, looks.items())
    caption = (
        "The kernel between pairs of samples as chips compute it, the mean over five of them, "
        "against the exact one and the one expected over features and chips, where it has a closed "
        "form."
    )
    return Plot("kernels-expected", "Expected and measured kernel", caption, figure, pairs)
