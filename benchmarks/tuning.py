"""Tuning on one chip: each way beside correctors fitted to the chip, over sigma and fresh parts.

    python -m benchmarks.tuning run      # all rows, about an hour on one core
    python -m benchmarks.tuning table    # benchmarks/results/tuning.json

Networks are those of `python -m benchmarks.per_chip train`, in outputs/per_chip, or in the folder
that the environment names as BENCHMARK_PER_CHIP; rows are kept in its folder `tuning`, and what is
there is not repeated. Data are as for that command.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.subjects import (
    CHIPS_SEED,
    LIMIT,
    OUTPUTS,
    RESULTS,
    SUBJECTS,
    VALIDATION_SEED,
    Subject,
    cost_of,
    dataset,
    network,
)
from cnet_aihw.compensation import LowRank, PerChipFit, WithCompensation, uniform_placement
from cnet_aihw.evaluation import evaluate_chips, measure
from cnet_aihw.runtime.records import read_json, write_json_atomic
from cnet_aihw.tuning import TuningSettings, tune_chips

COMMAND = "python -m benchmarks.tuning"
NETWORKS = ("lenet5_mnist", "lenet5_cifar10")
SIGMAS, REWRITES = (0.3, 0.5, 1.0), (0.0, 0.1, 0.3)
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


TARGETS = ("clean", "mean_over_chips")
_TARGETS: dict[tuple[str, float], int] = {}
"""Network and sigma -> which of them is better on validation chips."""

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


def run(name: str, training: str, sigma: float, rewrite: float, way: Way) -> None:
    """Measure one row, and keep it."""
    subject = SUBJECTS[name]
    folder = _folder(name, training, sigma, rewrite, way)
    path = folder / "row.json"
    if path.exists():
        return
    model, data = network(subject, 0, training, sigma=sigma), dataset(subject.data)
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
        calibration=_correctors(subject, model, sigma) if way.calibrated else None,
        batch_size=500,
        device="cpu",
    )
    record = found.as_record()
    row = {
        "network": name,
        "data": subject.data,
        "training": training,
        "training_seed": 0,
        "sigma": sigma,
        "way": way.name,
        "corrector_target": TARGETS[_TARGETS[name, sigma]] if way.calibrated else None,
        "clean": measure(model, data.test.first(TEST), 500)[1],
        **{key: value for key, value in record.items() if key != "curve"},
        "part": "test",
        "samples": TEST,
        "chips_seed": CHIPS_SEED,
        "settings": asdict(way.settings),
        "command": f"{COMMAND} run",
    }
    write_json_atomic(path, row)
    for kept in folder.glob("chip-*"):  # networks of single chips, 3 MB each
        shutil.rmtree(kept)
    print(
        f"{name} {training} sigma {sigma:g} fresh {rewrite:g} {way.name}: "
        f"{found.before:.4f} to {found.score:.4f}, {found.writes_most} writes, "
        f"{CHIPS * found.seconds:.0f} s",
        flush=True,
    )


def table() -> None:
    """Write all rows that are there."""
    rows = [
        read_json(path)
        for name in NETWORKS
        for training in ("noise", "plain")
        for sigma, rewrite, way in _grid()
        if (path := _folder(name, training, sigma, rewrite, way) / "row.json").exists()
    ]
    write_json_atomic(RESULTS / "tuning.json", {"command": f"{COMMAND} run", "rows": rows})
    print(f"{len(rows)} rows")


def _correctors(subject: Subject, model: Any, sigma: float) -> WithCompensation:
    """Return low-rank correctors at all layers, within the limit, fitted to each chip.

    What they aim at, clean outputs or their mean over chips, is chosen on validation chips.
    """
    cost = cost_of(model, subject)
    layers = [name for name, row in cost.layers.items() if row.analog]
    placement = uniform_placement(cost, layers, LIMIT, LowRank(), limit_macs=LIMIT)
    x, part = dataset(subject.data).train.x[:FITTED], dataset(subject.data).val.first(TEST)
    ways = [
        WithCompensation(placement, LowRank(), PerChipFit(x, batch_size=2000, target=target))
        for target in TARGETS
    ]
    known = _TARGETS.get((subject.name, sigma))
    if known is None:
        scores = [
            evaluate_chips(
                model, part, chips=4, seed=VALIDATION_SEED, batch_size=500, calibration=way,
                device="cpu",
            ).mean
            for way in ways
        ]  # fmt: skip
        known = _TARGETS[subject.name, sigma] = scores.index(max(scores))
        found = dict(zip(TARGETS, scores, strict=True))
        print(f"{subject.name} sigma {sigma:g}: correctors {found}", flush=True)
    return ways[known]


def _grid() -> Iterator[tuple[float, float, Way]]:
    for sigma in SIGMAS:
        for rewrite in REWRITES:
            for way in WAYS:
                yield sigma, rewrite, way


def _folder(name: str, training: str, sigma: float, rewrite: float, way: Way) -> Path:
    words = way.name.replace(",", "").replace(" ", "-")
    return OUTPUTS / "tuning" / name / training / f"sigma{sigma:g}-fresh{rewrite:g}" / words


def main(words: Sequence[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("step", choices=("run", "table"))
    parser.add_argument("--network", choices=NETWORKS, action="append")
    parser.add_argument("--training", choices=("noise", "plain"), default="noise")
    parser.add_argument("--sigma", type=float, action="append", help="of the grid; all by default")
    parser.add_argument("--rewrite", type=float, action="append", help="of the grid; all")
    parser.add_argument("--way", choices=[way.name for way in WAYS], action="append")
    asked = parser.parse_args(words)
    if asked.step == "table":
        table()
        return
    for name in asked.network or NETWORKS:
        for sigma, rewrite, way in _grid():
            if (
                sigma in (asked.sigma or SIGMAS)
                and rewrite in (asked.rewrite or REWRITES)
                and way.name in (asked.way or [way.name])
            ):
                run(name, asked.training, sigma, rewrite, way)


if __name__ == "__main__":
    main()
