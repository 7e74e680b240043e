"""Compensation of LeNet-5 at sigma 0.5, against the baselines at equal overhead.

    python -m benchmarks.compensation select   # which variant wins, on validation data
    python -m benchmarks.compensation run      # all methods, on test data, 100 chips
    python -m benchmarks.compensation table    # benchmarks/results/variants.json, compensation.json

Networks are those of `python -m benchmarks.sweeps run --only training`; steps resume where they
were stopped. `--data mnist` and `--training noise` restrict them. Some hours.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from torch import nn

from benchmarks.common import RECORDS, Row, command_line, once, rows_in, write_result
from benchmarks.subjects import SUBJECTS, cost_of, dataset, overheads, swept
from benchmarks.ways import over_chips
from cnet_aihw import evaluation
from cnet_aihw.compensation import (
    PAPER,
    FitSettings,
    GeneratorCompensator,
    Placement,
    compensate,
    digital_placement,
    fit_compensation,
    uniform_placement,
)
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.zoo import Dataset

COMMAND = "python -m benchmarks.compensation"
SETS = ["mnist", "cifar10"]
TRAININGS = ["plain", "lipschitz", "noise", "lipschitz_noise"]
OVERHEADS = (0.01, 0.02, 0.05)
RESIDUAL = GeneratorCompensator(form="residual")
VARIANTS = {
    "paper": PAPER,
    "full, relu": GeneratorCompensator(activation="relu"),
    "residual": RESIDUAL,
    "residual, relu": GeneratorCompensator(form="residual", activation="relu"),
    "residual, relu, reads x": GeneratorCompensator("x", form="residual", activation="relu"),
    "residual, relu, reads y": GeneratorCompensator("y", form="residual", activation="relu"),
    "residual, relu, 3x3": GeneratorCompensator("xy", "relu", 3, "residual"),
}
PARTS = {"val": (30, 1000), "test": (100, 0)}
"""Number and seed of the chips; those of the test part are chips that no choice has seen."""


@dataclass
class Trained:
    """A trained network with the scans of its layers on validation data."""

    name: str
    training: str

    def __post_init__(self) -> None:
        """Load it, and scan its layers."""
        self.folder = folder_of(self.name, self.training)
        subject = SUBJECTS[f"lenet5_{self.name}"]
        self.data: Dataset = dataset(self.name)
        self.model = swept(subject, self.training)
        self.cost = cost_of(subject)
        self.candidates = list(evaluation.candidate_layers(self.scan("suffix")))
        rows = sorted(self.scan("single").rows, key=lambda row: row.mean)
        self.by_sensitivity = [row.name for row in rows]

    def scan(self, mode: Any) -> evaluation.LayerScan:
        """Return what is lost when layers vary."""
        part = (self.data.val.x[:1000], self.data.val.y[:1000])
        records = self.folder / f"scan-{mode}.jsonl"
        return evaluation.scan_layers(
            self.model, part, mode=mode, chips=20, seed=1, records=records
        )

    def row(
        self, method: str, variant: str, model: nn.Module, part: str, records: Path,
        calibration: Any = None, **more: Any,
    ) -> Row:  # fmt: skip
        """Measure a network; return its row."""
        chips, seed = PARTS[part]
        found = evaluation.evaluate_chips(
            model, getattr(self.data, part), chips=chips, seed=seed, records=records,
            calibration=calibration,
        )  # fmt: skip
        return {
            "data": self.name,
            "network": "lenet5",
            "training": self.training,
            "method": method,
            "variant": variant,
            "sigma": 0.5,
            "candidates": self.candidates,
            "overhead_weights": 0.0,
            "overhead_macs": 0.0,
            **more,
            **over_chips(found),
            "chips": found.chips,
            "seed": found.seed,
        }

    def placed(self, placement: Placement, variant: GeneratorCompensator) -> Row:
        """Return a placement with its overheads."""
        return {"placement": dict(placement), **overheads(self.cost, placement, variant)}

    def compensated(
        self, method: str, variant: GeneratorCompensator, limit: float, part: str
    ) -> list[Row]:
        """Fit one variant within a limit and measure it; no row where it does not fit in."""
        try:
            placement = uniform_placement(
                self.cost, self.by_sensitivity, limit, variant, 0.1, limit_macs=None
            )
        except CnetError:
            return []
        folder = self.folder / f"{variant.label()}-{limit:g}"
        model = compensate(deepcopy(self.model), placement, variant)
        settings = FitSettings(epochs=1, validation_chips=0, select="last")
        fit_compensation(model, self.data, settings, folder / "fit", progress=False)
        records, more = folder / f"chips-{part}.jsonl", self.placed(placement, variant)
        return [self.row(method, variant.label(), model, part, records, limit=limit, **more)]


def folder_of(name: str, training: str) -> Path:
    """Where the records of a network are."""
    return RECORDS / f"compensation_{name}" / training


def variants(name: str, training: str) -> list[Row]:
    """No compensation, and every variant at 2 % overhead, on validation data."""
    it = Trained(name, training)
    rows = [it.row("none", "", it.model, "val", it.folder / "none-val.jsonl")]
    for method, variant in VARIANTS.items():
        rows += it.compensated(method, variant, 0.02, "val")
    return rows


def methods(name: str, training: str) -> list[Row]:
    """All methods, on test data."""
    it = Trained(name, training)
    records = RECORDS / f"lenet5_{name}" / training / "chips.jsonl"  # measured there already
    affine = evaluation.AffineCorrection(it.data.train.x[:1000])
    rows = [
        it.row("none", "", it.model, "test", records),
        it.row("affine correction per chip", affine.label(), it.model, "test",
               it.folder / "affine.jsonl", affine,
               overhead_weights=affine.cost(it.model) / it.cost.weights),
    ]  # fmt: skip
    for limit in OVERHEADS:
        for method, variant in (("paper", PAPER), ("residual", RESIDUAL)):
            rows += it.compensated(method, variant, limit, "test")
        placement = digital_placement(it.cost, it.by_sensitivity, limit, limit_macs=None)
        model = compensate(deepcopy(it.model), placement)
        records, more = it.folder / f"digital-{limit:g}.jsonl", it.placed(placement, PAPER)
        rows.append(it.row("digital layers", "", model, "test", records, limit=limit, **more))
    return rows


def select(data: list[str], training: list[str]) -> None:
    """Measure the variants."""
    for pair in product(data, training):
        once(folder_of(*pair) / "variants.json", variants, *pair)


def run(data: list[str], training: list[str]) -> None:
    """Measure the methods."""
    for pair in product(data, training):
        once(folder_of(*pair) / "compensation.json", methods, *pair)


def table() -> None:
    """Write both results from what is there."""
    for result, step in (("variants", "select"), ("compensation", "run")):
        rows = rows_in(folder_of(*pair) / f"{result}.json" for pair in product(SETS, TRAININGS))
        command = f"{COMMAND} {step}"
        write_result(result, command, [{**row, "command": command} for row in rows])


if __name__ == "__main__":
    command_line(__doc__, select, run, table, data=SETS, training=TRAININGS)
