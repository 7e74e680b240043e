"""Searchers at equal budgets: how near the optimum each comes after 25 to 200 evaluations.

    python -m benchmarks.search run --problem lenet5   # 5 layers x 5 choices, optimum known
    python -m benchmarks.search run --problem vgg16    # 13 convolutions x 5 choices
    python -m benchmarks.search table

Values are those of the shared evaluator on validation data, so that a placement has one value in
all searches; evaluations are kept in outputs/evaluations, and a run that is stopped resumes.
LeNet-5 is evaluated exhaustively; on the narrow VGG16 the optimum is not known, and a regret is
the distance from the best placement that any searcher found. Networks: LeNet-5 as
`python -m benchmarks.training run` left it, VGG16 as `python -m benchmarks.search train` does.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from benchmarks.training import RECORDS, RESULTS, WHERE, cnet_aihw, dataset, trained_network
from cnet_aihw.cluster import RaySettings
from cnet_aihw.compensation import GeneratorCompensator, network_cost
from cnet_aihw.evaluation import scan_layers
from cnet_aihw.rram import LogNormalNoiseModel, RRAMRPUConfig, convert_to_analog, load_snapshot
from cnet_aihw.runtime.records import read_json, read_records, write_json_atomic
from cnet_aihw.search import (
    PlacementProblem,
    SpaceSettings,
    SupernetEvaluator,
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
    SurrogateSearcher,
    TPESearcher,
)
from cnet_aihw.training import load_checkpoint
from cnet_aihw.zoo import VGG16

BUDGET = 200
POINTS = (25, 50, 100, 200)
SEEDS = 5
VARIANT = GeneratorCompensator(form="residual")
STORE = Path("outputs/evaluations")
NARROW = RECORDS / "vgg16_narrow_cifar10"
SEARCHERS: dict[str, Callable[[], Any]] = {
    "random": RandomSearcher,
    "greedy": GreedySearcher,
    "coordinate": CoordinateSearcher,
    "evolution": EvolutionSearcher,
    "tpe": TPESearcher,
    "surrogate": SurrogateSearcher,
    "ppo": PPOSearcher,
    "ppo_gru": lambda: PPOSearcher(policy="gru"),
}


def train() -> None:
    """Train the narrow VGG16."""
    words = ("experiment=vgg16_narrow_cifar10", WHERE["cifar10"], "training=lipschitz", "job=train")
    cnet_aihw(*words, f"hydra.run.dir={NARROW}")


def lenet5() -> tuple[PlacementProblem, SupernetEvaluator]:
    """LeNet-5 on CIFAR-10, trained under the Lipschitz penalty: all five layers."""
    data, model = trained_network("cifar10", "lipschitz")
    cost = network_cost(model, data.val.x[:1])
    problem = placement_problem(
        cost, list(cost.layers), VARIANT, 0.1, SpaceSettings(ratios=[0.0, 0.05, 0.25, 0.5, 1.0]),
        sensitivity=sensitivity(model, data, "lenet5"), limit_macs=None,
    )  # fmt: skip
    return problem, evaluator(model, data, problem, chips=10, samples=500, steps=3000)


def vgg16() -> tuple[PlacementProblem, SupernetEvaluator]:
    """VGG16 of an eighth of the width on CIFAR-10, trained so too: its thirteen convolutions.

    At sigma 0.3: at 0.5 too little is left of so narrow a network for placements to differ.
    """
    data = dataset("cifar10")
    rpu_config = RRAMRPUConfig(noise_model=LogNormalNoiseModel(sigma=0.3))
    model = convert_to_analog(VGG16(data.input_shape, data.classes, width=0.125), rpu_config)
    load_snapshot(model, load_checkpoint(NARROW / "lipschitz" / "best.safetensors").model)
    model.eval()
    cost = network_cost(model, data.val.x[:1])
    layers = [name for name in cost.layers if name.startswith("features.")]
    problem = placement_problem(
        cost, layers, VARIANT, 0.05, sensitivity=sensitivity(model, data, "vgg16"), limit_macs=None
    )
    return problem, evaluator(model, data, problem, chips=4, samples=250, steps=1500)


PROBLEMS = {"lenet5": lenet5, "vgg16": vgg16}


def sensitivity(model: Any, data: Any, name: str) -> dict[str, float]:
    """Accuracy lost when a layer alone varies, on validation data."""
    scan = scan_layers(
        model, (data.val.x[:500], data.val.y[:500]), mode="single", chips=5, seed=1,
        records=RECORDS / "search" / name / "scan-single.jsonl",
    )  # fmt: skip
    return scan.sensitivity()


def evaluator(
    model: Any, data: Any, problem: PlacementProblem, chips: int, samples: int, steps: int
) -> SupernetEvaluator:
    """The shared evaluator on chips that neither scans nor tests see."""
    return SupernetEvaluator(
        model, data, problem, corrector=VARIANT, chips=chips, samples=samples, seed=2000,
        steps=steps, folder=STORE / "shared",
    )  # fmt: skip


def run(name: str, searchers: list[str], seeds: int, budget: int) -> None:
    """Search with each searcher and seed; for LeNet-5 evaluate everything first."""
    problem, evaluates = PROBLEMS[name]()
    print(f"{name}: {problem.count()} of {problem.size} placements within the limit", flush=True)
    folder, ray = RECORDS / "search" / name, RaySettings(dashboard=False)
    known = folder / "exhaustive" / "search.json"
    if name == "lenet5" and (not known.exists() or read_json(known)["result"] is None):
        run_search(
            problem, evaluates, ExhaustiveSearcher(), folder / "exhaustive", store=STORE,
            budget=problem.count(), ray=ray,
        )  # fmt: skip
    for searcher in searchers:
        for seed in range(seeds):
            result = run_search(
                problem, evaluates, SEARCHERS[searcher](), folder / f"{searcher}-{seed}",
                budget=budget, seed=seed, store=STORE, ray=ray, name=f"{name}-{searcher}-{seed}",
            )  # fmt: skip
            print(searcher, seed, json.dumps(result.as_record()), flush=True)


def table() -> None:
    """Write the table from the traces alone."""
    rows = []
    for name in PROBLEMS:
        traces: dict[str, list[list[float]]] = {}
        budgets: dict[str, int] = {}  # the smallest of a searcher's
        for path in sorted((RECORDS / "search" / name).glob("*/search.jsonl")):
            about = read_json(path.with_name("search.json"))
            if about["result"] is None:
                continue
            best = [float(row["best_reward"]) for row in read_records(path)]
            searcher = path.parent.name.rpartition("-")[0] or "exhaustive"
            traces.setdefault(searcher, []).append(best)
            budgets[searcher] = min(about["budget"], budgets.get(searcher, about["budget"]))
        optimum = max((trace[-1] for of in traces.values() for trace in of), default=0.0)
        for searcher, of in traces.items():
            if searcher == "exhaustive":
                continue
            for point in (p for p in POINTS if p <= budgets[searcher]):
                regrets = [optimum - trace[min(point, len(trace)) - 1] for trace in of]
                rows.append(
                    {
                        "problem": name,
                        "searcher": searcher,
                        "evaluations": point,
                        "regret_mean": fmean(regrets),
                        "regret_min": min(regrets),
                        "regret_max": max(regrets),
                        "seeds": len(regrets),
                        "optimum": optimum,
                        "optimum_known": "exhaustive" in traces,
                        "command": f"python -m benchmarks.search run --problem {name} "
                        f"--searcher {searcher} --seeds {len(regrets)} "
                        f"--budget {budgets[searcher]}",
                    }
                )
    write_json_atomic(
        RESULTS / "search.json", {"command": "python -m benchmarks.search table", "rows": rows}
    )


def main() -> None:
    """Do what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=("train", "run", "table"))
    parser.add_argument("--problem", choices=list(PROBLEMS), nargs="+", default=list(PROBLEMS))
    parser.add_argument("--searcher", choices=list(SEARCHERS), nargs="+", default=list(SEARCHERS))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--budget", type=int, default=BUDGET)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.action == "train":
        train()
    if arguments.action == "run":
        for name in arguments.problem:
            run(name, arguments.searcher, arguments.seeds, arguments.budget)
    table()


if __name__ == "__main__":
    main()
