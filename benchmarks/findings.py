"""Values that stand in the words of pages, above all in the findings of docs/results.md."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.common import SIGMA, result
from benchmarks.summary import measured, recovery, trained
from benchmarks.tables import NAMES, find

WITHOUT_ZERO = ("diabetes",)
"""Networks whose score, an R2, can be below 0, so that a share of it says little."""

ENOUGH = 0.95
"""Share of the clean score by which networks are counted."""


def shares(*headings: str, sigma: float = SIGMA) -> dict[str, float]:
    """Return each network's mean recovery by the best of some ways, but where it has no meaning."""
    found: dict[str, float] = {}
    for (network, s, heading), of in trained().items():
        if s == sigma and heading in headings and network not in WITHOUT_ZERO:
            name = NAMES.get(network, network)
            found[name] = max(recovery(of), found.get(name, -math.inf))
    return found


def findings() -> dict[str, Any]:
    """Return the values of the findings."""
    ours = shares("low rank")
    best = shares("low rank", "penalty, low rank", "refined", "noise, low rank",
                  "noise, low rank, refined")  # fmt: skip
    gain = {n: 100 * (s - ours[n]) for n, s in shares("penalty, low rank").items() if n in ours}
    rows = [row for ways in measured().values() for of in ways.values() for row in of]
    curves = [r for r in result("per_chip_curves")["rows"] if r["network"] == "lenet5_cifar10"]
    images = {row["images"]: row["recovery"] for row in curves if row["way"] == "images"}
    passes = [row["ratio"] for row in result("per_chip_cost")["rows"]]
    year = {way: [row["recovery"] for row in result("drift")["rows"]
                  if row["way"] == way and row["t_inference"] > 3e7]
            for way in ("fitted once", "vectors each time", "fitted each time")}  # fmt: skip
    return {
        "before": span(shares("nothing").values()),
        "networks": len(ours), "good": sum(share >= ENOUGH for share in ours.values()),
        "kept": span(share for share in ours.values() if share >= ENOUGH),
        "short": listed({n: 100 * share for n, share in ours.items() if share < ENOUGH}),
        "best": span(best[n] for n in ours),
        "widths": "; ".join(f"{100 * left:.1f} and {100 * ours[name]:.1f} ({name})"
                            for name, left in shares("nothing").items() if name in ours
                            and name.startswith("VGG16") and name.endswith("CIFAR-10")),
        **{f"low_rank_{n}": f"{100 * ours[name]:.1f}" for n, name in NAMES.items() if name in ours},
        "limit": f"{max(max(r['overhead_weights'], r['overhead_macs']) for r in rows):.0%}"[:-1],
        "penalty": listed(gain, "+.1f"),
        **{f"ahead_of_{name}": _ahead(ours, heading) for name, heading in {
            "noise": "noise", "batchnorm": "noise, BatchNorm", "correctnet": "CorrectNet",
            "shared": "AHWA-LoRA-like", "few": "DoRA-like"}.items()},
        "deviations": "; ".join(map(_at, sorted({sigma for _, sigma in measured()} - {SIGMA}))),
        "passes": f"{min(passes):.1f} to {max(passes):.1f}",
        "hundred": f"{100 * (images[max(images)] - images[100]):.1f}", "most": f"{max(images):,}",
        "sizes": ", ".join(f"{100 * row['recovery']:.1f} % {row['size']}" for row in curves
                           if row["way"] == "spectrum"),
        **{way.replace(" ", "_"): span(kept) for way, kept in year.items()},
        **_searched(), "attacked": _attacked(), **_on_devices(),
    }  # fmt: skip


def span(values: Iterable[float]) -> str:
    """Write the least and the largest share in percent."""
    found = [f"{100 * share:.1f}" for share in sorted(values)]
    return " to ".join(dict.fromkeys([*found[:1], *found[-1:]])) or "-"


def listed(found: Mapping[str, float], form: str = ".1f") -> str:
    """Write values with their names."""
    return ", ".join(f"{value:{form}} ({name})" for name, value in found.items()) or "none"


def _ahead(ours: Mapping[str, float], heading: str) -> str:
    by = [100 * (ours[name] - share) for name, share in shares(heading).items() if name in ours]
    if not by:
        return "none measured"
    return f"{sum(points > 0 for points in by)} of {len(by)} ({min(by):+.1f} to {max(by):+.1f})"


def _at(sigma: float) -> str:
    kept = shares("low rank", "penalty, low rank", "noise, low rank", sigma=sigma).values()
    return f"{sigma:g}: {sum(s >= ENOUGH for s in kept)} of {len(kept)} ({span(kept)} %)"


def _on_devices() -> dict[str, str]:
    rows = [row for row in result("devices")["rows"] if row["point"] == "harsher"]
    ways = {"plain": "plain", "noise": "noise-injected", "per_chip": "low rank per chip",
            "penalty": "penalty, low rank per chip", "correctnet": "correctnet"}  # fmt: skip
    clean = {row["device"]: row["clean"] for row in rows if row["method"] == "plain"}
    found = {
        f"devices_{name}": span(
            row["mean"] / clean[row["device"]] for row in rows if row["method"] == way
        )
        for name, way in ways.items()
    }
    compensated = sum(row["method"] == ways["correctnet"] for row in rows)
    return {"devices": str(len(clean)), "devices_compensated": str(compensated), **found}


def _searched() -> dict[str, str]:
    rows = [row for row in result("search")["rows"] if row["problem"] == "lenet5_per_chip"]
    at = {"spectrum": 10, "surrogate": 50, "ppo": 100}
    found = {name: find(rows, searcher=name, evaluations=n, first=None) for name, n in at.items()}
    return {
        f"behind_{name}": f"{100 * row['regret_mean']:.1f}" for name, row in found.items() if row
    }


def _attacked() -> str:
    rows = [row for row in result("attacks")["rows"] if row["attack"] == "pgd"]
    said = []
    for network in dict.fromkeys(row["network"] for row in rows):
        middle = sorted({row["eps"] for row in rows if row["network"] == network})[1]
        at = {"network": network, "threat": "nominal", "eps": middle}
        plain, ours = (find(rows, recipe=name, **at) for name in ("plain", "plain, per chip"))
        if plain and ours:
            said.append(f"{NAMES[network]} {plain['success']:.0%} and {ours['success']:.0%}")
    return "; ".join(said).replace("%", " %")
