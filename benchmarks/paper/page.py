"""Rows of the tables of docs/rows.md, from benchmarks/results/paper.json and ablations.json."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations, product
from typing import Any

from scipy.special import stdtrit

from benchmarks.common import result
from benchmarks.tables import Row
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
    "recipe_macs": "best recipe within 5 % of the MACs",
}
RECIPES = ("recipe", "recipe_macs")
NETWORKS = {
    "correctnet_per_chip": "CorrectNet, fitted with BatchNorm per chip",
    "noise_digital": "noise, sensitive layers digital",
    "noise_digital_from_plain": "noise from plain weights, sensitive layers digital",
    "ramped_compensated": "growing noise, compensation placed by `surrogate`",
    "noise_ramped": "growing noise",
    "both_compensated": "penalty and noise, compensation placed by `surrogate`",
    "plain_centred": "plain training, centred",
    "lipschitz_centred": "Lipschitz penalty, centred",
}
"""Networks that a recipe chose, beside those of the methods."""

PREDICTED = 4
"""Trainings of which each is held against the others; two others would say too little."""

Cell = Mapping[str, Any]


def cells() -> list[Cell]:
    """Return all cells that were measured, with the words of their methods."""
    found = [_described(cell) for cell in result("paper")["rows"] if "missing" not in cell]
    titles = list(dict.fromkeys(cell["title"] for cell in found))
    # keeps the order of methods
    found.sort(key=lambda c: (titles.index(c["title"]), c["seed"], c["sigma"]))
    return found


def choices() -> list[Cell]:
    """Return the candidates at sigma 0.5; those of all sigmas would be too many for a page."""
    found = [c for c in result("paper")["choices"] if (c["sigma"], c["seed"]) == (0.5, 0)]
    return [{**choice, "per chip": _per_chip(choice["calibration"])} for choice in found]


def summary() -> Sequence[Row]:
    """Recovery by method and network; in brackets that with BatchNorm re-estimated on each chip."""
    at = [cell for cell in cells() if (cell["seed"], cell["sigma"]) == (0, 0.5)]
    rows = []
    for method, title in product(METHODS, dict.fromkeys(cell["title"] for cell in at)):
        found = [f"{100 * cell['recovery']:.2f}" for cell in at
                 if (cell["title"], cell["method"]) == (title, method)]  # fmt: skip
        kept = f"{found[0]} ({found[1]})" if len(found) > 1 else "".join(found)
        rows.append({"method": METHODS[method], "title": title, "kept": kept})
    return rows


def repetitions() -> tuple[Sequence[Row], dict[str, str]]:
    """Rows run with several seeds, with their 95 % intervals over chips; how many agree."""
    grouped: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in cells():
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
            "means": "; ".join(
                f"{100 * cell['mean']:.2f} ± {50 * (cell['ci95'][1] - cell['ci95'][0]):.2f}"
                for cell in found
            ),
            "overlap": "yes" if low <= high else f"no, {100 * (low - high):.2f} apart",
            "over trainings": _over_trainings(means),
            "as the others predict": _share(inside) if inside else "-",
        })  # fmt: skip
    counted = "; ".join(f"{what}: {_share(found)}" for what, found in overlapping.items())
    share = f" ({sum(predicted) / len(predicted):.0%})".replace("%", " %") if predicted else ""
    return rows, {"overlapping": counted, "predicted": f"{_share(predicted)}{share}"}


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
