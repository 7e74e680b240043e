"""Charge read-out over reversal potentials: networks mapped, scaled, and trained through it.

    python -m benchmarks.charge train   # networks without a limit, and through the circuit
    python -m benchmarks.charge run     # all rows, test part
    python -m benchmarks.charge table   # benchmarks/results/charge.json

`--network NAME` takes one network. Networks and records are in outputs/per_chip/charge, or in the
folder that the environment names as BENCHMARK_PER_CHIP; each row resumes where it was stopped. Data
are expected as for benchmarks.per_chip. About 40 minutes of one core in all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from time import process_time
from typing import Any

import torch
from torch import nn

from benchmarks.common import OUTPUTS, Row, command_line, once, rows_in, timed, write_result
from benchmarks.subjects import CHIPS_SEED, Subject, dataset, overheads, sizes
from benchmarks.ways import Way, calibration, over_chips
from cnet_aihw import rram
from cnet_aihw.compensation import LowRank, Placement, network_cost
from cnet_aihw.evaluation import evaluate_chips, fit_charge_scales
from cnet_aihw.training import TrainingSettings, load_checkpoint
from cnet_aihw.training import train as train_network
from cnet_aihw.zoo import ClippedCNN, ClippedMLP

FOLDER = OUTPUTS / "charge"
COMMAND = "python -m benchmarks.charge"
POTENTIALS = (0.5, 1.0, 4.0, 16.0)
SIGMAS = (0.0, 0.3, 0.5)
WAYS = ("mapped", "scaled", "trained")
CHIPS, TEST, FIT, SCALING = 10, 500, 200, 300  # chips; images of test, corrector fits and scales
STEPS, TEST_STEPS = 4, 8  # intervals of the grid
VALIDATION = 1000  # images; of no consequence for the weights
GRID = (0.25, 0.5, 1.0, 1.5, 2.0)

FASHION = {
    "784-400-400-10": {"0": 0.9046, "0.01": 0.9040, "0.04": 0.9012},
    "64-64-P-128-128-P-256-256-P-512-10": {"0": 0.9411, "0.01": 0.9409, "0.04": 0.9363},
}
PUBLISHED = {
    "source": "Sakemi et al., arXiv 2412.09010, table 3, best |E| for each noise of spikes",
    "rows": [
        {"network": name, "data": "Fashion-MNIST", "accuracy": accuracy}
        for name, accuracy in FASHION.items()
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

    more: tuple[Any, ...] = ()
    """Arguments of the network after the shapes of inputs and outputs."""


PLANS = {
    plan.subject.name: plan
    for plan in (
        Plan(Subject("mlp_mnist", "mnist", ClippedMLP), 20000, 3, 12000),
        Plan(Subject("lenet5_mnist", "mnist", ClippedCNN), 20000, 3, 12000),
        Plan(Subject("cnn_cifar10", "cifar10", ClippedCNN), 45000, 6, 20000,
             ((16, 32, 64), 3, 2, 1, False, ())),
    )
}  # fmt: skip


def untrained(plan: Plan, potential: float) -> nn.Module:
    """Return a network on crossbars, with weights of a seed."""
    torch.manual_seed(0)
    charge = rram.Charge(potential, -potential, steps=STEPS, test_steps=TEST_STEPS)
    config = rram.RRAMRPUConfig(noise_model=rram.LogNormalNoiseModel(0.0), readout=charge)
    data = dataset(plan.subject.data)
    shapes = data.input_shape, data.classes
    digital = plan.subject.kind(*shapes, *plan.more, mean=data.mean, std=data.std)
    return rram.convert_to_analog(digital, config)


def weights_of(plan: Plan, potential: float) -> Path:
    """Return the folder of a training: without a limit, or through the circuit."""
    return FOLDER / plan.subject.name / f"e{potential:g}"


def trained(plan: Plan, potential: float, way: str) -> nn.Module:
    """Return a trained network at a reversal potential."""
    model = untrained(plan, potential)
    folder = weights_of(plan, potential if way == "trained" else math.inf)
    rram.load_snapshot(model, load_checkpoint(folder / "best.safetensors").model)
    return model.eval()


def train(network: list[str]) -> None:
    """Train without a limit, and from there through the circuit at each potential."""
    for plan, potential in product((PLANS[n] for n in network), (math.inf, *POTENTIALS)):
        data = dataset(plan.subject.data)
        first = math.isinf(potential)
        folder, start = weights_of(plan, potential), process_time()
        model = untrained(plan, potential)
        if not first:
            best = weights_of(plan, math.inf) / "best.safetensors"
            rram.load_snapshot(model, load_checkpoint(best).model)
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


def run(network: list[str]) -> None:
    """Measure the rows that are not there yet."""
    points = [*product(POTENTIALS, WAYS), (math.inf, "mapped")]
    for plan in (PLANS[name] for name in network):
        for (potential, way), sigma, corrected in product(points, SIGMAS, (False, True)):
            name = f"e{potential:g}-{way}-s{sigma:g}-{'corrected' if corrected else 'bare'}"
            path = FOLDER / plan.subject.name / "rows" / f"{name}.json"
            records = path.with_suffix(".jsonl")
            once(path, timed, measure, plan, potential, way, sigma, corrected, records)


def measure(
    plan: Plan, potential: float, way: str, sigma: float, corrected: bool, records: Path
) -> Row:
    """Measure one row over chips."""
    data, subject = dataset(plan.subject.data), plan.subject
    model = trained(plan, potential, way)
    scales = scales_of(plan, model, potential) if way == "scaled" else (1.0, 1.0)
    rram.set_readout(model, scale_plus=scales[0], scale_minus=scales[1])
    rram.set_noise_model(model, rram.LogNormalNoiseModel(sigma))
    corrector, costs = LowRank(), network_cost(model, data.val.first(1).x)
    placement = sizes(costs, 1)
    ask = Way(way, way, corrector, placement, "per_chip" if corrected else "none", FIT)
    chips = CHIPS if sigma else 1  # without variation all chips are the same
    found = evaluate_chips(
        model, data.test.first(TEST), chips=chips, seed=CHIPS_SEED, records=records, device="cpu",
        calibration=calibration(ask, subject),
    )  # fmt: skip
    rram.clear_chip(model)
    return {
        "network": subject.name,
        "data": subject.data,
        "potential": None if math.isinf(potential) else potential,
        "way": way,
        "sigma": sigma,
        "corrected": corrected,
        "scale_plus": scales[0],
        "scale_minus": scales[1],
        **overheads(costs, placement if corrected else Placement({}), corrector),
        **over_chips(found),
        "chips": chips,
        "chips_seed": CHIPS_SEED,
        "samples": TEST,
        "test_steps": TEST_STEPS,
    }


def scales_of(plan: Plan, model: nn.Module, potential: float) -> tuple[float, float]:
    """Return the scales chosen on the validation part, once for each network and potential."""

    def fit() -> dict[str, float]:
        part = dataset(plan.subject.data).val.first(SCALING)
        found = fit_charge_scales(model, part, GRID)
        return {"plus": found.scale_plus, "minus": found.scale_minus}

    scales = once(FOLDER / plan.subject.name / f"scales-e{potential:g}.json", fit)
    return scales["plus"], scales["minus"]


def over_potentials(found: list[Row]) -> list[Row]:
    """Return one row for each network, way, sigma and use of correctors, with all potentials."""
    networks, rows = list(PLANS), dict[tuple[Any, ...], Row]()
    same = ("network", "data", "way", "sigma", "corrected", "chips", "samples")
    for row in sorted(found, key=lambda r: (
        networks.index(r["network"]), r["sigma"], r["corrected"], WAYS.index(r["way"])
    )):  # fmt: skip
        about = {name: row[name] for name in same}
        kept = rows.setdefault(tuple(about.values()), {**about, "mean": {}, "std": {}})
        point = "inf" if row["potential"] is None else f"{row['potential']:g}"
        kept["mean"][point], kept["std"][point] = row["mean"], row["std"]
    return list(rows.values())


def table() -> None:
    """Write benchmarks/results/charge.json."""
    found = rows_in(sorted(FOLDER.glob("*/rows/*.json")))
    more = {"measured": found, "published": PUBLISHED}
    write_result("charge", f"{COMMAND} run", over_potentials(found), **more)


if __name__ == "__main__":
    command_line(__doc__, train, run, table, network=list(PLANS))
