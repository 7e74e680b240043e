"""Correctors fitted to each chip against every other way to use a chip, at 5 % of weights and MACs.

    python -m benchmarks.per_chip train    # networks: plain, penalty, noise; two seeds
    python -m benchmarks.per_chip choose   # penalty, sizes and refinement, on validation data
    python -m benchmarks.per_chip run      # all ways x sigma on the same chips, on test data
    python -m benchmarks.per_chip curves   # over size, images and sigma
    python -m benchmarks.per_chip cost     # seconds of a fit beside plain passes, a minute
    python -m benchmarks.per_chip table    # benchmarks/results/per_chip.json

`--network NAME`, `--seed 0`, `--sigma 0.5` and `--way 'plain*'` restrict it. Where networks,
records and data are: see benchmarks/subjects.py. Each step resumes where it was stopped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatch
from itertools import product
from statistics import median
from time import perf_counter
from typing import Any

import torch

from benchmarks.common import cnet_aihw, command_line, once, with_earlier, write_result
from benchmarks.subjects import (
    LIMIT,
    SIGMA,
    SUBJECTS,
    Subject,
    Way,
    choose_best,
    cost_of,
    dataset,
    folder_of,
    kept,
    measure,
    measure_all,
    network,
    plain_clean,
    sizes,
    where,
    within_limits,
)
from benchmarks.tables import result
from cnet_aihw.cluster import RaySettings
from cnet_aihw.compensation import (
    Affine,
    GeneratorCompensator,
    LowRank,
    PerChipFit,
    Placement,
    Vera,
    compensate,
    compensation_disabled,
    uniform_placement,
)
from cnet_aihw.rram import programmed
from cnet_aihw.runtime.records import read_json, write_json_atomic
from cnet_aihw.search import (
    ObjectiveSettings,
    PerChipEvaluator,
    SpaceSettings,
    placement_problem,
    run_search,
)
from cnet_aihw.search.searchers import CoordinateSearcher, Searcher, SpectrumSearcher
from cnet_aihw.zoo import VGG16, ResNet20

SEEDS = [0, 1]
SIGMAS = [SIGMA, 0.1, 0.3, 0.7]
FROM_KEPT = (
    "experiment=vgg16_narrow_cifar10", "job=train",
    "training.schedule=onecycle", "training.lr=0.02", "training.warmup_epochs=0",
    "training.label_smoothing=0.1", "training.bf16=true", "progress=false",
)  # fmt: skip
VERA_LRS = (2e-3, 2e-4, 2e-5)  # its fit diverges with that of the others on some networks
METHODS = (
    ("xy", LowRank(), "per_chip"), ("y", LowRank("y"), "per_chip"),
    ("affine", Affine(), "per_chip"), ("generator", GeneratorCompensator(), "per_chip"),
    ("shared generator", GeneratorCompensator(), "shared"),
    ("shared low rank", LowRank("x"), "shared"),
)  # fmt: skip
"""Methods of the curve over overhead: name, corrector and fit."""
COMMAND = "python -m benchmarks.per_chip"


def train(network: list[str], seed: list[int]) -> None:
    """Train all networks, by the commands that are printed."""
    for subject, number in ((SUBJECTS[name], number) for name in network for number in seed):
        if (plain := kept(subject, "plain")).exists():  # it took hours: others start from it
            for name in subject.trainings.split(",")[1:]:
                kind, epochs = ("lipschitz", 4) if name == "lipschitz" else ("noise", 8)
                cnet_aihw(f"training={kind}", f"training.name={name}", f"training.epochs={epochs}",
                          *FROM_KEPT, *where(subject.data), f"model.width={subject.width:g}",
                          f"pretrained={plain}", f"training.lipschitz.beta={subject.betas[0]:g}",
                          f"run={folder_of(subject, number)}")  # fmt: skip
            continue
        for beta in subject.betas or (None,):
            names = subject.trainings if beta in (None, *subject.betas[:1]) else "lipschitz"
            cnet_aihw(
                f"experiment={subject.name}", "job=train", *subject.words, *where(subject.data),
                f"seed={number}", f"training.compare=[{names}]", "training.select=last",
                f"training.lipschitz.beta={beta or 0:g}", "progress=false",
                f"run={folder_of(subject, number, beta)}",
            )  # fmt: skip


def searched(
    subject: Subject,
    searcher: Searcher,
    beta: float | None,
    budget: int,
    samples: int = 1000,
    limit: float = LIMIT,
) -> Placement:
    """Return the placement that a search finds within both limits, on few chips and images."""
    model, data = network(subject, 0, chosen_training(beta), beta), dataset(subject.data)
    cost = cost_of(model, subject)
    problem = placement_problem(
        cost, list(cost.layers), LowRank(), limit, SpaceSettings(sizes=list(subject.sizes)),
        objective=ObjectiveSettings(overhead="none"), limit_macs=limit,
    )  # fmt: skip
    evaluator = PerChipEvaluator(
        model, data.val, data.train.x[: samples // 2], task=subject.task, chips=3,
        samples=samples, seed=2000, device="cpu",
    )  # fmt: skip
    folder, within = folder_of(subject, 0) / "choose", "" if limit == LIMIT else f"-{limit:g}"
    found = run_search(
        problem, evaluator, searcher, folder / f"beta-{beta or 0:g}-{searcher.name}{within}",
        budget=budget, store=folder / "evaluations", ray=RaySettings(dashboard=False),
    )  # fmt: skip
    return found.placement


def choose(network: list[str]) -> None:
    """Choose penalty, placement and refinement on validation data, by the first seed's networks."""
    for subject in (SUBJECTS[name] for name in network):
        rows, best = choose_best(candidates(subject), subject, 2000)
        way = Way(
            best["way"], best["training"], LowRank(), Placement(best["placement"]), "per_chip",
            beta=best["beta"],
        )  # fmt: skip
        refined = [
            replace(
                way, name=f"{way.name}, {steps} steps, {images} images", images=images,
                refine_steps=steps,
            )
            for steps, images in subject.refined
        ]  # fmt: skip
        more, chosen = choose_best(refined, subject, 2000) if refined else ([], None)
        record = {"rows": rows + more, "chosen": best, "refined": chosen}
        write_json_atomic(folder_of(subject, 0) / "choose.json", record)


def candidates(subject: Subject) -> Iterator[Way]:
    """Yield each penalty with each placement within the limits."""
    for beta in subject.betas or (None,):
        training = chosen_training(beta)
        cost = cost_of(network(subject, 0, training, beta), subject)
        placements = {
            "size 1": sizes(cost, 1),
            "size 2": sizes(cost, 2),
            "spectrum": searched(subject, SpectrumSearcher(), beta, 1),
        }
        if subject.budget:
            found = searched(subject, CoordinateSearcher(), beta, subject.budget)
            placements["coordinate"] = found
        for name, placement in within_limits(placements, cost).items():
            yield Way(
                f"beta {beta or 0:g}, {name}", training, LowRank(), placement, "per_chip",
                images=2000, beta=beta,
            )  # fmt: skip


def chosen_training(beta: float | None) -> str:
    """Return the name of the training with a penalty, or without one."""
    return "plain" if beta is None else "lipschitz"


def ways(subject: Subject, seed: int) -> Iterator[Way]:
    """Yield all ways that are compared."""
    choice = read_json(folder_of(subject, 0) / "choose.json")
    chosen, refined = choice["chosen"], choice["refined"]
    beta, placement = chosen["beta"], Placement(chosen["placement"])
    cost = cost_of(network(subject, seed, "plain"), subject)
    everywhere = list(sizes(cost, 1))
    full = Placement(dict.fromkeys(everywhere, 1.0))
    trainings = subject.trainings.split(",")
    for training in trainings:
        target = "mean_over_chips" if training.startswith("noise") else "clean"
        bare = Way(f"{training}, none", training, beta=beta if training == "lipschitz" else None)
        yield bare
        if subject.kind in (VGG16, ResNet20):
            yield replace(bare, name=f"{training}, batchnorm", fit="batchnorm")
        fitted = replace(bare, fit="per_chip", target=target)
        yield replace(fitted, name=f"{training}, affine", corrector=Affine(), placement=full)
        yield replace(
            fitted, name=f"{training}, per chip", corrector=LowRank(), placement=placement
        )
    if refined is not None:
        yield Way(
            "lipschitz, per chip, refined", "lipschitz", LowRank(), placement, "per_chip",
            images=refined["images"], refine_steps=refined["refine_steps"], beta=beta,
        )  # fmt: skip
    yield Way("dora-like", "plain", LowRank(), placement, "per_chip", images=10, refine_steps=100)
    correctors = {
        "paper, shared": ("lipschitz", GeneratorCompensator()),
        "ahwa-lora-like": ("plain", LowRank("x")),
        "vera-like": ("plain", Vera()),
    }
    trained = {name: pair for name, pair in correctors.items() if pair[0] in trainings}
    for name, (training, corrector) in trained.items():
        within = uniform_placement(cost, everywhere, LIMIT, corrector, limit_macs=LIMIT)
        b = beta if training == "lipschitz" else None
        lrs = VERA_LRS if isinstance(corrector, Vera) else Way.lrs
        yield Way(name, training, corrector, within, "shared", beta=b, lrs=lrs)


def run(network: list[str], seed: list[int], sigma: list[float], way: str, chips: int) -> None:
    """Measure the ways whose names match a pattern, at each deviation, on test data."""
    for name, number, deviation in product(network, seed, sigma):
        subject, usual = SUBJECTS[name], deviation == SIGMA
        asked = (found for found in ways(subject, number) if fnmatch(found.name, way))
        folder = folder_of(subject, number) / ("test" if usual else f"test-{deviation:g}")
        command = f"{COMMAND} run --chips {chips}"
        measure_all(asked, subject, number, folder, chips, command, None if usual else deviation)


def curves(network: list[str]) -> None:
    """Measure the penalised network over size, images and sigma, on the first seed."""
    for subject in (SUBJECTS[name] for name in network):
        folder, samples = folder_of(subject, 0) / "curves", min(subject.test or 2000, 2000)
        for curve, name, way, sigma in points(subject):
            path = folder / f"{curve}-{name}.json"
            size = name.rpartition("-")[2] if curve == "size" else None
            if curve == "overhead":
                size = f"within {100 * float(name.rpartition('-')[2]):g} %"
            method = way.name.partition(", within")[0]
            about = {"curve": curve, "way": method, "size": size, "command": f"{COMMAND} curves"}
            asked = way, subject, 0, path.with_suffix(".jsonl"), 10
            once(path, lambda a=asked, n=samples, s=sigma, more=about: {
                **measure(*a, samples=n, sigma=s), **more
            })  # fmt: skip


def points(subject: Subject) -> Iterator[tuple[str, str, Way, float]]:
    """Yield curve, name, way and sigma of each point."""
    chosen = read_json(folder_of(subject, 0) / "choose.json")["chosen"]
    cost = cost_of(network(subject, 0, "lipschitz", chosen["beta"]), subject)
    bare = Way("none", "lipschitz", beta=chosen["beta"])
    way = replace(
        bare, corrector=LowRank(), placement=Placement(chosen["placement"]), fit="per_chip"
    )
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
            within = uniform_placement(cost, list(cost.layers), limit, corrector, limit_macs=limit)
            named = f"{name}, within {limit:g}"
            given = replace(way, name=named, corrector=corrector, placement=within, fit=fit)
            yield "overhead", f"{name}-{limit:g}", given, SIGMA
        found = searched(subject, SpectrumSearcher(), chosen["beta"], 1, limit=limit)
        given = replace(way, name=f"spectrum, within {limit:g}", placement=found)
        yield "overhead", f"spectrum-{limit:g}", given, SIGMA


def cost(network: list[str]) -> None:
    """Time the closed form on one chip beside plain passes over the same images, in turns."""
    rows = [cost_row(SUBJECTS[name]) for name in network]
    write_result("per_chip_cost", f"{COMMAND} cost", with_earlier("per_chip_cost", rows, "network"))


def cost_row(subject: Subject) -> dict[str, Any]:
    """Return the median seconds of fits and passes, for two filters at all layers."""
    model, x = network(subject, 0, "lipschitz"), dataset(subject.data).train.x[:1000]
    placement = sizes(cost_of(model, subject), 2)
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


def on_front(row: dict[str, Any], rows: list[dict[str, Any]]) -> bool:
    """Say whether no other row costs less, in weights and in MACs, and recovers as much."""
    costs = "overhead_weights", "overhead_macs"
    return not any(
        all(other[key] <= row[key] for key in costs)
        and other["mean"] >= row["mean"]
        and any(other[key] != row[key] for key in (*costs, "mean"))
        for other in rows
    )


def table() -> None:
    """Write all rows with their recovery, mean / the plain network's clean score.

    Rows and choices of which no records are here stay as they are in the results.
    """
    rows: dict[str, list[dict[str, Any]]] = {"test": [], "curves": []}
    for subject, seed in ((subject, seed) for subject in SUBJECTS.values() for seed in SEEDS):
        clean: dict[int, float] = {}
        for kind, found in rows.items():
            for path in sorted(folder_of(subject, seed).glob(f"{kind}*/*.json")):
                row = read_json(path)
                row["way"] = row["way"].removesuffix(f" {row['sigma']:g}")  # of shared fits
                n = row["samples"]
                clean[n] = clean.get(n) or plain_clean(subject, seed, n)
                found.append({**row, "recovery": row["mean"] / clean[n]})
    paths = {name: folder_of(subject, 0) / "choose.json" for name, subject in SUBJECTS.items()}
    choice = result("per_chip").get("choice", {})
    choice |= {name: read_json(path) for name, path in paths.items() if path.exists()}
    one = "network", "training_seed", "way"
    test = with_earlier("per_chip", rows["test"], *one, "sigma")
    test.sort(key=lambda row: (
        row["sigma"] != SIGMA, list(SUBJECTS).index(row["network"]), *(row[k] for k in one[1:]),
        row["sigma"],
    ))  # fmt: skip
    write_result("per_chip", f"{COMMAND} run", test, limit=LIMIT, choice=choice)
    points = "curve", "size", "features", "images", "sigma"
    found = with_earlier("per_chip_curves", rows["curves"], *one, *points)
    found.sort(key=lambda row: (
        row["curve"], row["way"], row["features"] or "", row["images"] or 0, row["sigma"],
        max(row["overhead_weights"], row["overhead_macs"]),
    ))  # fmt: skip
    over = [row for row in found if row["curve"] == "overhead"]
    found = [{**row, "front": on_front(row, over)} if row in over else row for row in found]
    write_result("per_chip_curves", f"{COMMAND} curves", found)


if __name__ == "__main__":
    command_line(
        __doc__, train, choose, run, curves, cost, table,
        network=list(SUBJECTS), seed=SEEDS, sigma=SIGMAS, way="*", chips=50,
    )  # fmt: skip
