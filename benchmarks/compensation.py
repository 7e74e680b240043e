"""Compensation of LeNet-5 at sigma 0.5, against the baselines at equal overhead.

    python -m benchmarks.compensation select   # which variant wins, on validation data
    python -m benchmarks.compensation run      # the table, on test data, 100 chips

Both take up the networks that `python -m benchmarks.training` left in outputs/benchmarks, continue
where they were stopped, and write benchmarks/results/variants.json and compensation.json from the
records alone. `--data mnist` and `--training noise` restrict what is run, not what is written;
what was done before is repeated with `--again` alone.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.training import DATA, RECORDS, RESULTS, TRAININGS, trained_network
from cnet_aihw.compensation import (
    PAPER,
    FitSettings,
    GeneratorCompensator,
    NetworkCost,
    Placement,
    compensate,
    compensation_cost,
    digital_placement,
    fit_compensation,
    network_cost,
    uniform_placement,
)
from cnet_aihw.evaluation import (
    AffineCorrection,
    ChipStatistics,
    LayerScan,
    candidate_layers,
    evaluate_chips,
    scan_layers,
)
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import write_json_atomic
from cnet_aihw.zoo import Dataset

CHIPS = 100
SCAN_CHIPS = 20
SCAN_SAMPLES = 1000
CALIBRATION_SAMPLES = 1000
OVERHEADS = (0.01, 0.02, 0.05)
EPOCHS = 1
MIN_RATIO = 0.1
VARIANTS = {
    "paper": PAPER,
    "full, relu": GeneratorCompensator(activation="relu"),
    "residual": GeneratorCompensator(form="residual"),
    "residual, relu": GeneratorCompensator(form="residual", activation="relu"),
    "residual, relu, reads x": GeneratorCompensator("x", form="residual", activation="relu"),
    "residual, relu, reads y": GeneratorCompensator("y", form="residual", activation="relu"),
    "residual, relu, 3x3": GeneratorCompensator("xy", "relu", 3, "residual"),
}


@dataclass
class Subject:
    """One trained network with what was found out about it on validation data."""

    name: str
    training: str
    data: Dataset
    model: nn.Module
    cost: NetworkCost
    suffix: LayerScan
    single: LayerScan

    @property
    def folder(self) -> Path:
        """Where its records are."""
        return RECORDS / f"compensation_{self.name}" / self.training

    @property
    def by_sensitivity(self) -> list[str]:
        """All layers, the one whose variation alone costs most first."""
        return [row.name for row in sorted(self.single.rows, key=lambda row: row.mean)]


@cache
def subject(name: str, training: str) -> Subject:
    """Load a network and scan its layers."""
    data, model = trained_network(name, training)
    part = (data.val.x[:SCAN_SAMPLES], data.val.y[:SCAN_SAMPLES])
    folder = RECORDS / f"compensation_{name}" / training
    scans = [
        scan_layers(
            model, part, mode=mode, chips=SCAN_CHIPS, seed=1, records=folder / f"scan-{mode}.jsonl"
        )
        for mode in ("suffix", "single")
    ]
    return Subject(name, training, data, model, network_cost(model, data.val.x[:1]), *scans)


def fitted(
    subject: Subject, placement: Placement, variant: GeneratorCompensator, label: str
) -> nn.Module:
    """A copy of the network with its compensation fitted."""
    model = compensate(deepcopy(subject.model), placement, variant)
    settings = FitSettings(epochs=EPOCHS, validation_chips=0, select="last")
    fit_compensation(model, subject.data, settings, subject.folder / label / "fit", progress=False)
    return model


def row(subject: Subject, method: str, variant: str, chips: ChipStatistics, **more: Any) -> dict:
    """One row of a table."""
    return {
        "data": subject.name,
        "network": "lenet5",
        "training": subject.training,
        "method": method,
        "variant": variant,
        "sigma": 0.5,
        "candidates": list(candidate_layers(subject.suffix)),
        "overhead_weights": 0.0,
        "overhead_macs": 0.0,
        **more,
        "clean": chips.clean,
        "mean": chips.mean,
        "std": chips.std,
        "q05": chips.q05,
        "chips": chips.chips,
        "seed": chips.seed,
    }


def compensated_row(
    subject: Subject,
    method: str,
    variant: GeneratorCompensator,
    limit: float,
    part: str,
    chips: int,
) -> dict | None:
    """Fit one variant within an overhead limit and measure it; None where it does not fit in."""
    try:
        placement = uniform_placement(
            subject.cost, subject.by_sensitivity, limit, variant, MIN_RATIO, limit_macs=None
        )
    except CnetError:
        return None
    label = f"{variant.label()}-{limit:g}"
    model = fitted(subject, placement, variant, label)
    samples = subject.data.val if part == "val" else subject.data.test
    records = subject.folder / label / f"chips-{part}.jsonl"
    measured = evaluate_chips(model, samples, chips=chips, seed=seed_of(part), records=records)
    cost = compensation_cost(subject.cost, placement, variant)
    return row(
        subject, method, variant.label(), measured, limit=limit, placement=dict(placement),
        overhead_weights=cost.overhead_weights, overhead_macs=cost.overhead_macs,
    )  # fmt: skip


def seed_of(part: str) -> int:
    """Seed of the chips: those of the test table are chips that no choice has seen."""
    return 0 if part == "test" else 1000


def select(name: str, training: str) -> Iterator[dict]:
    """No compensation, and every variant at 2 % overhead, on validation data."""
    it = subject(name, training)
    measured = evaluate_chips(
        it.model, it.data.val, chips=30, seed=seed_of("val"), records=it.folder / "none-val.jsonl"
    )
    yield row(it, "none", "", measured)
    for method, variant in VARIANTS.items():
        found = compensated_row(it, method, variant, 0.02, "val", 30)
        if found is not None:
            yield found


def run(name: str, training: str) -> Iterator[dict]:
    """All methods, on test data."""
    it = subject(name, training)
    test = it.data.test
    records = RECORDS / f"lenet5_{name}" / training / "chips.jsonl"  # measured there already
    measured = evaluate_chips(it.model, test, chips=CHIPS, records=records)
    yield row(it, "none", "", measured)
    calibration = AffineCorrection(it.data.train.x[:CALIBRATION_SAMPLES])
    measured = evaluate_chips(
        it.model, test, chips=CHIPS, calibration=calibration, records=it.folder / "affine.jsonl"
    )
    share = calibration.cost(it.model) / it.cost.weights
    yield row(
        it, "affine correction per chip", calibration.label(), measured, overhead_weights=share
    )
    for limit in OVERHEADS:
        for method, variant in (("paper", PAPER), ("residual", VARIANTS["residual"])):
            found = compensated_row(it, method, variant, limit, "test", CHIPS)
            if found is not None:
                yield found
        placement = digital_placement(it.cost, it.by_sensitivity, limit, limit_macs=None)
        model = compensate(deepcopy(it.model), placement)
        records = it.folder / f"digital-{limit:g}.jsonl"
        measured = evaluate_chips(model, test, chips=CHIPS, records=records)
        cost = compensation_cost(it.cost, placement, PAPER)
        yield row(
            it, "digital layers", "", measured, limit=limit, placement=dict(placement),
            overhead_weights=cost.overhead_weights, overhead_macs=cost.overhead_macs,
        )  # fmt: skip


def main() -> None:
    """Run what is asked for and write the table of all that is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=("select", "run"))
    parser.add_argument("--data", choices=list(DATA), nargs="+", default=list(DATA))
    parser.add_argument("--training", choices=TRAININGS, nargs="+", default=list(TRAININGS))
    parser.add_argument("--again", action="store_true", help="also where it was done before")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    target = "variants" if arguments.action == "select" else "compensation"
    for name, training in itertools.product(arguments.data, arguments.training):
        done = RECORDS / f"compensation_{name}" / training / f"{target}.json"
        if done.exists() and not arguments.again:
            continue
        rows = []
        for found in (select if arguments.action == "select" else run)(name, training):
            rows.append(found)
            print(json.dumps(found), flush=True)
        write_json_atomic(done, rows)
    command = f"python -m benchmarks.compensation {arguments.action}"
    rows = [
        {**entry, "command": command}
        for name, training in itertools.product(DATA, TRAININGS)
        for path in [RECORDS / f"compensation_{name}" / training / f"{target}.json"]
        if path.exists()
        for entry in json.loads(path.read_text())
    ]
    write_json_atomic(RESULTS / f"{target}.json", {"command": command, "rows": rows})


if __name__ == "__main__":
    main()
