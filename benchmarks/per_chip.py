"""Correctors fitted to each chip against every other way to use a chip, at 5 % of weights and MACs.

    python -m benchmarks.per_chip train    # networks: plain, penalty, noise; two seeds
    python -m benchmarks.per_chip choose   # penalty, sizes and refinement, on validation data
    python -m benchmarks.per_chip run      # all ways on the same chips, on test data
    python -m benchmarks.per_chip curves   # over size, images and sigma
    python -m benchmarks.per_chip cost     # seconds of a fit beside plain passes
    python -m benchmarks.per_chip table    # benchmarks/results/per_chip.json

Networks and records of chips are in outputs/per_chip, or in the folder that the environment names
as BENCHMARK_PER_CHIP; each step resumes where it was stopped. It needs MNIST in data/ as
torchvision lays it out, and CIFAR-10 as data/cifar10.npz (BENCHMARK_DATA names another folder).
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from statistics import median
from time import perf_counter
from typing import Any

import torch

from benchmarks.subjects import (
    DATA,
    LIMIT,
    RESULTS,
    SEEDS,
    SIGMA,
    SUBJECTS,
    Subject,
    Way,
    cost_of,
    dataset,
    folder_of,
    measure,
    network,
    sizes,
)
from cnet_aihw.cluster import RaySettings
from cnet_aihw.compensation import (
    Affine,
    GeneratorCompensator,
    LowRank,
    PerChipFit,
    Placement,
    Vera,
    compensate,
    compensation_cost,
    compensation_disabled,
    uniform_placement,
)
from cnet_aihw.evaluation import ceiling
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

SIZES = (0, 1, 2, 3, 4, 6, 8)
VERA_LRS = (2e-3, 2e-4, 2e-5)  # its fit diverges with that of the others on some networks
BUDGET = 60  # placements of a search
COMMAND = "python -m benchmarks.per_chip"


def train(subject: Subject, seed: int) -> None:
    """Train all networks of one seed, by the commands that are printed."""
    where = f"data.root={DATA}" if subject.data == "mnist" else f"data.path={DATA / 'cifar10.npz'}"
    if subject.data == "mnist":
        where += " data.download=false"
    for beta in subject.betas:
        names = "plain,lipschitz,noise" if beta == subject.betas[0] else "lipschitz"
        command = (
            f"cnet-aihw experiment={subject.name} job=train {where} seed={seed} "
            f"training.compare=[{names}] training.select=last training.lipschitz.beta={beta:g} "
            f"progress=false run={folder_of(subject, seed, beta)}"
        )
        print(command, flush=True)
        main = [sys.executable, "-m", "cnet_aihw.jobs.cli"]
        subprocess.run([*main, *shlex.split(command)[1:]], check=True)


def searched(
    subject: Subject,
    searcher: Searcher,
    beta: float | None,
    budget: int,
    training: str = "lipschitz",
    samples: int = 1000,
) -> Placement:
    """Return the placement that a search finds within both limits, on few chips and images."""
    model, data = network(subject, 0, training, beta), dataset(subject.data)
    cost = cost_of(model, subject)
    problem = placement_problem(
        cost, list(cost.layers), LowRank(), LIMIT, SpaceSettings(sizes=list(SIZES)),
        objective=ObjectiveSettings(overhead="none"), limit_macs=LIMIT,
    )  # fmt: skip
    evaluator = PerChipEvaluator(
        model,
        data.val,
        data.train.x[: samples // 2],
        task=subject.task,
        chips=3,
        samples=samples,
        seed=2000,
        device="cpu",
    )
    folder = folder_of(subject, 0) / "choose" / f"beta-{beta or 0:g}-{searcher.name}"
    found = run_search(
        problem, evaluator, searcher, folder, budget=budget,
        store=folder_of(subject, 0) / "choose" / "evaluations", ray=RaySettings(dashboard=False),
    )  # fmt: skip
    return found.placement


def choose(subject: Subject) -> dict[str, Any]:
    """Choose penalty, placement and refinement on validation data, by the first seed's networks."""
    rows: list[dict[str, Any]] = []

    def tried(way: Way) -> None:
        records = folder_of(subject, 0) / "choose" / f"{way.name.replace(' ', '-')}.jsonl"
        rows.append(measure(way, subject, 0, records, 4, part="val", samples=2000))
        print(f"{subject.name}: {way.name}: {rows[-1]['mean']:.4f}", flush=True)

    for beta in subject.betas:
        cost = cost_of(network(subject, 0, "lipschitz", beta), subject)
        placements = {
            "size 1": sizes(cost, 1),
            "size 2": sizes(cost, 2),
            "spectrum": searched(subject, SpectrumSearcher(), beta, 1),
            "coordinate": searched(subject, CoordinateSearcher(), beta, BUDGET),
        }
        for name, placement in placements.items():
            made = compensation_cost(cost, placement, LowRank())
            if max(made.overhead_weights, made.overhead_macs) <= LIMIT:
                way = Way(
                    f"beta {beta:g}, {name}", "lipschitz", LowRank(), placement, "per_chip",
                    images=2000, beta=beta,
                )  # fmt: skip
                tried(way)
    best = max(rows, key=lambda row: row["mean"])
    placement = Placement(best["placement"])
    closed = len(rows)
    for steps, images in subject.refined:
        way = Way(
            f"{best['way']}, {steps} steps, {images} images", "lipschitz", LowRank(), placement,
            "per_chip", images=images, refine_steps=steps, beta=best["beta"],
        )  # fmt: skip
        tried(way)
    refined = max(rows[closed:], key=lambda row: row["mean"])
    chosen = {"rows": rows, "chosen": best, "refined": refined}
    write_json_atomic(folder_of(subject, 0) / "choose.json", chosen)
    return chosen


def ways(subject: Subject, seed: int) -> Iterator[Way]:
    """Yield all ways that are compared."""
    choice = read_json(folder_of(subject, 0) / "choose.json")
    chosen, refined = choice["chosen"], choice["refined"]
    beta, placement = chosen["beta"], Placement(chosen["placement"])
    cost = cost_of(network(subject, seed, "plain"), subject)
    everywhere = [n for n, row in cost.layers.items() if row.analog]
    full = Placement(dict.fromkeys(everywhere, 1.0))
    for training in ("plain", "lipschitz", "noise"):
        b = beta if training == "lipschitz" else None
        yield Way(f"{training}, none", training, beta=b)
        if subject.name.startswith("vgg"):
            yield Way(f"{training}, batchnorm", training, fit="batchnorm", beta=b)
        target = "mean_over_chips" if training == "noise" else "clean"
        yield Way(
            f"{training}, affine", training, Affine(), full, "per_chip", target=target, beta=b
        )
        yield Way(
            f"{training}, per chip", training, LowRank(), placement, "per_chip",
            target=target, beta=b,
        )  # fmt: skip
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
    for name, (training, corrector) in correctors.items():
        within = uniform_placement(cost, everywhere, LIMIT, corrector, limit_macs=LIMIT)
        b = beta if training == "lipschitz" else None
        lrs = VERA_LRS if isinstance(corrector, Vera) else Way.lrs
        yield Way(name, training, corrector, within, "shared", beta=b, lrs=lrs)


def run(subject: Subject, seed: int, chips: int, only: Sequence[str] = ("*",)) -> None:
    """Measure the ways of one seed whose names match a pattern, on test data."""
    for way in ways(subject, seed):
        if not any(fnmatch(way.name, pattern) for pattern in only):
            continue
        path = folder_of(subject, seed) / "test" / f"{way.name.replace(' ', '-')}.json"
        if path.exists() and read_json(path)["chips"] >= chips:
            continue
        row = measure(way, subject, seed, path.with_suffix(".jsonl"), chips, samples=subject.test)
        write_json_atomic(path, {**row, "command": f"{COMMAND} run --chips {chips}"})
        print(f"{subject.name} seed {seed}: {way.name}: {row['mean']:.4f}", flush=True)


def curves(subject: Subject, chips: int) -> None:
    """Measure the penalised network over size, images and sigma, on the first seed."""
    chosen = read_json(folder_of(subject, 0) / "choose.json")["chosen"]
    beta, placement = chosen["beta"], Placement(chosen["placement"])
    cost = cost_of(network(subject, 0, "lipschitz", beta), subject)
    samples = min(subject.test or 2000, 2000)

    def point(curve: str, name: str, way: Way, sigma: float = SIGMA) -> None:
        path = folder_of(subject, 0) / "curves" / f"{curve}-{name}.json"
        if not path.exists():
            row = measure(
                way, subject, 0, path.with_suffix(".jsonl"), chips, samples=samples, sigma=sigma
            )
            more = {"curve": curve, "size": name.rpartition("-")[2] if curve == "size" else None}
            write_json_atomic(path, {**row, **more, "command": f"{COMMAND} curves"})
            print(f"{subject.name}: {curve} {name}: {row['mean']:.4f}", flush=True)

    for features in ("xy", "y", "patch"):
        for size in (1, 2, 4, 8):
            way = Way("size", "lipschitz", LowRank(features), sizes(cost, size), "per_chip")
            point("size", f"{features}-{size}", Way(**{**vars(way), "beta": beta}))
    for images in (10, 30, 100, 300, 1000, 4000):
        way = Way("images", "lipschitz", LowRank(), placement, "per_chip", images=images, beta=beta)
        point("images", str(images), way)
    for sigma in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7):
        way = Way("sigma", "lipschitz", LowRank(), placement, "per_chip", beta=beta)
        point("sigma", f"{sigma:g}", way, sigma)
        point("sigma", f"{sigma:g}-none", Way("none", "lipschitz", beta=beta), sigma)


def cost(subject: Subject) -> dict[str, Any]:
    """Time the closed form on one chip beside plain passes over the same images, in turns."""
    data = dataset(subject.data)
    model, x = network(subject, 0, "lipschitz"), data.train.x[:1000]
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
    row = {
        "network": subject.name,
        "layers": len(placement),
        "images": len(x),
        "plain_pass_seconds": median(passes),
        "fit_seconds": median(fits),
        "ratio": median(fits) / median(passes),
        "target": 3 * len(placement) / 2,
    }
    print(f"{subject.name}: {row['ratio']:.1f} plain passes; at most {row['target']:g}", flush=True)
    return row


def table() -> None:
    """Write all rows with their recovery: mean / the plain network's clean score."""
    rows = []
    for subject in SUBJECTS.values():
        for seed in SEEDS:
            found = [
                read_json(path)
                for kind in ("test", "curves")
                for path in sorted((folder_of(subject, seed) / kind).glob("*.json"))
            ]
            if (folder_of(subject, seed) / "plain" / "best.safetensors").exists() and found:
                model = network(subject, seed, "plain")
                part = dataset(subject.data).test
                clean = {
                    n: ceiling(model, part.first(n), [], chips=1, batch_size=500).clean
                    for n in {row["samples"] for row in found}
                }
                rows += [{**r, "recovery": r["mean"] / clean[r["samples"]]} for r in found]
    chosen = {
        name: read_json(path)
        for name, subject in SUBJECTS.items()
        if (path := folder_of(subject, 0) / "choose.json").exists()
    }
    head = {"command": f"{COMMAND} run", "limit": LIMIT}
    compared = [row for row in rows if "curve" not in row]
    write_json_atomic(RESULTS / "per_chip.json", {**head, "rows": compared, "choice": chosen})
    write_json_atomic(
        RESULTS / "per_chip_curves.json",
        {"command": f"{COMMAND} curves", "rows": [row for row in rows if "curve" in row]},
    )
    for row in compared:
        print(
            f"{row['network']:22s} {row['training_seed']} {row['way']:32s} "
            f"{100 * row['recovery']:.1f}"
        )


def main(words: Sequence[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("step", choices=("train", "choose", "run", "curves", "cost", "table"))
    parser.add_argument("--network", choices=list(SUBJECTS), action="append")
    parser.add_argument("--seed", type=int, action="append")
    parser.add_argument("--chips", type=int, default=50)
    parser.add_argument("--way", action="append", help="pattern of ways to run, as 'plain*'")
    asked = parser.parse_args(words)
    for name in asked.network or SUBJECTS:
        for seed in asked.seed or SEEDS:
            if asked.step == "train":
                train(SUBJECTS[name], seed)
            elif asked.step == "run":
                run(SUBJECTS[name], seed, asked.chips, asked.way or ["*"])
        if asked.step == "choose":
            choose(SUBJECTS[name])
        elif asked.step == "curves":
            curves(SUBJECTS[name], 10)
    if asked.step == "cost":
        rows = [cost(SUBJECTS[name]) for name in asked.network or SUBJECTS]
        record = {"command": f"{COMMAND} cost", "rows": rows}
        write_json_atomic(RESULTS / "per_chip_cost.json", record)
    elif asked.step == "table":
        table()


if __name__ == "__main__":
    main()
