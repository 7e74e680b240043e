"""Figures of trainings: their course, and the spectral norms that they end with."""

from __future__ import annotations

from cnet_aihw.report.figures.plot import (
    Colors,
    Look,
    Plot,
    along_network,
    grouped,
    legend_below,
    whole_numbers,
    with_colors,
)
from cnet_aihw.report.style import new_figure
from cnet_aihw.report.tables import ACCURACY, Metric, Table

_CLEAN: Look = {"linestyle": ":"}
_CHIPS: Look = {"linestyle": "-"}


def curves(
    epochs: Table, colors: Colors, fit: bool = False, metric: Metric = ACCURACY
) -> Plot | None:
    """Draw loss and validation score, epoch by epoch."""
    if not epochs.rows:
        return None
    figure, (upper, lower) = new_figure(4.6, 2, sharex=True, height_ratios=[2, 3])
    colors = with_colors(epochs.rows, colors)
    for training, rows in grouped(epochs.rows, "training").items():
        color = colors[training]
        numbers = [row["epoch"] + 1 for row in rows]
        marker = "o" if len(rows) == 1 else None
        upper.plot(numbers, [row["loss"] for row in rows], color=color, marker=marker)
        for name, look in (("clean_score", _CLEAN), ("chip_score", _CHIPS)):
            points = [(row["epoch"] + 1, row[name]) for row in rows if row.get(name) is not None]
            if points:
                x, y = zip(*points, strict=True)
                lower.plot(x, metric.shown(y), color=color, marker=marker, **look)
    figure.align_ylabels()
    upper.set_ylabel("training loss")
    lower.set_ylabel(f"validation {metric.label}")
    lower.set_xlabel("epoch")
    whole_numbers(lower)
    legend_below(
        figure,
        [(name, {"color": color, "linewidth": 4}) for name, color in colors.items()],
        [("clean", _CLEAN), ("on chips", _CHIPS)],
    )
    what = "fit of compensation" if fit else "training"
    caption = (
        f"The course of each {what}: the loss, including the Lipschitz penalty if any, and the "
        f"{metric.name} on the validation part, clean and as the mean over validation chips."
    )
    title = "Course of the fits" if fit else "Course of the trainings"
    return Plot("fit" if fit else "training", title, caption, figure, epochs)


def spectral_norms(norms: Table, colors: Colors) -> Plot | None:
    """Draw the spectral norm of each layer, and lambda."""
    if not norms.rows:
        return None
    figure, (field,) = new_figure(3.4)
    places = along_network(field, list(grouped(norms.rows, "layer")))
    colors = with_colors(norms.rows, colors)
    lambdas: dict[float, str] = {}
    for training, rows in grouped(norms.rows, "training").items():
        x = [places[row["layer"]] for row in rows]
        y = [row["spectral_norm"] for row in rows]
        field.plot(x, y, color=colors[training], marker="o")
        if rows[0]["lambda"] is not None:
            lambdas.setdefault(rows[0]["lambda"], colors[training])
    for value, color in lambdas.items():
        field.axhline(value, color=color, linestyle="--", linewidth=1.2)
    field.set_ylim(bottom=0.0)
    field.set_ylabel("spectral norm")
    legend_below(
        figure,
        [(name, {"color": color, "marker": "o"}) for name, color in colors.items()],
        [
            (f"lambda = {value:.3g}", {"color": color, "linestyle": "--"})
            for value, color in lambdas.items()
        ],
    )
    caption = (
        "The largest singular value of each layer's nominal weights after training, in the order "
        "of registration. Layers under lambda (broken line) do not amplify an error, even at three "
        "sigma of the variation; the Lipschitz penalty pulls all singular values there."
    )
    return Plot("spectral-norms", "Spectral norms", caption, figure, norms)
