"""Transformers, recurrent networks and other tasks on chips, with correctors fitted to each.

    python -m benchmarks.transformers train      # plain and noise, by their experiments
    python -m benchmarks.transformers run        # ways x sigma, on the same chips, on test data
    python -m benchmarks.transformers scan       # sensitivity of each layer, on validation data
    python -m benchmarks.transformers table      # benchmarks/results/transformers.json

Where networks, records and data are: see benchmarks/subjects.py. Each step resumes where it was
stopped; `--network NAME`, `--sigma 0.3` and `--way 'plain*'` restrict it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatch
from typing import Any

from benchmarks.common import cnet_aihw, command_line, once, with_earlier, write_result
from benchmarks.per_chip import searched
from benchmarks.subjects import (
    LIMIT,
    OTHERS,
    Subject,
    Way,
    choose_best,
    cost_of,
    dataset,
    folder_of,
    kept,
    measure_all,
    network,
    plain_clean,
    sizes,
    where,
    within_limits,
)
from cnet_aihw.compensation import Affine, LowRank, Placement
from cnet_aihw.evaluation import scan_layers
from cnet_aihw.runtime.records import read_json
from cnet_aihw.search.searchers import SpectrumSearcher

COMMAND = "python -m benchmarks.transformers"
SIGMAS = [0.3, 0.1, 0.5]
IMAGES = {"text": 200, "scenes": 100, "diabetes": 300}
"""Samples of a fit where they are not 1000."""
FROM_PLAIN = {"vit_cifar10": (4, 5e-4), "language_model": (8, 1e-3)}
"""Epochs and learning rate of trainings under noise that begin with the plain weights."""


def train(network: list[str]) -> None:
    """Train networks plainly and under noise, by the commands that are printed."""
    for subject in (OTHERS[name] for name in network):
        words = [f"experiment={subject.name}", "job=train", *where(subject.data), "progress=false"]
        words.append(f"run={folder_of(subject, 0)}")
        if subject.name not in FROM_PLAIN:
            cnet_aihw(*words)
            continue
        epochs, lr = FROM_PLAIN[subject.name]
        if not (plain := kept(subject, "plain")).exists():
            plain = folder_of(subject, 0) / "plain" / "best.safetensors"
            cnet_aihw(*words, "training=plain")
        cnet_aihw(*words, "training=noise", f"pretrained={plain}", f"training.epochs={epochs}",
                  f"training.lr={lr:g}")  # fmt: skip


def choose(subject: Subject) -> dict[str, Any]:
    """Choose a placement on validation data: one size everywhere, or the spectrum's."""
    cost = cost_of(network(subject, 0, "plain", sigma=0.3), subject)
    images = IMAGES.get(subject.data, 1000)
    placements = {f"size {size}": sizes(cost, size) for size in (1, 2, 4)}
    placements["spectrum"] = searched(subject, SpectrumSearcher(), None, 1, images)
    candidates = [
        Way(name, "plain", LowRank(), placement, "per_chip", images=images)
        for name, placement in within_limits(placements, cost).items()
    ]
    rows, best = choose_best(candidates, subject, images, 0.3)
    return {"rows": rows, "chosen": best}


def ways(subject: Subject) -> Iterator[Way]:
    """Yield all ways that are compared."""
    choice = once(folder_of(subject, 0) / "choose.json", lambda: choose(subject))
    placement = Placement(choice["chosen"]["placement"])
    images, (steps, _) = IMAGES.get(subject.data, 1000), subject.refined[0]
    plain = Way("plain, per chip", "plain", LowRank(), placement, "per_chip", images=images)
    full = Placement(dict.fromkeys(placement, 1.0))
    yield Way("plain, none", "plain")
    yield plain
    yield replace(plain, name="plain, affine", corrector=Affine(), placement=full)
    refine = {"refine_steps": steps, "refine_batch": 16 if subject.data == "text" else 64}
    yield replace(plain, name="plain, per chip, refined", **refine)
    yield Way("plain, shared", "plain", LowRank(), placement, "shared")
    yield Way("noise, none", "noise")
    noise = replace(plain, name="noise, per chip", training="noise", target="mean_over_chips")
    yield noise
    yield replace(noise, name="noise, per chip, refined", **refine)


def run(network: list[str], sigma: list[float], way: str, chips: int) -> None:
    """Measure the ways whose names match a pattern, at each deviation, on test data."""
    for subject in (OTHERS[name] for name in network):
        for deviation in sigma:
            asked = (found for found in ways(subject) if fnmatch(found.name, way))
            folder = folder_of(subject, 0) / f"test-{deviation:g}"
            command = f"{COMMAND} run --chips {chips}"
            measure_all(asked, subject, 0, folder, chips, command, deviation)


def scan(network: list[str]) -> None:
    """Measure the plain network with one layer at a time on the chip."""
    for subject in (OTHERS[name] for name in network):
        once(folder_of(subject, 0) / "scan.json", lambda subject=subject: scanned(subject))


def scanned(subject: Subject) -> dict[str, Any]:
    """Return the mean of each layer alone."""
    part = dataset(subject.data).val.first(min(500, IMAGES.get(subject.data, 500)))
    found = scan_layers(
        network(subject, 0, "plain", sigma=0.3), part, mode="single", task=subject.task, chips=5,
        seed=1, device="cpu", records=folder_of(subject, 0) / "scan.jsonl",
    )  # fmt: skip
    about = {"network": subject.name}
    rows = [about | {"layer": r.name, "mean": r.mean, "clean": found.clean} for r in found.rows]
    return {"rows": rows}


def table() -> None:
    """Write all rows with their recovery, that of the plain network's clean score.

    Rows of which no records are here stay as they are in the results.
    """
    rows: list[dict[str, Any]] = []
    scans: list[dict[str, Any]] = []
    for subject in OTHERS.values():
        folder = folder_of(subject, 0)
        found = [read_json(path) for path in sorted(folder.glob("test-*/*.json"))]
        top = plain_clean(subject, 0, subject.test) if found else 0.0
        for row in found:  # shared fits have the deviation in the name of their folder
            row["way"] = row["way"].removesuffix(f" {row['sigma']:g}")
        rows += [
            {**row, "plain_clean": top, "recovery": subject.task.recovery(row["mean"], top)}
            for row in found
        ]
        if (folder / "scan.json").exists():
            scans += read_json(folder / "scan.json")["rows"]
    rows = with_earlier("transformers", rows, "network", "sigma", "way")
    rows.sort(key=lambda row: (list(OTHERS).index(row["network"]), row["sigma"], row["way"]))
    scans = with_earlier("transformers", scans, "network", "layer", key="sensitivity")
    for row in scans:
        kept = OTHERS[row["network"]].task.recovery(row["mean"], row["clean"])
        row["lost"] = None if kept is None else 1 - kept
    scans.sort(key=lambda row: (row["network"], -(row["lost"] or 0.0)))
    write_result("transformers", f"{COMMAND} run", rows, limit=LIMIT, sensitivity=scans)


if __name__ == "__main__":
    command_line(
        __doc__, train, run, scan, table, network=list(OTHERS), sigma=SIGMAS, way="*", chips=25,
    )  # fmt: skip
