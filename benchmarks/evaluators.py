"""Does one compensation shared by all placements rank them as a fit of each one does?

    python -m benchmarks.evaluators

takes up the networks that `python -m benchmarks.training` left in outputs/benchmarks, draws
placements within the limit, values each by a fit of its own and by the shared compensation, and
writes benchmarks/results/evaluators.json. All is on validation data. It resumes where it was
stopped; what was evaluated is in outputs/benchmarks/evaluators. For their cost some placements are
evaluated again, by both one after the other, so that a machine busy with other things slows both.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from statistics import fmean
from time import perf_counter

import numpy as np
import torch
from scipy.stats import spearmanr

from benchmarks.training import RECORDS, RESULTS, trained_network
from cnet_aihw.compensation import FitSettings, GeneratorCompensator, Placement, network_cost
from cnet_aihw.runtime.records import write_json_atomic
from cnet_aihw.search import (
    CompensationSupernet,
    EvaluationStore,
    FitEvaluator,
    PlacementProblem,
    SpaceSettings,
    SupernetEvaluator,
    placement_problem,
)

PLACEMENTS = 30
LIMIT = 0.10
RATIOS = [0.0, 0.05, 0.1, 0.25, 0.5]
FIT_STEPS = 300  # what search.evaluator.steps is by default
TIMED = 6  # placements whose evaluation is timed
SHARED_STEPS = 1200  # what search.evaluator.shared_steps is by default
CHIPS = 10
SAMPLES = 500
SEED = 1  # of the placements; those of seed 0 served to choose how the shared fit draws
COMMAND = "python -m benchmarks.evaluators"


@dataclass(frozen=True)
class Subject:
    """A trained network and the form of compensation to place in it."""

    data: str
    form: str

    @property
    def name(self) -> str:
        """Its name in results."""
        return f"lenet5 {self.data} lipschitz, {self.form}"


SUBJECTS = (Subject("mnist", "residual"), Subject("cifar10", "residual"))


def drawn_placements(problem: PlacementProblem, number: int) -> list[Placement]:
    """Placements within the limit, drawn evenly; of those with the same filters only one."""
    different = {
        tuple(
            costs[choice] for costs, choice in zip(problem.costs, encoding, strict=True)
        ): encoding
        for encoding in problem.encodings()
    }
    encodings = list(different.values())
    order = np.random.default_rng(SEED).permutation(len(encodings))[:number]
    return [problem.placement(encodings[i]) for i in order]


def rank_correlation(first: list[float], second: list[float]) -> float:
    """Spearman's."""
    return float(spearmanr(first, second).statistic)


def costs(
    placements: list[Placement], shared: SupernetEvaluator, fit: FitEvaluator
) -> tuple[float, float]:
    """Mean seconds of an evaluation by each; they take turns, and nothing is looked up."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for placement in placements:
        for evaluator, taken in zip((shared, fit), seconds, strict=True):
            begun = perf_counter()
            evaluator.evaluate(placement)
            taken.append(perf_counter() - begun)
    return fmean(seconds[0]), fmean(seconds[1])


def measure(subject: Subject) -> dict:
    """Value all placements; one row of results."""
    data, model = trained_network(subject.data, "lipschitz")
    variant = GeneratorCompensator(form=subject.form)
    network = network_cost(model, data.val.x[:1])
    problem = placement_problem(
        network, list(network.layers), variant, LIMIT, SpaceSettings(RATIOS), limit_macs=None
    )
    folder = RECORDS / "evaluators" / f"{subject.data}-{subject.form}"
    how = {"corrector": variant, "chips": CHIPS, "samples": SAMPLES, "device": "cpu"}
    fits = [
        FitEvaluator(model, data, fit=FitSettings(seed=seed), steps=FIT_STEPS, **how)
        for seed in (0, 1)
    ]
    shared = SupernetEvaluator(model, data, problem, steps=SHARED_STEPS, folder=folder, **how)
    begun = perf_counter()
    CompensationSupernet(
        model, data, problem, corrector=variant, steps=SHARED_STEPS, device="cpu"
    ).get_ready(progress=True)
    shared_seconds = perf_counter() - begun
    shared.supernet.get_ready(progress=True)
    evaluators = [shared, *fits]
    stores = [EvaluationStore(folder, evaluator.key()) for evaluator in evaluators]
    values: list[list] = [[] for _ in evaluators]
    placements = drawn_placements(problem, PLACEMENTS)
    for placement in placements:
        for evaluator, store, found in zip(evaluators, stores, values, strict=True):
            found.append(store.measure(placement, evaluator)[0])
        means = [round(found[-1].mean, 4) for found in values]
        print(subject.name, placement.to_json(), "shared, fit, other fit:", *means, flush=True)
    means_ = [[value.mean for value in found] for found in values]
    seconds, fit_seconds = costs(placements[:TIMED], shared, fits[0])
    return {
        "problem": subject.name,
        "limit": LIMIT,
        "ratios": RATIOS,
        "placements": len(placements),
        "spearman": rank_correlation(means_[1], means_[0]),
        "spearman_two_fits": rank_correlation(means_[1], means_[2]),
        "cost_ratio": fit_seconds / seconds,
        "cost_ratio_amortised": fit_seconds / (seconds + shared_seconds / len(placements)),
        "placements_timed": TIMED,
        "fit_steps": FIT_STEPS,
        "shared_steps": SHARED_STEPS,
        "chips": CHIPS,
        "samples": SAMPLES,
        "seeds": {"chips": 0, "fits": [0, 1], "shared": 0, "placements": SEED},
        "command": COMMAND,
    }


def main() -> None:
    """Measure all subjects and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=[s.data for s in SUBJECTS], nargs="+")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path = RESULTS / "evaluators.json"
    for subject in SUBJECTS:
        if arguments.data and subject.data not in arguments.data:
            continue
        row = measure(subject)
        print(json.dumps(row), flush=True)
        old = json.loads(path.read_text())["rows"] if path.exists() else []
        rows = {row["problem"]: row for row in (*old, row)}
        write_json_atomic(path, {"command": COMMAND, "rows": list(rows.values())})


if __name__ == "__main__":
    main()
