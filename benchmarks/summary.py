"""Recovery of all networks on chips, over their trainings, for the README and docs/results.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from benchmarks.common import SIGMA, result
from benchmarks.figures import METHODS, TITLES
from benchmarks.tables import FORMATS, NAMES, Row
from cnet_aihw.evaluation import chip_statistics
from cnet_aihw.report.tables import Metric

Ways = dict[str, list[Row]]
WAYS = {
    "nothing": ("plain, none",),
    "noise": ("noise, none", "noise_from_plain, none", "milder_noise, none"),
    "noise, BatchNorm": ("noise, batchnorm", "noise_from_plain, batchnorm"),
    "noise, distilled": ("noise_distilled, none",),
    "noise, drawn": ("noise_drawn, none",),
    "CorrectNet": ("paper, shared",),
    "AHWA-LoRA-like": ("ahwa-lora-like",),
    "VeRA-like": ("vera-like",),
    "DoRA-like": ("dora-like",),
    "scale, offset": ("plain, affine",),
    "low rank": ("plain, per chip",),
    "penalty, low rank": ("lipschitz, per chip",),
    "refined": (
        *("lipschitz, per chip, refined", "plain, per chip, refined"),
        "milder_noise, per chip, refined",
    ),
    "noise, low rank": ("noise, per chip", "noise_from_plain, per chip"),
    "noise, low rank, refined": ("noise_from_plain, per chip, refined",),
}
"""Heading -> ways; of several, of those with most trainings, the highest mean on the network."""


def chips() -> Sequence[Row]:
    """Return all rows of networks on chips with their scores as they are written."""
    found = [*result("per_chip")["rows"], *result("transformers")["rows"]]
    order = list(dict.fromkeys([*NAMES, *(row["network"] for row in found)]))
    found.sort(key=lambda r: (order.index(r["network"]), r["sigma"], r["way"], r["training_seed"]))
    lines = []
    for row in found:
        metric = Metric(row.get("metric") or "accuracy")
        form = "{:.2f}" if metric.unit else "{:.4f}"
        written = {
            key: form.format(*metric.shown([row[key]])) for key in ("clean", "mean", "std", "q05")
        }
        lines.append({**row, "score": metric.name, "written": written})
    return lines


def measured() -> dict[tuple[str, float], Ways]:
    """Return the rows of each network and deviation by way, one for each training."""
    found: dict[tuple[str, float], Ways] = {}
    for row in chips():
        way = "ahwa-lora-like" if row["way"] == "plain, shared" else row["way"]
        found.setdefault((row["network"], row["sigma"]), {}).setdefault(way, []).append(row)
    return found


def trained() -> dict[tuple[str, float, str], list[Row]]:
    """Return the rows of each network, deviation and heading of `WAYS`, one for each training."""
    found = {}
    for (network, sigma), ways in measured().items():
        for heading, names in WAYS.items():
            if of := [ways[name] for name in names if name in ways]:
                found[network, sigma, heading] = max(of, key=lambda one: (len(one), recovery(one)))
    return found


def recovery(rows: Sequence[Row]) -> float:
    """Return the mean over trainings."""
    return fmean(row["recovery"] for row in rows)


def means() -> Sequence[Row]:
    """A row for each network, deviation and heading: its recovery over trainings."""
    found, lines = trained(), []
    for (network, sigma), ways in measured().items():
        most = max(len(rows) for rows in ways.values())
        plain = ways.get("plain, none", [])
        for heading in WAYS:
            rows = found.get((network, sigma, heading), [])
            sigmas = sum((network, heading) == (n, h) for n, _, h in found)
            lines.append({
                "network": network, "sigma": sigma, "way": heading, "several": sigmas > 1,
                "trainings": most, "score": without_chip(plain) if plain else None,
                "kept": over_trainings([r["recovery"] for r in rows], most) if rows else None,
                "spread": "{:.1f} ± {:.1f}".format(*over_chips(rows)) if rows else None,
            })  # fmt: skip
    return lines


def without_chip(rows: Sequence[Row]) -> str:
    """Write the clean score, a mean over trainings."""
    clean, score = fmean(row["clean"] for row in rows), rows[0]["score"]
    return f"{100 * clean:.1f} %" if score == "accuracy" else f"{score} {clean:.2f}"


def over_chips(rows: Sequence[Row]) -> tuple[float, float]:
    """Return recovery and its standard deviation over chips in percent, means over trainings."""
    std, mean = (fmean(row[key] for row in rows) for key in ("std", "mean"))
    return 100 * recovery(rows), 100 * recovery(rows) * std / mean


def over_trainings(shares: Sequence[float], most: int) -> str:
    """Write a mean in percent, the 95 % interval of three trainings or more, and their number."""
    found = chip_statistics(shares)
    text = f"{100 * found.mean:.1f}"
    if len(shares) > 2 and found.ci95 is not None:
        text += f" ({FORMATS['interval'](found.ci95)})"
    return text if len(shares) == most else f"{text} [{len(shares)}]"


def methods() -> Iterator[Row]:
    """Yield what the figure of the methods shows at sigma 0.5."""
    of = {TITLES[n]: ways for (n, s), ways in measured().items() if s == SIGMA and n in TITLES}
    for way, (method, color, marker) in METHODS.items():
        for network, ways in of.items():
            if way in ways:
                share, spread = over_chips(ways[way])
                yield {
                    "method": method, "color": color, "marker": marker, "network": network,
                    "share": share, "spread": spread,
                }  # fmt: skip
