"""Figures along the network: growth of the error, sensitivity, placement."""

from __future__ import annotations

from matplotlib.axes import Axes

from cnet_aihw.report.figures.plot import (
    NETWORK,
    Colors,
    Look,
    Plot,
    Row,
    along_network,
    beside,
    grouped,
    legend_below,
    look_of,
    network_entries,
    whole_numbers,
    with_colors,
)
from cnet_aihw.report.style import FAINT, QUIET, color_of, new_figure
from cnet_aihw.report.tables import ACCURACY, Metric, Table, counted_in

_MODES = {
    "suffix": "variation in this layer and all behind it",
    "single": "variation in this layer alone",
}


_DASHES = ("-", "--", ":", "-.")


def error_growth(growth: Table, colors: Colors) -> Plot | None:
    """Draw the relative error of each layer's output on chips."""
    rows = list(growth.rows)
    if not rows:
        return None
    figure, (field,) = new_figure(3.6)
    places = along_network(field, list(grouped(rows, "layer")))
    networks = grouped(rows, *NETWORK).values()
    for shift, of_network in zip(beside(len(networks)), networks, strict=True):
        x = [places[row["layer"]] + shift for row in of_network]
        color = colors[of_network[0]["training"]]
        low, high = ([row[name] for row in of_network] for name in ("low", "high"))
        field.vlines(x, low, high, color=color, alpha=0.5, linewidth=1.0)
        mean = [row["mean"] for row in of_network]
        field.plot(x, mean, color=color, **look_of(of_network[0]))
    field.set_ylim(bottom=0.0)
    field.set_ylabel("relative error of the output")
    legend_below(figure, *network_entries(rows, colors))
    caption = (
        "How far each layer's output on a chip is from that of the clean network: norm of the "
        "difference / norm of the clean output, after compensation where a layer has it. Lines are "
        f"means over {counted_in(rows, 'chips', 'chip')} and "
        f"{counted_in(rows, 'samples', 'validation sample')}; upright lines reach from the "
        "smallest to the largest of these chips."
    )
    return Plot("error-growth", "Growth of the error", caption, figure, growth)


def sensitivity(
    scan: Table, colors: Colors, thresholds: dict[str, float], metric: Metric = ACCURACY
) -> Plot | None:
    """Draw the score with variation in some layers only.

    Args:
        scan: the scans.
        colors: of the trainings.
        thresholds: of each training, the score beyond which layers became candidates.
        metric: the score.
    """
    if not scan.rows:
        return None
    modes, colors = grouped(scan.rows, "mode"), with_colors(scan.rows, colors)
    figure, fields = new_figure(0.9 + 2.1 * len(modes), len(modes), sharex=True)
    layers = list(grouped(scan.rows, "layer"))
    for field, (mode, rows) in zip(fields, modes.items(), strict=True):
        places = along_network(field, layers)
        trainings = grouped(rows, "training")
        for shift, (training, of_training) in zip(
            beside(len(trainings)), trainings.items(), strict=True
        ):
            x = [places[row["layer"]] + shift for row in of_training]
            _with_interval(field, x, of_training, colors[training], metric)
            if training in thresholds:
                (threshold,) = metric.shown([thresholds[training]])
                field.axhline(threshold, color=colors[training], linestyle=":", linewidth=1.0)
        field.set_title(_MODES[mode])
        field.set_ylabel(metric.label)
    entries: list[tuple[str, Look]] = [
        (name, {"color": color, "marker": "o"}) for name, color in colors.items()
    ]
    if thresholds:
        entries.append(("threshold of candidates", {"linestyle": ":"}))
    legend_below(figure, entries)
    chips = counted_in(scan.rows, "chips", "chip")
    caption = (
        f"Mean {metric.name} on the validation part over {chips} whose variation is in some layers "
        "only, with its 95 % confidence interval. Layers up to the last one that misses the "
        "threshold (upper field), or those that miss it (lower field), are candidates for "
        "compensation."
    )
    return Plot("sensitivity", "Sensitivity of the layers", caption, figure, scan)


def _with_interval(
    field: Axes, x: list[float], rows: list[Row], color: str, metric: Metric
) -> None:
    mean = metric.shown(row["mean"] for row in rows)
    field.plot(x, mean, color=color, marker="o")
    if all(row["ci95_low"] is not None for row in rows):
        low, high = (metric.shown(row[n] for row in rows) for n in ("ci95_low", "ci95_high"))
        if metric.unit == "%":  # of few chips the interval passes what can be
            low, high = [max(value, 0.0) for value in low], [min(value, 100.0) for value in high]
        field.vlines(x, low, high, color=color, linewidth=1.0)


def filters(worth: Table, colors: Colors) -> Plot | None:
    """Draw what is left of the error of each layer's output with more and more filters."""
    if not worth.rows:
        return None
    trainings = grouped(worth.rows, "training")
    figure, fields = new_figure(0.9 + 1.7 * len(trainings), len(trainings), sharex=True)
    layers = list(grouped(worth.rows, "layer"))
    looks: dict[str, Look] = {
        layer: {"color": color_of(i % 7), "linestyle": _DASHES[i // 7 % len(_DASHES)]}
        for i, layer in enumerate(layers)
    }
    for field, (training, rows) in zip(fields, trainings.items(), strict=True):
        for layer, of_layer in grouped(rows, "layer").items():
            x = [row["filters"] for row in of_layer]
            field.plot(x, [100.0 * row["error"] for row in of_layer], **looks[layer])
            chosen = [row for row in of_layer if row["filters"] == row["placed"]]
            for row in chosen:
                field.plot(row["filters"], 100.0 * row["error"], marker="o", **looks[layer])
        field.set_title(training, color=colors[training])
        field.set_ylabel("left, %")
        field.set_ylim(bottom=0.0)
        whole_numbers(field)
    fields[-1].set_xlabel("filters of the corrector")
    legend_below(figure, list(looks.items()))
    caption = (
        "What each further filter of a corrector is worth: variance of the error that is left in a "
        "layer's output / variance of the wanted output, on one validation chip, with earlier "
        "layers corrected. No filter: a factor and an offset for each channel. Dots mark the "
        "number of filters that the layer has."
    )
    return Plot("filters", "Worth of further filters", caption, figure, worth)


def placement(placed: Table, colors: Colors) -> Plot | None:
    """Draw the ratio of each layer, and its cost."""
    if not placed.rows:
        return None
    trainings = grouped(placed.rows, "training")
    layers = list(grouped(placed.rows, "layer"))
    most = max(8, *(_filters(row["ratio"]) for row in placed.rows))
    figure, fields = new_figure(0.8 + 1.3 * len(trainings), len(trainings), sharex=True)
    for field, (training, rows) in zip(fields, trainings.items(), strict=True):
        places = along_network(field, layers)
        for row in rows:
            _bar(field, row, places[row["layer"]], colors[training], len(layers), most)
        field.set_ylim(0.0, 1.3)
        field.set_yticks([0.0, 0.5, 1.0])
        field.set_ylabel("ratio")
        field.set_title(training)
    entries: list[tuple[str, Look]] = [
        ("compensation", {"marker": "s", "markersize": 8, "linestyle": "none"}),
        ("candidate", {"color": FAINT, "linewidth": 8}),
    ]
    if any(row["ratio"] == "digital" for row in placed.rows):
        hollow = {"marker": "s", "markersize": 8, "linestyle": "none", "markerfacecolor": "white"}
        entries.insert(1, ("digital", hollow))
    legend_below(figure, entries)
    caption = (
        "Placement of compensation along the network: generator filters / filters of the layer "
        f"(where numbers of filters were chosen, 1 + that number / {most}), with the number of "
        "weights that it adds. Layers on grey were candidates; a digital layer has left the "
        "crossbar."
    )
    return Plot("placement", "Placement of compensation", caption, figure, placed)


def _filters(ratio: float | str) -> int:
    """Return 1 + the number of filters of a size such as "size 2"; 0 of a ratio or digital."""
    sized = isinstance(ratio, str) and ratio != "digital"
    return 1 + int(str(ratio).split()[1]) if sized else 0


def _height(ratio: float | str, most: int) -> float:
    """Return a ratio, or 1 + the number of filters of a size as a share of the most."""
    return _filters(ratio) / most if isinstance(ratio, str) else ratio


def _bar(field: Axes, row: Row, place: int, color: str, layers: int, most: int) -> None:
    if row["candidate"]:
        field.axvspan(place - 0.45, place + 0.45, color=FAINT, alpha=0.5, linewidth=0)
    digital = row["ratio"] == "digital"
    height = 1.0 if digital else _height(row["ratio"], most)
    if not height:
        return
    look: Look = {"facecolor": "white", "hatch": "////"} if digital else {"facecolor": color}
    field.bar(place, height, 0.6, edgecolor=color, **look)
    text = f"+{row['weights']:,}"
    size = 8 if layers <= 12 else 6
    field.annotate(
        text,
        (place, height),
        (0, 2),
        textcoords="offset points",
        ha="center",
        fontsize=size,
        color=QUIET,
    )
