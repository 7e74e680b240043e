"""Recovery of all networks on chips, over their trainings, for docs/results.md and the README."""

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
    "noise": ("noise, none", "noise_from_plain, none"),
    "noise, BatchNorm": ("noise, batchnorm", "noise_from_plain, batchnorm"),
    "CorrectNet": ("paper, shared",),
    "AHWA-LoRA-like": ("ahwa-lora-like",),
    "VeRA-like": ("vera-like",),
    "DoRA-like": ("dora-like",),
    "scale, offset": ("plain, affine",),
    "low rank": ("plain, per chip",),
    "penalty, low rank": ("lipschitz, per chip",),
    "the same, refined": ("lipschitz, per chip, refined",),
    "noise, low rank": ("noise, per chip", "noise_from_plain, per chip"),
    "noise, low rank, refined": ("noise_from_plain, per chip, refined",),
}
"""Heading -> ways; of two, the one with the higher mean on the network stands there."""


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


def recoveries() -> dict[tuple[str, float, str], list[float]]:
    """Return the recovery of each training, by network, deviation and heading of `WAYS`."""
    found = {}
    for (network, sigma), ways in measured().items():
        for heading, names in WAYS.items():
            if of := [[r["recovery"] for r in ways[name]] for name in names if name in ways]:
                found[network, sigma, heading] = max(of, key=fmean)
    return found


def means() -> Sequence[Row]:
    """A row for each network, deviation and heading: its recovery over trainings."""
    found, lines = recoveries(), []
    for (network, sigma), ways in measured().items():
        most = max(len(rows) for rows in ways.values())
        for heading in WAYS:
            shares = found.get((network, sigma, heading))
            sigmas = sum((network, heading) == (n, h) for n, _, h in found)
            lines.append({
                "network": network, "sigma": sigma, "way": heading, "several": sigmas > 1,
                "trainings": most, "kept": shares and over_trainings(shares, most),
            })  # fmt: skip
    return lines


def over_trainings(shares: Sequence[float], most: int) -> str:
    """Write a mean in percent, the 95 % interval of three trainings or more, and their number."""
    found = chip_statistics(shares)
    text = f"{100 * found.mean:.1f}"
    if len(shares) > 2 and found.ci95 is not None:
        text += f" ({FORMATS['interval'](found.ci95)})"
    return text if len(shares) == most else f"{text} [{len(shares)}]"


# -- the README and its figure, at sigma 0.5


def readme() -> Iterator[Row]:
    """Yield a row for each method and network: means over its trainings, cost is the largest."""
    of = {TITLES[n]: ways for (n, s), ways in measured().items() if s == SIGMA and n in TITLES}
    for network, ways in of.items():
        if not (plain := ways.get("plain, none")):
            continue
        clean, accuracy = fmean(row["clean"] for row in plain), plain[0]["score"] == "accuracy"
        kept = f"{100 * clean:.1f} %" if accuracy else f"{plain[0]['score']} {clean:.2f}"
        yield {"method": "score without a chip", "network": network, "kept": kept}
    for way, (method, color, marker) in METHODS.items():
        found = {network: ways[way] for network, ways in of.items() if way in ways}
        cost = [max((row[f"overhead_{kind}"] for rows in found.values() for row in rows), default=0)
                for kind in ("weights", "macs")]  # fmt: skip
        for network, rows in found.items():
            share, std, mean = (fmean(r[key] for r in rows) for key in ("recovery", "std", "mean"))
            yield {
                "method": method, "color": color, "marker": marker, "network": network,
                "cost": f"{100 * cost[0]:.1f}, {100 * cost[1]:.1f}", "share": 100 * share,
                "spread": 100 * share * std / mean,
                "kept": f"{100 * share:.1f} ± {100 * share * std / mean:.1f}",
            }  # fmt: skip
