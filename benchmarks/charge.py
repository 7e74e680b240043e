"""Charge read-out over reversal potentials: networks mapped, scaled, and trained through it.

    python -m benchmarks.charge train   # networks without a limit, and through the circuit
    python -m benchmarks.charge run     # all rows, test part
    python -m benchmarks.charge table   # benchmarks/results/charge.json

`--network NAME` takes one network. Networks and records are in outputs/per_chip/charge, or in the
folder that the environment names as BENCHMARK_PER_CHIP; each row resumes where it was stopped. Data
are expected as for benchmarks.per_chip. About 40 minutes of one core in all.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import process_time
from typing import Any

import torch
from torch import nn

from benchmarks.subjects import (
    CHIPS_SEED,
    OUTPUTS,
    RESULTS,
    Subject,
    Way,
    calibration,
    cost_of,
    dataset,
    sizes,
)
from cnet_aihw.compensation import LowRank, compensation_cost
from cnet_aihw.evaluation import evaluate_chips, fit_charge_scales
from cnet_aihw.rram import (
    Charge,
    LogNormalNoiseModel,
    RRAMRPUConfig,
    clear_chip,
    convert_to_analog,
    load_snapshot,
    set_noise_model,
    set_readout,
)
from cnet_aihw.runtime.records import read_json, write_json_atomic
from cnet_aihw.training import TrainingSettings, load_checkpoint
from cnet_aihw.training import train as train_network
from cnet_aihw.zoo import ClippedCNN, ClippedMLP, Dataset

FOLDER = OUTPUTS / "charge"
COMMAND = "python -m benchmarks.charge"
POTENTIALS = (0.5, 1.0, 4.0, 16.0)
SIGMAS = (0.0, 0.3, 0.5)
WAYS = ("mapped", "scaled", "trained")
CHIPS, TEST, FIT, SCALING = 10, 500, 200, 300  # chips; images of test, corrector fits and scales
STEPS, TEST_STEPS = 4, 8  # intervals of the grid
VALIDATION = 1000  # images; of no consequence for the weights
GRID = (0.25, 0.5, 1.0, 1.5, 2.0)

PUBLISHED = {
    "source": "Sakemi et al., arXiv 2412.09010, table 3, best |E| for each noise of spikes",
    "rows": [
        {
            "network": "784-400-400-10",
            "data": "Fashion-MNIST",
            "accuracy": {"0": 0.9046, "0.01": 0.9040, "0.04": 0.9012},
        },
        {
            "network": "64-64-P-128-128-P-256-256-P-512-10",
            "data": "Fashion-MNIST",
            "accuracy": {"0": 0.9411, "0.01": 0.9409, "0.04": 0.9363},
        },
    ],
}
"""As published, on other data than ours."""


@dataclass(frozen=True)
class Plan:
    """How much one network is trained."""

    subject: Subject
    images: int
    """Images of an epoch without a limit."""

    epochs: int
    through: int
    """Images of the one epoch through the circuit."""


def _settings(data: Dataset) -> dict[str, Any]:
    return {"mean": data.mean, "std": data.std}


PLANS = {
    plan.subject.name: plan
    for plan in (
        Plan(
            Subject(
                "mlp_mnist",
                "mnist",
                lambda d: ClippedMLP(d.input_shape, d.classes, **_settings(d)),
            ),
            *(20000, 3, 12000),
        ),
        Plan(
            Subject(
                "lenet5_mnist",
                "mnist",
                lambda d: ClippedCNN(d.input_shape, d.classes, **_settings(d)),
            ),
            *(20000, 3, 12000),
        ),
        Plan(
            Subject(
                "cnn_cifar10",
                "cifar10",
                lambda d: ClippedCNN(
                    *(d.input_shape, d.classes, (16, 32, 64), 3, 2, 1, False, ()), **_settings(d)
                ),
            ),
            *(45000, 6, 20000),
        ),
    )
}


def untrained(plan: Plan, potential: float) -> nn.Module:
    """Return a network on crossbars, with weights of a seed."""
    torch.manual_seed(0)
    charge = Charge(potential, -potential, steps=STEPS, test_steps=TEST_STEPS)
    config = RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.0), readout=charge)
    return convert_to_analog(plan.subject.build(dataset(plan.subject.data)), config)


def weights_of(plan: Plan, potential: float) -> Path:
    """Return the folder of a training: without a limit, or through the circuit."""
    return FOLDER / plan.subject.name / f"e{potential:g}"


def trained(plan: Plan, potential: float, way: str) -> nn.Module:
    """Return a trained network at a reversal potential."""
    model = untrained(plan, potential)
    folder = weights_of(plan, potential if way == "trained" else math.inf)
    load_snapshot(model, load_checkpoint(folder / "best.safetensors").model)
    return model.eval()


def train(plan: Plan) -> None:
    """Train without a limit, and from there through the circuit at each potential."""
    data = dataset(plan.subject.data)
    for potential in (math.inf, *POTENTIALS):
        first = math.isinf(potential)
        folder, start = weights_of(plan, potential), process_time()
        model = untrained(plan, potential)
        if not first:
            best = weights_of(plan, math.inf) / "best.safetensors"
            load_snapshot(model, load_checkpoint(best).model)
        images = data.train.first(plan.images if first else plan.through)
        settings = TrainingSettings(
            name="unlimited" if first else "through",
            epochs=plan.epochs if first else 1,
            batch_size=64,
            optimizer="adam",
            lr=2e-3 if first else 1e-3,
            weight_decay=0.0,
            select="last",
            validation_chips=0,
            validate_every=plan.epochs,
        )
        part = replace(data, train=images, val=data.val.first(VALIDATION))
        train_network(model, part, settings, folder, device="cpu")
        print(f"{folder}: {process_time() - start:.0f} s", flush=True)


def rows(plan: Plan) -> Iterator[tuple[float, str, float, bool]]:
    """Yield potential, way, sigma, and whether correctors are fitted to each chip."""
    points = [(potential, way) for potential in POTENTIALS for way in WAYS]
    for potential, way in [*points, (math.inf, "mapped")]:
        for sigma in SIGMAS:
            for corrected in (False, True):
                yield potential, way, sigma, corrected


def run(plan: Plan, limit: int | None = None) -> None:
    """Measure all rows that are not there yet; with a limit so many of them."""
    for potential, way, sigma, corrected in rows(plan):
        name = f"e{potential:g}-{way}-s{sigma:g}-{'corrected' if corrected else 'bare'}"
        path = FOLDER / plan.subject.name / "rows" / f"{name}.json"
        if path.exists():
            continue
        if limit == 0:
            return
        limit = None if limit is None else limit - 1
        start = process_time()
        row = measure(plan, potential, way, sigma, corrected, path.with_suffix(".jsonl"))
        row["seconds"] = process_time() - start
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomic(path, row)
        print(json.dumps(row), flush=True)


def measure(
    plan: Plan, potential: float, way: str, sigma: float, corrected: bool, records: Path
) -> dict[str, Any]:
    """Measure one row over chips."""
    data, subject = dataset(plan.subject.data), plan.subject
    model = trained(plan, potential, way)
    scales = scales_of(plan, model, potential) if way == "scaled" else (1.0, 1.0)
    set_readout(model, scale_plus=scales[0], scale_minus=scales[1])
    set_noise_model(model, LogNormalNoiseModel(sigma))
    corrector = LowRank()
    costs = cost_of(model, subject)
    placement = sizes(costs, 1)
    ask = Way(way, way, corrector, placement, "per_chip" if corrected else "none", FIT)
    records.parent.mkdir(parents=True, exist_ok=True)
    found = evaluate_chips(
        model,
        data.test.first(TEST),
        chips=CHIPS if sigma else 1,  # without variation all chips are the same
        seed=CHIPS_SEED,
        calibration=calibration(ask, subject),
        records=records,
        device="cpu",
    )
    clear_chip(model)
    overhead = compensation_cost(costs, placement, corrector)
    return {
        "network": subject.name,
        "data": subject.data,
        "potential": None if math.isinf(potential) else potential,
        "way": way,
        "sigma": sigma,
        "corrected": corrected,
        "scale_plus": scales[0],
        "scale_minus": scales[1],
        "overhead_weights": overhead.overhead_weights if corrected else 0.0,
        "overhead_macs": overhead.overhead_macs if corrected else 0.0,
        "clean": found.clean,
        "mean": found.mean,
        "std": found.std,
        "chips": CHIPS if sigma else 1,
        "chips_seed": CHIPS_SEED,
        "samples": TEST,
        "test_steps": TEST_STEPS,
    }


def scales_of(plan: Plan, model: nn.Module, potential: float) -> tuple[float, float]:
    """Return the scales chosen on the validation part, once for each network and potential."""
    path = FOLDER / plan.subject.name / f"scales-e{potential:g}.json"
    if not path.exists():
        part = dataset(plan.subject.data).val.first(SCALING)
        found = fit_charge_scales(model, part, GRID)
        scales = {"plus": found.scale_plus, "minus": found.scale_minus}
        write_json_atomic(path, scales)
    scales = read_json(path)
    return scales["plus"], scales["minus"]


def measured() -> list[dict[str, Any]]:
    """Return all rows that are there."""
    paths = sorted(FOLDER.glob("*/rows/*.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def over_potentials(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row for each network, way, sigma and use of correctors, with all potentials."""
    named = {name: place for place, name in enumerate(PLANS)}
    ways = {way: place for place, way in enumerate(WAYS)}
    grouped: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in found:
        key = row["network"], row["way"], row["sigma"], row["corrected"]
        names = ("network", "data", "way", "sigma", "corrected", "chips", "samples")
        kept = grouped.setdefault(key, {n: row[n] for n in names} | {"mean": {}, "std": {}})
        point = "inf" if row["potential"] is None else f"{row['potential']:g}"
        kept["mean"][point], kept["std"][point] = row["mean"], row["std"]
    order = sorted(grouped, key=lambda k: (named[k[0]], k[2], k[3], ways[k[1]]))
    return [grouped[key] for key in order]


def table() -> None:
    """Write benchmarks/results/charge.json."""
    found = measured()
    content = {
        "command": f"{COMMAND} run",
        "rows": over_potentials(found),
        "measured": found,
        "published": PUBLISHED,
    }
    write_json_atomic(RESULTS / "charge.json", content)


def main() -> None:
    """Do what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=("train", "run", "table"))
    parser.add_argument("--network", choices=list(PLANS), nargs="+", default=list(PLANS))
    parser.add_argument("--rows", type=int, help="measure at most so many rows of each network")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.action == "table":
        table()
        return
    for name in arguments.network:
        if arguments.action == "train":
            train(PLANS[name])
        else:
            run(PLANS[name], arguments.rows)


if __name__ == "__main__":
    main()
