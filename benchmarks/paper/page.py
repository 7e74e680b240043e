"""docs/rows.md and its figure, from benchmarks/results/paper.json and ablations.json alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from scipy.special import stdtrit

from benchmarks.tables import CHIPS, percent, table, text
from cnet_aihw.evaluation import chip_statistics
from cnet_aihw.report.style import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    figure_style,
    new_figure,
)
from cnet_aihw.runtime.records import read_json

HERE = Path(__file__).parents[1]
PAGE = HERE.parent / "docs" / "rows.md"
IMAGE = HERE.parent / "docs" / "images" / "rows.png"
NONE = "none"
METHODS = {
    "plain": "plain training",
    "lipschitz": "Lipschitz penalty",
    "noise": "noise injection, same sigma",
    "noise_best": "noise injection, sigma best on validation",
    "noise_from_plain": "noise injection from the plain network's weights",
    "lipschitz_noise": "penalty and noise injection",
    "correctnet": "CorrectNet: penalty, compensation placed by PPO",
    "digital": "penalty, sensitive layers digital",
    "recipe": "best recipe",
    "recipe_macs": "best recipe that adds at most 5 % of the MACs",
}
RECIPES = ("recipe", "recipe_macs")
SHOWN = {
    "plain": VERMILLION,
    "noise": ORANGE,
    "noise_from_plain": SKY,
    "correctnet": BLUE,
    "digital": GREEN,
    "recipe": PURPLE,
    "recipe_macs": BLACK,
}
NETWORKS = {
    "correctnet_per_chip": "CorrectNet, fitted with BatchNorm per chip",
    "noise_digital": "noise injection with sensitive layers digital from the start",
    "noise_digital_from_plain": "noise injection from the plain network's weights, sensitive "
    "layers digital",
    "ramped_compensated": "noise injection that grows over half of the epochs, compensation placed "
    "by `surrogate`",
    "noise_ramped": "noise injection that grows over half of the epochs",
    "both_compensated": "penalty and noise injection, compensation placed by `surrogate`",
    "plain_centred": "plain training, weights divided by the mean of their factor",
    "lipschitz_centred": "Lipschitz penalty, weights divided by the mean of their factor",
}
PREDICTED = 4
"""Trainings of which each is held against the others; two others would say too little."""

Cell = Mapping[str, Any]


def write_page() -> None:
    """Write page and figure."""
    found = read_json(HERE / "results" / "paper.json")
    cells = found["rows"]
    there = [cell for cell in cells if "missing" not in cell]
    first = [cell for cell in there if cell["seed"] == 0]
    parts = [_words("intro"), "## At sigma 0.5", summary(first)]
    parts.append("In brackets: with BatchNorm re-estimated on each chip. Means, quantiles: below.")
    if first:
        write_figure(first)
        parts.append("![Accuracy on chips by sigma](images/rows.png)")
    parts.append(_words("findings"))
    for name in dict.fromkeys(cell["row"] for cell in cells):
        parts += section([cell for cell in cells if cell["row"] == name])
    parts.append(_words("published"))
    parts += repetitions(there) + ablations() + choices(found["choices"])
    PAGE.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def summary(cells: Sequence[Cell]) -> str:
    """Recovery by method and network; in brackets that with BatchNorm re-estimated on each chip."""
    titles = dict.fromkeys(cell["title"] for cell in cells)
    lines = ["| recovery in % | " + " | ".join(titles) + " |", "|" + "---|" * (1 + len(titles))]
    for method, words in METHODS.items():
        values = []
        for title in titles:
            found = [
                f"{100 * cell['recovery']:.2f}" for cell in cells
                if (cell["title"], cell["method"], cell["sigma"]) == (title, method, 0.5)
            ]  # fmt: skip
            values.append(f"{found[0]} ({found[1]})" if len(found) > 1 else "".join(found) or "-")
        lines.append(f"| {words} | " + " | ".join(values) + " |")
    return "\n".join(lines)


def section(cells: Sequence[Cell]) -> list[str]:
    """The table of one row, or why there is none."""
    title = f"## {cells[0]['title']}"
    if "missing" in cells[0]:
        return [title, f"No figures: {cells[0]['missing']}. Command: `{cells[0]['command']}`."]
    cells = sorted(cells, key=lambda cell: (cell["seed"], cell["sigma"]))  # keeps methods' order
    cell = cells[0]
    words = f"{cell['epochs']} epochs, {cell['test_samples']} test images; {cell['hardware']}."
    columns = {
        "sigma": text("sigma"),
        "method": _method,
        "per chip": lambda cell: "-" if cell["calibration"] == NONE else cell["calibration"],
        "trained at": text("trained_at"),
        "weights +%": percent("overhead_weights"),
        "MACs +%": percent("overhead_macs"),
        **CHIPS,
        "yield %": percent("yield", 0),
        "recovery %": percent("recovery"),
        "seconds": lambda cell: f"{cell['seconds']:.0f}",
    }
    return [title, words + " Seconds are those of training and fit.", table(cells, columns)]


def repetitions(cells: Sequence[Cell]) -> list[str]:
    """Rows that were run with several seeds: each mean with its 95 % interval over chips."""
    grouped: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in cells:
        # a recipe's calibration is a part of what was chosen, each time again
        calibration = None if cell["method"] in RECIPES else cell["calibration"]
        key = (cell["title"], cell["sigma"], cell["method"], calibration)
        grouped.setdefault(key, []).append(cell)
    several = {key: found for key, found in grouped.items() if len(found) > 1}
    if not several:
        return []
    rows = []
    overlapping: dict[str, list[bool]] = {}
    predicted: list[bool] = []
    for (title, sigma, method, calibration), found in several.items():
        what, means = f"{title}, sigma {sigma:g}", [cell["mean"] for cell in found]
        overlapping.setdefault(what, []).extend(_overlap(*two) for two in combinations(found, 2))
        inside = _as_predicted(means) if len(means) >= PREDICTED else []
        predicted += inside
        low = max(cell["ci95"][0] for cell in found)
        high = min(cell["ci95"][1] for cell in found)
        rows.append(
            {
                "row": what,
                "method": METHODS[method],
                "per chip": {None: "as chosen", NONE: "-"}.get(calibration, calibration),
                "means": "; ".join(f"{100 * cell['mean']:.2f} {_interval(cell)}" for cell in found),
                "overlap": "yes" if low <= high else f"no, {100 * (low - high):.2f} apart",
                "over trainings": _over_trainings(means),
                "as the others predict": _share(inside) if inside else "-",
            }
        )
    words = (
        "Everything again with another seed: first weights, order, variation in training, fits and "
        "searches; chips of the test the same. The interval behind each mean is that over its "
        "chips (95 %, Student's t), which does not hold what differs between trainings. Of three "
        "trainings or more, mean, standard deviation and interval over them; of four or more, how "
        "many lie in the interval (95 %) that the others predict for one more training."
    )
    counted = [f"{what}: {_share(found)}" for what, found in overlapping.items()]
    words += f" Of each two trainings, intervals over chips that overlap: {'; '.join(counted)}."
    if predicted:
        words += f" As the others predict: {_share(predicted)} "
        words += f"({100 * sum(predicted) / len(predicted):.0f} %)."
    columns = {key: text(key) for key in rows[0]}
    return ["## Repetitions", words, table(rows, columns)]


def _overlap(one: Cell, other: Cell) -> bool:
    (low, high), (other_low, other_high) = one["ci95"], other["ci95"]
    return bool(low <= other_high and other_low <= high)


def _share(said: Sequence[bool]) -> str:
    return f"{sum(said)} of {len(said)}"


def ablations() -> list[str]:
    """Effect of single settings."""
    path = HERE / "results" / "ablations.json"
    if not path.exists():
        return []
    found = read_json(path)
    words = (
        f"Command: `{found['command']}`. Sigma 0.5, short trainings, the last epoch's weights, 20 "
        "chips of the validation part. `k` is that of lambda = k / (mu + 3 s); `width` is that "
        "of VGG16 (1: the paper's); `steps_per_chip` 0 draws new variation at every forward pass. "
        "A training without figures diverged. What beta, the ratio, what compensation reads and "
        "the evaluator are worth: [results](results.md)."
    )
    columns = {
        "setting": text("setting"),
        "network": text("problem"),
        "training": text("training"),
        "value": text("value"),
        "epochs": text("epochs"),
        "clean %": percent("validation_clean"),
        "mean on chips %": percent("validation_chips_mean"),
        "std": percent("validation_chips_std"),
    }
    return ["## Ablations", words, table(found["rows"], columns)]


def choices(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Candidates of the recipes at sigma 0.5; those of all sigmas would be too many for a page."""
    rows = [row for row in rows if (row["sigma"], row["seed"]) == (0.5, 0)]
    if not rows:
        return []
    words = (
        "Means over 20 chips of the validation part, of all that keeps within the limit of 5 %; "
        "the number behind a network is the sigma that it was trained at. Sigma 0.5, seed 0; what "
        "the others were chosen from is in `benchmarks/results/paper.json`."
    )
    columns = {
        "row": text("title"),
        "network": text("network"),
        "per chip": lambda row: "-" if row["calibration"] == NONE else row["calibration"],
        "mean %": percent("mean"),
        "std": percent("std"),
    }
    return ["## What the recipes were chosen from", words, table(rows, columns)]


def write_figure(cells: Sequence[Cell]) -> None:
    """Mean on chips over sigma, a panel for each network."""
    titles = list(dict.fromkeys(cell["title"] for cell in cells))
    with figure_style():
        figure, axes = new_figure(0.8 + 2.4 * len(titles), rows=len(titles), sharex=True)
        for ax, title in zip(axes, titles, strict=True):
            for method, color in SHOWN.items():
                points = sorted(
                    (cell["sigma"], 100 * cell["mean"], 100 * cell["std"]) for cell in cells
                    if (cell["title"], cell["method"]) == (title, method)
                    and (method in RECIPES or cell["calibration"] == NONE)
                )  # fmt: skip
                ax.errorbar(
                    *([point[i] for point in points] for i in (0, 1)),
                    yerr=[point[2] for point in points], marker="o", color=color, capsize=3,
                    label=METHODS[method].partition(":")[0],
                )  # fmt: skip
            ax.set_title(title)
            ax.set_xticks(sorted({cell["sigma"] for cell in cells}))
        axes[-1].set_xlabel("sigma")
        figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        axes[0].set_ylabel("accuracy on chips in %")
        IMAGE.parent.mkdir(exist_ok=True)
        figure.savefig(IMAGE, dpi=160, metadata={"Software": None})


def _words(name: str) -> str:
    return Path(__file__).with_name(f"{name}.md").read_text(encoding="utf-8").rstrip()


def _method(cell: Cell) -> str:
    words = METHODS[cell["method"]]
    if cell["method"] not in RECIPES:
        return words
    network = str(cell["network"]).partition("-")[0]
    return f"{words}: {NETWORKS.get(network) or METHODS[network]}"


def _over_trainings(means: Sequence[float]) -> str:
    if len(means) < 3:
        return "-"
    found = chip_statistics(means).as_record()
    return f"{100 * found['mean']:.2f} +- {100 * found['std']:.2f} {_interval(found)}"


def _as_predicted(means: Sequence[float]) -> list[bool]:
    """Of each, whether it lies in the 95 % interval that the others predict for one more."""
    wide = stdtrit(len(means) - 2, 0.975) * math.sqrt(1 + 1 / (len(means) - 1))
    inside = []
    for i, mean in enumerate(means):
        others = chip_statistics([*means[:i], *means[i + 1 :]]).as_record()
        inside.append(bool(abs(mean - others["mean"]) <= wide * others["std"]))
    return inside


def _interval(cell: Cell) -> str:
    low, high = cell["ci95"]
    return f"({100 * low:.2f} to {100 * high:.2f})"
