"""Searchers at equal budgets, each chip fitted, within 5 % of the weights and of the MACs.

    python -m benchmarks.search_per_chip run --problem vgg16    # 16 layers x 6 choices
    python -m benchmarks.search_per_chip run --problem lenet5   # 5 layers x 6, all placements
    python -m benchmarks.search_per_chip rank                   # against the full measurement
    python -m benchmarks.search_per_chip table

A placement is valued on validation data by few chips, each fitted with few images; networks are
those that `python -m benchmarks.per_chip train` trains under the penalty. Within the limits
overhead costs nothing, unless --overhead says what the reward subtracts. On LeNet-5 all placements
are evaluated, on the narrow VGG16 the best placement that any searcher found stands for the
optimum.
Records are in outputs/search_per_chip, and a run that is stopped resumes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import nn

from benchmarks import subjects
from benchmarks.subjects import RESULTS
from cnet_aihw.cluster import RaySettings
from cnet_aihw.compensation import LowRank, network_cost
from cnet_aihw.evaluation import ceiling, scan_layers
from cnet_aihw.runtime.records import read_json, read_records, write_json_atomic
from cnet_aihw.search import (
    EvaluationStore,
    ObjectiveSettings,
    PerChipEvaluator,
    PlacementProblem,
    SpaceSettings,
    placement_problem,
    run_search,
)
from cnet_aihw.search.rllib import PPOSearcher
from cnet_aihw.search.searchers import (
    CoordinateSearcher,
    EvolutionSearcher,
    ExhaustiveSearcher,
    GreedySearcher,
    RandomSearcher,
    SpectrumSearcher,
    SurrogateSearcher,
    TPESearcher,
)
from cnet_aihw.search.searchers.moves import no_compensation, redrawn
from cnet_aihw.zoo import Dataset

COMMAND = "python -m benchmarks.search_per_chip"
BUDGET = 100
POINTS = (10, 25, 50, 100)
SEEDS = 5
SIGMA = 0.5
SIZES = [0, 1, 2, 4, 8]  # of the correctors, besides none: 0 is scale and offset alone
OUTPUTS = Path("outputs/search_per_chip")
FEW = {"chips": 3, "samples": 500, "seed": 2000}
FEW_INPUTS = 500
FULL = {"chips": 15, "samples": 2000, "seed": 4000}
FULL_INPUTS = 1000
RANKED = 30
SEARCHERS: dict[str, Callable[[], Any]] = {
    "spectrum": SpectrumSearcher,
    "random": RandomSearcher,
    "greedy": GreedySearcher,
    "coordinate": CoordinateSearcher,
    "evolution": EvolutionSearcher,
    "tpe": TPESearcher,
    "surrogate": SurrogateSearcher,
    "ppo": PPOSearcher,
    "ppo_gru": lambda: PPOSearcher(policy="gru"),
}


@dataclass(frozen=True)
class Subject:
    """A trained network and the choices of its layers."""

    data: Dataset
    model: nn.Module
    name: str
    """Folder of its training in outputs/benchmarks."""
    overhead: str
    """Overhead that the reward subtracts."""
    sizes: list[int] = field(default_factory=lambda: list(SIZES))

    def problem(self) -> PlacementProblem:
        """All layers, within 5 % of weights and of MACs."""
        cost = network_cost(self.model, self.data.val.x[:1])
        scan = scan_layers(
            self.model, self.data.val.first(500), mode="single", chips=3, seed=1, device="cpu",
            records=OUTPUTS / self.name / "scan-single.jsonl",
        )  # fmt: skip
        return placement_problem(
            cost, list(cost.layers), LowRank(), 0.05, SpaceSettings(sizes=self.sizes),
            ObjectiveSettings(overhead=self.overhead),
            sensitivity=scan.sensitivity(), limit_macs=0.05,
        )  # fmt: skip

    def evaluator(self, inputs: int = FEW_INPUTS, **settings: Any) -> PerChipEvaluator:
        """Few chips and images, unless others are given."""
        x = self.data.train.x[:inputs]
        return PerChipEvaluator(self.model, self.data.val, x, device="cpu", **{**FEW, **settings})

    def plain_clean(self) -> float:
        """Clean validation accuracy of the network trained without penalty and noise."""
        plain = subjects.network(subjects.SUBJECTS[self.name], 0, "plain")
        return ceiling(plain, self.data.val, [], chips=1).clean


def subject(problem: str, overhead: str = "none") -> Subject:
    """The network of a problem, trained under the penalty."""
    name = {"vgg16": "vgg16_narrow_cifar10", "lenet5": "lenet5_cifar10"}[problem]
    about = subjects.SUBJECTS[name]
    return Subject(
        subjects.dataset("cifar10"), subjects.network(about, 0, "lipschitz"), name, overhead
    )


def run(problem_name: str, overhead: str, searchers: list[str], seeds: int, budget: int) -> None:
    """Search with each searcher and seed; on LeNet-5 evaluate everything first."""
    it = subject(problem_name, overhead)
    problem, evaluates = it.problem(), it.evaluator()
    folder, ray = OUTPUTS / f"{it.name}-{overhead}", RaySettings(dashboard=False)
    clean = it.plain_clean()
    top = ceiling(
        it.model, it.data.val, [layer.name for layer in problem.layers], reference=clean, chips=1
    )
    about = {"problem": it.name, "overhead": overhead, "plain_clean": clean}
    write_json_atomic(folder / "about.json", {**about, "ceiling": top.as_record()})
    print(f"{it.name}: {problem.count()} placements; {top.sentence()}", flush=True)
    common = {"store": OUTPUTS / "evaluations", "ray": ray}
    if problem_name == "lenet5":
        run_search(
            problem, evaluates, ExhaustiveSearcher(), folder / "exhaustive",
            budget=problem.count(), **common,
        )  # fmt: skip
    for seed in range(seeds):
        for searcher in searchers:
            if searcher == "spectrum" and seed:
                continue  # it draws nothing
            begun = perf_counter()
            result = run_search(
                problem, evaluates, SEARCHERS[searcher](), folder / f"{searcher}-{seed}",
                budget=budget, seed=seed, name=f"{it.name}-{searcher}-{seed}", **common,
            )  # fmt: skip
            taken = round(perf_counter() - begun, 1)
            print(searcher, seed, f"{taken} s", json.dumps(result.as_record()), flush=True)


def rank(problem_name: str, placements: int) -> None:
    """Value placements with few and with many chips and images."""
    it = subject(problem_name)
    problem, rng = it.problem(), np.random.default_rng(1)
    layers = range(len(problem.layers))
    drawn = [redrawn(problem, no_compensation(problem), layers, rng) for _ in range(placements)]
    few, full = it.evaluator(), it.evaluator(FULL_INPUTS, **FULL)
    found: dict[str, list[float]] = {}
    seconds: dict[str, float] = {}
    for name, evaluates in (("few", few), ("full", full)):
        store = EvaluationStore(OUTPUTS / "evaluations", evaluates.key())
        values = [store.measure(problem.placement(encoding), evaluates)[0] for encoding in drawn]
        found[name] = [value.mean for value in values]
        seconds[name] = fmean(value.seconds for value in values)
        print(it.name, name, found[name], seconds[name], flush=True)
    row = {
        "problem": it.name,
        "placements": placements,
        "spearman": float(spearmanr(found["few"], found["full"]).statistic),
        "few": {**FEW, "inputs": FEW_INPUTS, "seconds": seconds["few"]},
        "full": {**FULL, "inputs": FULL_INPUTS, "seconds": seconds["full"]},
        "command": f"{COMMAND} rank --problem {problem_name} --placements {placements}",
    }
    print(json.dumps(row), flush=True)
    write_json_atomic(OUTPUTS / it.name / "rank.json", row)


def table() -> None:
    """Write the results from the traces alone."""
    rows: list[dict[str, Any]] = []
    ranks = [read_json(path) for path in sorted(OUTPUTS.glob("*/rank.json"))]
    for folder in sorted(path.parent for path in OUTPUTS.glob("*/about.json")):
        about = read_json(folder / "about.json")
        traces: dict[str, list[list[float]]] = {}
        for path in sorted(folder.glob("*/search.jsonl")):
            if read_json(path.with_name("search.json"))["result"] is None:
                continue
            searcher = path.parent.name.rpartition("-")[0] or "exhaustive"
            best = [float(row["best_reward"]) for row in read_records(path)]
            traces.setdefault(searcher, []).append(best)
        optimum = max((trace[-1] for of in traces.values() for trace in of), default=0.0)
        for searcher, of in traces.items():
            if searcher == "exhaustive":
                continue
            longest = min(len(trace) for trace in of)
            for point in POINTS:
                if point > longest and searcher != "spectrum":
                    continue
                rewards = [trace[min(point, len(trace)) - 1] for trace in of]
                rows.append(
                    {
                        "problem": about["problem"],
                        "overhead_subtracted": about["overhead"],
                        "searcher": searcher,
                        "evaluations": point,
                        "reward_mean": fmean(rewards),
                        "regret_mean": optimum - fmean(rewards),
                        "regret_min": optimum - max(rewards),
                        "regret_max": optimum - min(rewards),
                        "seeds": len(rewards),
                        "best_known": optimum,
                        "optimum_known": "exhaustive" in traces,
                        "plain_clean": about["plain_clean"],
                        "ceiling": about["ceiling"]["share"],
                        "command": f"{COMMAND} run",
                    }
                )
    write_json_atomic(
        RESULTS / "search_per_chip.json",
        {"command": f"{COMMAND} table", "rows": rows, "rank": ranks},
    )


def main() -> None:
    """Do what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=("run", "rank", "table"))
    problems = ("vgg16", "lenet5")
    parser.add_argument("--problem", choices=problems, nargs="+", default=list(problems))
    parser.add_argument("--searcher", choices=list(SEARCHERS), nargs="+", default=list(SEARCHERS))
    parser.add_argument("--overhead", choices=("none", "weights", "macs"), default="none")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--budget", type=int, default=BUDGET)
    parser.add_argument("--placements", type=int, default=RANKED)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.problem:
        if arguments.action == "run":
            words = arguments.searcher, arguments.seeds, arguments.budget
            run(name, arguments.overhead, *words)
        if arguments.action == "rank":
            rank(name, arguments.placements)
    table()


if __name__ == "__main__":
    main()
