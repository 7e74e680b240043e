"""Figures of scores on chips."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from cnet_aihw.report.figures.plot import (
    NETWORK,
    Colors,
    Look,
    Plot,
    Row,
    grouped,
    legend_below,
    look_of,
    network_entries,
)
from cnet_aihw.report.style import QUIET, new_figure
from cnet_aihw.report.tables import ACCURACY, Metric, Table

_BINS = 24
_DOTS: Look = {"marker": "o", "markersize": 3.5, "linestyle": "none"}


def _network(row: Row) -> tuple[object, ...]:
    return tuple(row.get(name) for name in NETWORK)


def histogram(
    chips: Table, results: Table, colors: Colors, metric: Metric = ACCURACY
) -> Plot | None:
    """Draw how many chips have which score, one field per training, at the first time."""
    if not chips.rows:
        return None
    first_times = {
        network: rows[0]["t_inference"] for network, rows in grouped(chips.rows, *NETWORK).items()
    }
    rows = [row for row in chips.rows if first_times[_network(row)] == row["t_inference"]]
    means = {
        _network(row): row["mean"]
        for row in reversed(results.rows)  # so that the first time stays
    }
    scores = metric.shown(row["score"] for row in rows)
    low, high = min(scores), max(scores)
    spread = max(high - low, 1.0 if metric.unit else 1e-6)
    edges = [low + spread * step / _BINS for step in range(_BINS)]
    edges.append(max(low + spread, high))  # rounding must not leave out the best chip
    trainings = grouped(rows, "training")
    figure, fields = new_figure(0.75 + 1.15 * len(trainings), len(trainings), sharex=True)
    top = 0.0
    for field, (training, of_training) in zip(fields, trainings.items(), strict=True):
        for network, of_network in grouped(of_training, *NETWORK).items():
            (mean,) = metric.shown([means[network]])
            top = max(top, _draw(field, of_network, mean, edges, colors[training], metric))
        field.set_title(training)
        field.set_ylabel("chips")
        field.grid(axis="x", visible=False)
    for field in fields:
        field.set_ylim(0.0, 1.1 * top)
        field.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    fields[-1].set_xlabel(f"{metric.name} of a chip{', %' if metric.unit else ''}")
    if any(row["compensation"] is not None for row in rows):
        fill = {"marker": "s", "markersize": 8, "linestyle": "none"}
        hollow = {**fill, "markerfacecolor": "white", "markeredgecolor": QUIET}
        legend_below(figure, [("as trained", hollow), ("with compensation", fill)])
    caption = (
        f"How many chips have which {metric.name} on the test part. All networks were programmed "
        "onto the same chips; a vertical line is the mean over chips."
    )
    return Plot("chips", f"{metric.title} of each chip", caption, figure, chips)


def _draw(
    field: Axes, rows: list[Row], mean: float, edges: list[float], color: str, metric: Metric
) -> float:
    """Draw one network's chips; return the height of the highest bar."""
    plain = rows[0]["compensation"] is None
    scores = metric.shown(row["score"] for row in rows)
    if plain:
        heights, _, _ = field.hist(scores, edges, histtype="step", color=QUIET, linewidth=1.2)
    else:
        heights, _, _ = field.hist(scores, edges, color=color, alpha=0.55)
    field.axvline(mean, color=QUIET if plain else color, linestyle="--" if plain else "-")
    return float(max(heights))


def before_after(chips: Table, colors: Colors, metric: Metric = ACCURACY) -> Plot | None:
    """Draw the score of each chip without and with compensation, one field per network."""
    if not chips.rows:
        return None
    networks = grouped(chips.rows, *NETWORK)
    figure, fields = new_figure(0.75 + 1.4 * len(networks), len(networks), sharex=True)
    for field, rows in zip(fields, networks.values(), strict=True):
        ordered = sorted(rows, key=lambda row: row["without"])
        places, color = range(len(ordered)), colors[rows[0]["training"]]
        without, fitted = (
            metric.shown(row[name] for row in ordered) for name in ("without", "with")
        )
        (clean,) = metric.shown([rows[0]["clean"]])
        field.vlines(places, without, fitted, color=color, alpha=0.35, linewidth=1.0)
        field.plot(places, without, **_DOTS, color=QUIET, markerfacecolor="white")
        field.plot(places, fitted, **_DOTS, color=color)
        field.axhline(clean, color=color, linestyle=":", linewidth=1.0)
        field.set_title(", ".join(filter(None, (rows[0]["training"], rows[0]["compensation"]))))
        field.set_ylabel(metric.label)
        field.grid(axis="x", visible=False)
        field.xaxis.set_major_locator(MaxNLocator(integer=True))
    fields[-1].set_xlabel("chips, in the order of their scores without compensation")
    legend_below(
        figure,
        [
            ("without", {**_DOTS, "markerfacecolor": "white"}),
            ("with compensation", _DOTS),
            ("clean network", {"linestyle": ":"}),
        ],
    )
    caption = (
        f"{metric.title} of each chip on the test part, without and with compensation; a "
        "line joins the two scores of a chip. Dotted: the clean network without compensation."
    )
    return Plot("before-after", "Each chip before and after", caption, figure, chips)


def over_time(results: Table, colors: Colors, metric: Metric = ACCURACY) -> Plot | None:
    """Draw the score against the time since programming, where there are several times."""
    rows = [row for row in results.rows if row["t_inference"] is not None]
    if len(grouped(rows, "t_inference")) < 2:
        return None
    figure, (field,) = new_figure(3.4)
    for of_network in grouped(rows, *NETWORK).values():
        times = [row["t_inference"] for row in of_network]
        color = colors[of_network[0]["training"]]
        band(field, times, of_network, color, metric)
        mean = metric.shown(row["mean"] for row in of_network)
        field.plot(times, mean, color=color, **look_of(of_network[0]))
    field.set_xscale("symlog" if any(row["t_inference"] == 0 for row in rows) else "log")
    field.set_xlabel("time since programming, s")
    field.set_ylabel(f"{metric.name} on chips{', %' if metric.unit else ''}")
    legend_below(figure, *network_entries(rows, colors))
    caption = (
        f"Mean {metric.name} over chips against the time since programming; the bands are one "
        "standard deviation over chips to each side."
    )
    return Plot("time", f"{metric.title} over time", caption, figure, results)


def band(field: Axes, x: list[float], rows: list[Row], color: str, metric: Metric) -> None:
    """Shade one standard deviation over chips to each side of the mean."""
    mean = metric.shown(row["mean"] for row in rows)
    std = metric.shown(row["std"] or 0.0 for row in rows)
    low = [m - s for m, s in zip(mean, std, strict=True)]
    high = [m + s for m, s in zip(mean, std, strict=True)]
    field.fill_between(x, low, high, color=color, alpha=0.13, linewidth=0)
