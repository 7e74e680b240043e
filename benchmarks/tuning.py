"""Tuning on one chip: each way beside correctors fitted to the chip, over sigma and fresh parts.

    python -m benchmarks.tuning run      # all rows, about an hour on one core
    python -m benchmarks.tuning table    # benchmarks/results/tuning.json

Networks are those of `python -m benchmarks.per_chip train`, in outputs/per_chip, or in the folder
that the environment names as BENCHMARK_PER_CHIP; rows are kept in its folder `tuning`, and what is
there is not repeated. Data are as for that command. `--network` and `--sigma` restrict it.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from types import SimpleNamespace

from benchmarks.common import OUTPUTS, Row, command_line, once, rows_in, write_result
from benchmarks.subjects import CHIPS_SEED, SUBJECTS, VALIDATION_SEED, cost_of, dataset, uniform
from benchmarks.subjects import network as trained
from cnet_aihw.compensation import LowRank, PerChipFit, WithCompensation, choose_target
from cnet_aihw.evaluation import measure
from cnet_aihw.tuning import TuningSettings, tune_chips

COMMAND = "python -m benchmarks.tuning"
NETWORKS, TRAINING = ["lenet5_mnist", "lenet5_cifar10"], "noise"
SIGMAS, REWRITES = [0.3, 0.5, 1.0], [0.0, 0.1, 0.3]
CHIPS, OTHERS, TEST, FITTED = 10, 1, 1000, 300
STEPS = TuningSettings(
    epochs=3, samples=1024, validation_samples=100, batch_size=64, lr=1e-3, angles=True
)


@dataclass(frozen=True)
class Way:
    """A way to tune."""

    name: str
    settings: TuningSettings
    calibrated: bool = False
    """Whether correctors fitted to the chip are measured, too: instead, on top, or tuned."""


WAYS = (
    Way("progressive", replace(STEPS, tune="progressive", epochs=1), True),
    Way("physics-aware", replace(STEPS, tune="all")),
    Way("physics-aware, few writes", replace(STEPS, tune="all", write_every=12)),
    Way("exact", replace(STEPS, tune="all", backward="exact")),
    Way("feedback", replace(STEPS, tune="all", backward="feedback")),
    Way("random target", replace(STEPS, tune="all", backward="random_target")),
    Way("digital", replace(STEPS, tune="digital", lr=3e-3)),
    Way("perturbation", replace(STEPS, tune="digital", backward="perturbation", lr=3e-3)),
    Way("correctors", replace(STEPS, tune="correctors", lr=3e-3), True),
)


def run(network: list[str], sigma: list[float]) -> None:
    """Measure the rows that are not there yet."""
    for cell in product(network, sigma, REWRITES, WAYS):
        once(folder_of(*cell) / "row.json", tuned, *cell)


def tuned(name: str, sigma: float, rewrite: float, way: Way) -> Row:
    """Tune each chip in one way; return the row."""
    subject, folder = SUBJECTS[name], folder_of(name, sigma, rewrite, way)
    model, data = trained(subject, 0, TRAINING, sigma=sigma), dataset(subject.data)
    target = best_target(name, sigma) if way.calibrated else None
    found = tune_chips(
        model,
        SimpleNamespace(train=data.train, val=data.val, augment=None, fingerprint=data.fingerprint),
        way.settings,
        folder,
        test=data.test.first(TEST),
        chips=CHIPS,
        seed=CHIPS_SEED,
        rewrite_sigma=rewrite,
        others=OTHERS,
        calibration=correctors(name, target) if target else None,
        batch_size=500,
        device="cpu",
    )
    for kept in folder.glob("chip-*"):  # networks of single chips, 3 MB each
        shutil.rmtree(kept)
    return {
        "network": name,
        "data": subject.data,
        "training": TRAINING,
        "training_seed": 0,
        "sigma": sigma,
        "way": way.name,
        "corrector_target": target,
        "clean": measure(model, data.test.first(TEST), 500)[1],
        **{key: value for key, value in found.as_record().items() if key != "curve"},
        "part": "test",
        "samples": TEST,
        "chips_seed": CHIPS_SEED,
        "settings": asdict(way.settings),
        "command": f"{COMMAND} run",
    }


def correctors(name: str, target: str = "clean") -> WithCompensation:
    """Return low-rank correctors at all layers, within the limit, fitted to each chip."""
    subject = SUBJECTS[name]
    fit = PerChipFit(dataset(subject.data).train.x[:FITTED], batch_size=2000, target=target)
    return WithCompensation(uniform(cost_of(subject), LowRank()), LowRank(), fit)


@cache
def best_target(name: str, sigma: float) -> str:
    """Return what correctors should aim at, clean outputs or their mean, by validation chips."""
    subject = SUBJECTS[name]
    model, part = trained(subject, 0, TRAINING, sigma=sigma), dataset(subject.data).val.first(TEST)
    found = choose_target(
        model, part, correctors(name), chips=4, seed=VALIDATION_SEED, device="cpu"
    )
    print(f"{name} sigma {sigma:g}: correctors {found.scores}", flush=True)
    return found.target


def folder_of(name: str, sigma: float, rewrite: float, way: Way) -> Path:
    """Where a row is."""
    words = way.name.replace(",", "").replace(" ", "-")
    return OUTPUTS / "tuning" / name / TRAINING / f"sigma{sigma:g}-fresh{rewrite:g}" / words


def table() -> None:
    """Write all rows that are there."""
    cells = product(NETWORKS, SIGMAS, REWRITES, WAYS)
    rows = rows_in(folder_of(*cell) / "row.json" for cell in cells)
    write_result("tuning", f"{COMMAND} run", rows)


if __name__ == "__main__":
    command_line(__doc__, run, table, network=NETWORKS, sigma=SIGMAS)
