"""Searchers at equal budgets: how near the optimum each comes after so many evaluations.

    python -m benchmarks.search train   # the narrow VGG16 of the problem `vgg16`
    python -m benchmarks.search run     # --problem lenet5 --searcher greedy --seeds 5 --first none
    python -m benchmarks.search rank    # few chips and images against the full measurement
    python -m benchmarks.search table   # benchmarks/results/search.json

LeNet-5 on CIFAR-10: all placements are evaluated, so that the optimum is known. The narrow VGG16: a
regret is the distance from the best placement that any searcher found. `lenet5` and `vgg16` are
valued by the shared evaluator (networks of `benchmarks.sweeps run --only training`), the problems
`..._per_chip` by few chips, each fitted with few images (networks of `benchmarks.per_chip train`),
within 5 % of weights and MACs, where overhead costs nothing, and where each search begins with the
spectrum's placement, as jobs do, unless `--first none` is given. All is on validation data.
Evaluations are kept in outputs/evaluations, and a run that is stopped resumes. One to some hours a
problem.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from torch import nn

from benchmarks.common import RECORDS, cnet_aihw, command_line, once, with_earlier, write_result
from benchmarks.subjects import SUBJECTS, cost_of, dataset, network, swept
from benchmarks.sweeps import WHERE
from cnet_aihw import search
from cnet_aihw.cluster import RaySettings
from cnet_aihw.compensation import GeneratorCompensator, LowRank
from cnet_aihw.evaluation import scan_layers
from cnet_aihw.runtime.records import read_json, read_records
from cnet_aihw.search import searchers
from cnet_aihw.search.rllib import PPOSearcher
from cnet_aihw.search.searchers.moves import no_compensation, redrawn

COMMAND = "python -m benchmarks.search"
STORE = Path("outputs/evaluations")
FEW = {"chips": 3, "samples": 500, "seed": 2000}
FULL = {"chips": 15, "samples": 2000, "seed": 4000}
SEARCHERS: dict[str, Callable[[], Any]] = {
    "random": searchers.RandomSearcher,
    "greedy": searchers.GreedySearcher,
    "coordinate": searchers.CoordinateSearcher,
    "evolution": searchers.EvolutionSearcher,
    "tpe": searchers.TPESearcher,
    "surrogate": searchers.SurrogateSearcher,
    "ppo": PPOSearcher,
    "ppo_gru": lambda: PPOSearcher(policy="gru"),
    "spectrum": searchers.SpectrumSearcher,  # of problems per chip alone; it draws nothing
}


@dataclass(frozen=True)
class Task:
    """A problem and what values its placements."""

    problem: search.PlacementProblem
    evaluator: Any


def shared(name: str) -> Task:
    """Compensation that all placements share; at sigma 0.5 too little is left of this VGG16."""
    small, corrector = name == "lenet5", GeneratorCompensator(form="residual")
    subject = SUBJECTS["lenet5_cifar10" if small else "vgg16_narrow_cifar10"]
    model, data = swept(subject, "lipschitz", 0.5 if small else 0.3), dataset("cifar10")
    cost = cost_of(subject)
    layers = [layer for layer in cost.layers if small or layer.startswith("features.")]
    space = (
        search.SpaceSettings(ratios=[0.0, 0.05, 0.25, 0.5, 1.0])
        if small
        else search.SpaceSettings()
    )
    problem = search.placement_problem(
        cost, layers, corrector, 0.1 if small else 0.05, space,
        sensitivity=sensitivity(name, model, 5), limit_macs=None,
    )  # fmt: skip
    # Chips that neither scans nor tests see.
    how = {"chips": 10, "samples": 500, "steps": 3000}
    how = how if small else {"chips": 4, "samples": 250, "steps": 1500}
    evaluator = search.SupernetEvaluator(
        model, data, problem, corrector=corrector, seed=2000, folder=STORE / "shared", **how
    )
    return Task(problem, evaluator)


def per_chip(name: str, inputs: int = 500, how: dict[str, int] = FEW) -> Task:
    """Correctors fitted to each chip, all layers, 6 choices each."""
    subject = SUBJECTS["lenet5_cifar10" if "lenet5" in name else "vgg16_narrow_cifar10"]
    model, data = network(subject, 0, "lipschitz"), dataset("cifar10")
    cost = cost_of(subject)
    problem = search.placement_problem(
        cost, list(cost.layers), LowRank(), 0.05, search.SpaceSettings(sizes=[0, 1, 2, 4, 8]),
        search.ObjectiveSettings(overhead="none"), sensitivity=sensitivity(name, model, 3),
        limit_macs=0.05,
    )  # fmt: skip
    evaluator = search.PerChipEvaluator(model, data.val, data.train.x[:inputs], device="cpu", **how)
    return Task(problem, evaluator)


PROBLEMS = {
    "lenet5": shared, "vgg16": shared, "lenet5_per_chip": per_chip, "vgg16_per_chip": per_chip,
}  # fmt: skip
FITTED = [name for name in PROBLEMS if name.endswith("_per_chip")]


def points(name: str) -> tuple[int, ...]:
    """Numbers of evaluations after which regrets are shown; the last one is the budget."""
    return (10, 25, 50, 100) if name in FITTED else (25, 50, 100, 200)


def sensitivity(name: str, model: nn.Module, chips: int) -> dict[str, float]:
    """Accuracy lost when a layer alone varies, on validation data."""
    part = dataset("cifar10").val.first(500)
    scan = scan_layers(
        model, (part.x, part.y), mode="single", chips=chips, seed=1,
        records=RECORDS / "search" / name / "scan-single.jsonl",
    )  # fmt: skip
    return scan.sensitivity()


def train() -> None:
    """Train the narrow VGG16."""
    words = ("experiment=vgg16_narrow_cifar10", WHERE["cifar10"], "training=lipschitz", "job=train")
    cnet_aihw(*words, f"hydra.run.dir={RECORDS / 'vgg16_narrow_cifar10'}")


def run(problem: list[str], searcher: list[str], seeds: int, budget: int, first: str) -> None:
    """Search with each searcher and seed; on LeNet-5 evaluate everything first."""
    for name in problem:
        task, folder = PROBLEMS[name](name), RECORDS / "search" / name
        count, ray = task.problem.count(), RaySettings(dashboard=False)
        print(f"{name}: {count} of {task.problem.size} placements within the limit", flush=True)
        known = folder / "exhaustive" / "search.json"
        if "lenet5" in name and (not known.exists() or read_json(known)["result"] is None):
            search.run_search(
                task.problem, task.evaluator, searchers.ExhaustiveSearcher(), known.parent,
                store=STORE, budget=count, ray=ray,
            )  # fmt: skip
        for each in searcher:
            alone = each == "spectrum"
            for seed in range((1 if alone else seeds) if name in FITTED or not alone else 0):
                place = folder / (f"{each}-{seed}" if first == "auto" else f"{each}-none-{seed}")
                result = search.run_search(
                    task.problem, task.evaluator, SEARCHERS[each](), place,
                    budget=budget or points(name)[-1], seed=seed, store=STORE, ray=ray,
                    first=first, name=f"{name}-{each}-{seed}",
                )  # fmt: skip
                print(each, seed, json.dumps(result.as_record()), flush=True)


def rank(problem: list[str]) -> None:
    """Value 30 placements with few and with many chips and images."""
    for name in problem:
        if name in FITTED:
            once(RECORDS / "search" / name / "rank.json", lambda name=name: ranked(name))


def ranked(name: str) -> dict[str, Any]:
    """Return the rank correlation of both values, and the seconds of each."""
    few, full = per_chip(name), per_chip(name, 1000, FULL)
    problem, rng = few.problem, np.random.default_rng(1)
    layers = range(len(problem.layers))
    drawn = [redrawn(problem, no_compensation(problem), layers, rng) for _ in range(30)]
    found: dict[str, list[Any]] = {}
    for kind, task in (("few", few), ("full", full)):
        store = search.EvaluationStore(STORE, task.evaluator.key())
        found[kind] = [store.measure(problem.placement(e), task.evaluator)[0] for e in drawn]
    means = [[value.mean for value in values] for values in found.values()]
    seconds = {kind: fmean(value.seconds for value in values) for kind, values in found.items()}
    return {
        "problem": name,
        "placements": len(drawn),
        "spearman": float(spearmanr(*means).statistic),
        "few": {**FEW, "inputs": 500, "seconds": seconds["few"]},
        "full": {**FULL, "inputs": 1000, "seconds": seconds["full"]},
        "command": f"{COMMAND} rank --problem {name}",
    }


def table() -> None:
    """Write the results from the traces alone."""
    rows, ranks = [], []
    for name in PROBLEMS:
        folder = RECORDS / "search" / name
        traces: dict[tuple[str, str | None], list[list[float]]] = {}
        budgets: dict[tuple[str, str | None], int] = {}  # the smallest of a searcher's
        for path in sorted(folder.glob("*/search.jsonl")):
            about = read_json(path.with_name("search.json"))
            if about["result"] is None:
                continue
            best = [float(row["best_reward"]) for row in read_records(path)]
            searcher = path.parent.name.rpartition("-")[0].removesuffix("-none") or "exhaustive"
            key = searcher, about["search"].get("first")
            traces.setdefault(key, []).append(best)
            budgets[key] = min(about["budget"], budgets.get(key, about["budget"]))
        optimum = max((trace[-1] for of in traces.values() for trace in of), default=0.0)
        known = traces.pop(("exhaustive", None), None) is not None
        for (searcher, first), of in traces.items():
            begun = first is not None or name not in FITTED or searcher == "spectrum"
            budget = budgets[searcher, first]
            for point in (p for p in points(name) if p <= budget):
                regrets = [optimum - trace[min(point, len(trace)) - 1] for trace in of]
                rows.append({
                    "problem": name,
                    "searcher": searcher,
                    "first": first,
                    "evaluations": point,
                    "regret_mean": fmean(regrets),
                    "regret_min": min(regrets),
                    "regret_max": max(regrets),
                    "seeds": len(regrets),
                    "optimum": optimum,
                    "optimum_known": known,
                    "command": f"{COMMAND} run --problem {name} --searcher {searcher} "
                    f"--seeds {len(regrets)} --budget {budget}{'' if begun else ' --first none'}",
                })  # fmt: skip
        if (folder / "rank.json").exists():
            ranks.append(read_json(folder / "rank.json"))
    rows = with_earlier("search", rows, "problem", "searcher", "first", "evaluations")
    ranks = with_earlier("search", ranks, "problem", key="rank")
    write_result("search", f"{COMMAND} table", rows, rank=ranks)


if __name__ == "__main__":
    command_line(
        __doc__, train, run, rank, table,
        problem=list(PROBLEMS), searcher=list(SEARCHERS), seeds=5, budget=0, first="auto",
    )  # fmt: skip
