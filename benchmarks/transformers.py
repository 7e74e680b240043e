"""Transformers, recurrent networks and other tasks on chips, with correctors fitted to each.

    python -m benchmarks.transformers train      # plain and noise, by their experiments
    python -m benchmarks.transformers run        # ways x sigma, on the same chips, on test data
    python -m benchmarks.transformers scan       # sensitivity of each layer, on validation data
    python -m benchmarks.transformers table      # benchmarks/results/transformers.json

Where networks, records and data are: see benchmarks/subjects.py. Each step resumes where it was
stopped.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.per_chip import searched
from benchmarks.subjects import (
    DATA,
    LIMIT,
    OTHERS,
    RESULTS,
    Subject,
    Way,
    cost_of,
    dataset,
    folder_of,
    measure,
    network,
    sizes,
)
from cnet_aihw.compensation import Affine, LowRank, Placement, compensation_cost
from cnet_aihw.evaluation import ceiling, scan_layers
from cnet_aihw.runtime.records import read_json, write_json_atomic
from cnet_aihw.search.searchers import SpectrumSearcher

COMMAND = "python -m benchmarks.transformers"
SIGMAS = (0.3, 0.1, 0.5)
IMAGES = {"text": 200, "scenes": 100, "diabetes": 300}
"""Samples of a fit where they are not 1000."""


def train(subject: Subject) -> None:
    """Train a network plainly and under noise, by the command that is printed."""
    where = {
        "mnist": f"data.root={DATA} data.download=false",
        "cifar10": f"data.path={DATA / 'cifar10.npz'}",
        "text": f"data.path={DATA / 'shakespeare.txt'}",
    }.get(subject.data, "")
    command = (
        f"cnet-aihw experiment={subject.name} job=train {where} progress=false "
        f"run={folder_of(subject, 0)}"
    )
    print(command, flush=True)
    words = shlex.split(command)[1:]
    subprocess.run([sys.executable, "-m", "cnet_aihw.jobs.cli", *words], check=True)


def choose(subject: Subject) -> dict[str, Any]:
    """Choose a placement on validation data: one size everywhere, or the spectrum's."""
    path = folder_of(subject, 0) / "choose.json"
    if path.exists():
        return dict(read_json(path))
    cost = cost_of(network(subject, 0, "plain", sigma=0.3), subject)
    images = IMAGES.get(subject.data, 1000)
    found = {
        "size 1": sizes(cost, 1),
        "size 2": sizes(cost, 2),
        "size 4": sizes(cost, 4),
        "spectrum": searched(subject, SpectrumSearcher(), None, 1, "plain", images),
    }
    rows = []
    for name, placement in found.items():
        made = compensation_cost(cost, placement, LowRank())
        if max(made.overhead_weights, made.overhead_macs or 0.0) <= LIMIT:
            way = Way(name, "plain", LowRank(), placement, "per_chip", images=images)
            records = folder_of(subject, 0) / "choose" / f"{name}.jsonl"
            rows.append(measure(way, subject, 0, records, 4, part="val", samples=images, sigma=0.3))
            print(f"{subject.name}: {name}: {rows[-1]['mean']:.4f}", flush=True)
    sign = 1 if subject.task.higher_is_better else -1
    chosen = {"rows": rows, "chosen": max(rows, key=lambda row: sign * row["mean"])}
    write_json_atomic(path, chosen)
    return chosen


def ways(subject: Subject) -> Iterator[Way]:
    """Yield all ways that are compared."""
    placement = Placement(choose(subject)["chosen"]["placement"])
    full = Placement(dict.fromkeys(placement, 1.0))
    images = IMAGES.get(subject.data, 1000)
    steps = subject.refined[0][0]
    for training in ("plain", "noise"):
        target = "mean_over_chips" if training == "noise" else "clean"
        fitted = Way(
            f"{training}, per chip", training, LowRank(), placement, "per_chip",
            images=images, target=target,
        )  # fmt: skip
        yield Way(f"{training}, none", training)
        yield fitted
        if training == "plain":
            yield Way("plain, affine", training, Affine(), full, "per_chip", images=images)
            yield Way(
                "plain, per chip, refined", training, LowRank(), placement, "per_chip",
                images=images, refine_steps=steps,
            )  # fmt: skip
            yield Way("plain, shared", training, LowRank(), placement, "shared")


def run(subject: Subject, chips: int) -> None:
    """Measure all ways at all deviations on test data."""
    for sigma in SIGMAS:
        for way in ways(subject):
            folder = folder_of(subject, 0) / f"test-{sigma:g}"
            path = folder / f"{way.name.replace(' ', '-')}.json"
            if path.exists() and read_json(path)["chips"] >= chips:
                continue
            if way.fit == "shared":  # its fit belongs to one deviation
                way = Way(**{**vars(way), "name": f"{way.name} {sigma:g}"})
            row = measure(
                way, subject, 0, path.with_suffix(".jsonl"), chips, samples=subject.test,
                sigma=sigma,
            )  # fmt: skip
            write_json_atomic(path, {**row, "command": f"{COMMAND} run --chips {chips}"})
            print(f"{subject.name} sigma {sigma:g}: {way.name}: {row['mean']:.4f}", flush=True)


def scan(subject: Subject) -> None:
    """Measure the plain network with one layer at a time on the chip."""
    path = folder_of(subject, 0) / "scan.json"
    if path.exists():
        return
    model = network(subject, 0, "plain", sigma=0.3)
    part = dataset(subject.data).val.first(IMAGES.get(subject.data, 1000))
    found = scan_layers(
        model, part, mode="single", task=subject.task, chips=5, seed=1, device="cpu",
        records=path.with_suffix(".jsonl"),
    )  # fmt: skip
    rows = [
        {"network": subject.name, "layer": row.name, "mean": row.mean, "clean": found.clean}
        for row in found.rows
    ]
    write_json_atomic(path, {"rows": rows})


def table() -> None:
    """Write all rows with their recovery, that of the plain network's clean score."""
    rows: list[dict[str, Any]] = []
    scans: list[dict[str, Any]] = []
    for subject in OTHERS.values():
        folder = folder_of(subject, 0)
        found = [read_json(path) for path in sorted(folder.glob("test-*/*.json"))]
        if found:
            part = dataset(subject.data).test.first(subject.test)
            model = network(subject, 0, "plain")
            top = ceiling(model, part, [], task=subject.task, chips=1, batch_size=500).clean
            rows += [
                {**row, "plain_clean": top, "recovery": subject.task.recovery(row["mean"], top)}
                for row in found
            ]
        if (folder / "scan.json").exists():
            scans += read_json(folder / "scan.json")["rows"]
    record = {"command": f"{COMMAND} run", "limit": LIMIT, "rows": rows, "sensitivity": scans}
    write_json_atomic(RESULTS / "transformers.json", record)
    for row in rows:
        kept = row["recovery"]
        print(
            f"{row['network']:16s} {row['sigma']} {row['way']:28s} {row['mean']:.4f} "
            f"{'-' if kept is None else f'{100 * kept:.1f}'}"
        )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("step", choices=("train", "run", "scan", "table"))
    parser.add_argument("--network", choices=list(OTHERS), action="append")
    parser.add_argument("--chips", type=int, default=25)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for name in asked.network or OTHERS:
        if asked.step == "train":
            train(OTHERS[name])
        elif asked.step == "run":
            run(OTHERS[name], asked.chips)
        elif asked.step == "scan":
            scan(OTHERS[name])
    if asked.step == "table":
        table()


if __name__ == "__main__":
    main()
