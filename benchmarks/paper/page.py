"""Tables of docs/rows.md and its figure, from benchmarks/results/paper.json and ablations.json."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from scipy.special import stdtrit

from benchmarks.common import result
from benchmarks.figures import draw_sigmas
from benchmarks.tables import OVER_CHIPS, table
from cnet_aihw.evaluation import chip_statistics

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
"""Networks that a recipe chose, beside those of the methods."""

PREDICTED = 4
"""Trainings of which each is held against the others; two others would say too little."""

CELLS = (
    f"sigma | method=words | per chip | trained at=trained_at | weights +% | MACs +% | {OVER_CHIPS}"
    " | seed | yield %=yield:.0% | recovery %=recovery:.2% | seconds=seconds:.0f"
)
ABLATIONS = (
    "setting | network=problem | training | value | epochs | clean %=validation_clean:.2% | "
    "mean on chips %=validation_chips_mean:.2% | std=validation_chips_std:.2%"
)
CHOICES = "row=title | network | per chip | mean % | std"
Cell = Mapping[str, Any]


def blocks() -> dict[str, str]:
    """Draw the figure; return the tables."""
    found = result("paper")
    there = [_described(cell) for cell in found["rows"] if "missing" not in cell]
    first = [cell for cell in there if cell["seed"] == 0]
    if first:
        draw_sigmas(first, METHODS)
    made = {"summary": summary(first)}
    for cell in found["rows"]:
        if "missing" in cell:
            made[cell["row"]] = f"No figures: {cell['missing']}. Command: `{cell['command']}`."
        elif cell["row"] not in made:
            made[cell["row"]] = section([c for c in there if c["row"] == cell["row"]])
    # Candidates at sigma 0.5; those of all sigmas would be too many for a page.
    choices = [c for c in found["choices"] if (c["sigma"], c["seed"]) == (0.5, 0)]
    choices = [{**choice, "per chip": _per_chip(choice["calibration"])} for choice in choices]
    return made | {
        "repetitions": repetitions(there),
        "ablations": table(result("ablations")["rows"], ABLATIONS),
        "choices": table(choices, CHOICES),
    }


def summary(cells: Sequence[Cell]) -> str:
    """Recovery by method and network; in brackets that with BatchNorm re-estimated on each chip."""
    titles = dict.fromkeys(cell["title"] for cell in cells)
    rows = []
    for method, words in METHODS.items():
        row = {"recovery in %": words}
        for title in titles:
            found = [
                f"{100 * cell['recovery']:.2f}" for cell in cells
                if (cell["title"], cell["method"], cell["sigma"]) == (title, method, 0.5)
            ]  # fmt: skip
            row[title] = f"{found[0]} ({found[1]})" if len(found) > 1 else "".join(found)
        rows.append(row)
    return table(rows, " | ".join(["recovery in %", *titles]))


def section(cells: Sequence[Cell]) -> str:
    """The table of one row of the paper."""
    cells = sorted(cells, key=lambda cell: (cell["seed"], cell["sigma"]))  # keeps methods' order
    about = "{epochs} epochs, {test_samples} test images; {hardware}.".format(**cells[0])
    return f"{about} Seconds are those of training and fit.\n\n{table(cells, CELLS)}"


def repetitions(cells: Sequence[Cell]) -> str:
    """Rows that were run with several seeds: each mean with its 95 % interval over chips."""
    grouped: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in cells:
        # a recipe's calibration is a part of what was chosen, each time again
        calibration = None if cell["method"] in RECIPES else cell["calibration"]
        key = (cell["title"], cell["sigma"], cell["method"], calibration)
        grouped.setdefault(key, []).append(cell)
    rows = []
    overlapping: dict[str, list[bool]] = {}
    predicted: list[bool] = []
    for (title, sigma, method, calibration), found in grouped.items():
        if len(found) == 1:
            continue
        what, means = f"{title}, sigma {sigma:g}", [cell["mean"] for cell in found]
        overlapping.setdefault(what, []).extend(_overlap(*two) for two in combinations(found, 2))
        inside = _as_predicted(means) if len(means) >= PREDICTED else []
        predicted += inside
        low, high = max(cell["ci95"][0] for cell in found), min(cell["ci95"][1] for cell in found)
        rows.append({
            "row": what,
            "method": METHODS[method],
            "per chip": "as chosen" if calibration is None else _per_chip(calibration),
            "means": "; ".join(f"{100 * cell['mean']:.2f} {_interval(cell)}" for cell in found),
            "overlap": "yes" if low <= high else f"no, {100 * (low - high):.2f} apart",
            "over trainings": _over_trainings(means),
            "as the others predict": _share(inside) if inside else "-",
        })  # fmt: skip
    if not rows:
        return "Not repeated yet."
    counted = "; ".join(f"{what}: {_share(found)}" for what, found in overlapping.items())
    words = f"Of each two trainings, intervals over chips that overlap: {counted}."
    if predicted:
        share = 100 * sum(predicted) / len(predicted)
        words += f" As the others predict: {_share(predicted)} ({share:.0f} %)."
    return f"{words}\n\n{table(rows, ' | '.join(rows[0]))}"


def _described(cell: Cell) -> Cell:
    """A cell with the words of its method, and of its calibration."""
    words = METHODS[cell["method"]]
    if cell["method"] in RECIPES:
        network = str(cell["network"]).partition("-")[0]
        words = f"{words}: {NETWORKS.get(network) or METHODS[network]}"
    return {**cell, "words": words, "per chip": _per_chip(cell["calibration"])}


def _per_chip(calibration: str) -> str:
    return "-" if calibration == NONE else calibration


def _overlap(one: Cell, other: Cell) -> bool:
    (low, high), (other_low, other_high) = one["ci95"], other["ci95"]
    return bool(low <= other_high and other_low <= high)


def _share(said: Sequence[bool]) -> str:
    return f"{sum(said)} of {len(said)}"


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
