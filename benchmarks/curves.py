"""Points of the curves of benchmarks.per_chip, and the time of a fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from statistics import median
from time import perf_counter

import torch

from benchmarks.common import SIGMA, Row
from benchmarks.subjects import Subject, cost_of, dataset, network, sizes, uniform
from benchmarks.ways import Way, chosen, searched
from cnet_aihw.compensation import (
    Affine,
    GeneratorCompensator,
    LowRank,
    PerChipFit,
    Placement,
    compensate,
    compensation_disabled,
)
from cnet_aihw.rram import programmed
from cnet_aihw.search.searchers import SpectrumSearcher

METHODS = (
    ("xy", LowRank(), "per_chip"), ("y", LowRank("y"), "per_chip"),
    ("affine", Affine(), "per_chip"), ("generator", GeneratorCompensator(), "per_chip"),
    ("shared generator", GeneratorCompensator(), "shared"),
    ("shared low rank", LowRank("x"), "shared"),
)  # fmt: skip
"""Methods of the curve over overhead: name, corrector and fit."""


def points(subject: Subject) -> Iterator[tuple[str, str, Way, float]]:
    """Yield curve, name, way and sigma of each point."""
    best = chosen(subject)
    beta, placement = best["beta"], Placement(best["placement"])
    cost = cost_of(subject)
    bare = Way("none", "lipschitz", beta=beta)
    way = replace(bare, corrector=LowRank(), placement=placement, fit="per_chip")
    for features in ("xy", "y", "patch"):
        for size in (1, 2, 4, 8):
            sized = replace(
                way, name="size", corrector=LowRank(features), placement=sizes(cost, size)
            )
            yield "size", f"{features}-{size}", sized, SIGMA
    for images in (10, 30, 100, 300, 1000, 4000):
        yield "images", str(images), replace(way, name="images", images=images), SIGMA
        fixed = replace(way, name="images, ridge 0.001", images=images, ridge=1e-3)
        yield "images", f"{images}-ridge", fixed, SIGMA
    for sigma in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7):
        yield "sigma", f"{sigma:g}", replace(way, name="sigma"), sigma
        yield "sigma", f"{sigma:g}-none", bare, sigma
    for limit in (0.01, 0.02, 0.05, 0.1, 0.2):
        for name, corrector, fit in METHODS:
            trained = fit == "shared" and not 0.02 <= limit <= 0.1
            if trained or (name == "affine" and limit > 0.01):  # of one size, or minutes each
                continue
            within = uniform(cost, corrector, limit)
            named = f"{name}, within {limit:g}"
            given = replace(way, name=named, corrector=corrector, placement=within, fit=fit)
            yield "overhead", f"{name}-{limit:g}", given, SIGMA
        found = searched(subject, SpectrumSearcher(), beta, 1, limit)
        given = replace(way, name=f"spectrum, within {limit:g}", placement=found)
        yield "overhead", f"spectrum-{limit:g}", given, SIGMA


def on_front(row: Row, rows: list[Row]) -> bool:
    """Say whether no other row costs less, in weights and in MACs, and recovers as much."""
    costs = "overhead_weights", "overhead_macs"
    return not any(
        all(other[key] <= row[key] for key in costs)
        and other["mean"] >= row["mean"]
        and any(other[key] != row[key] for key in (*costs, "mean"))
        for other in rows
    )


def cost_row(subject: Subject) -> Row:
    """Return the median seconds of fits and passes, for two filters at all layers."""
    model, x = network(subject, 0, "lipschitz"), dataset(subject.data).train.x[:1000]
    placement = sizes(cost_of(subject), 2)
    compensate(model, placement, LowRank(), 0)
    fit = PerChipFit(x)
    passes, fits = [], []
    with programmed(model, 1), torch.no_grad():
        with fit(model):  # wanted outputs are kept for all chips that follow
            pass
        for _ in range(5):
            with compensation_disabled(model):
                begun = perf_counter()
                model(x)
                passes.append(perf_counter() - begun)
            begun = perf_counter()
            with fit(model):
                fits.append(perf_counter() - begun)
    return {
        "network": subject.name,
        "layers": len(placement),
        "images": len(x),
        "plain_pass_seconds": median(passes),
        "fit_seconds": median(fits),
        "ratio": median(fits) / median(passes),
        "target": 3 * len(placement) / 2,
    }
