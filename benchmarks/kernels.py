"""Kernel features on chips: sets x kernel x features x size x sigma, with and without the match.

    python -m benchmarks.kernels run     # all cells, test part; --data NAME takes one set
    python -m benchmarks.kernels table   # benchmarks/results/kernels.json

Records are in outputs/per_chip/kernels, or in the folder that the environment names as
BENCHMARK_PER_CHIP; what is there is not measured again. Data are in data/ (BENCHMARK_DATA names
another folder): magic.csv, letter.csv, MNIST. About an hour of one core in all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import OUTPUTS, RESULTS, command_line
from benchmarks.kernel_cells import (
    ALPHA,
    CHIPS,
    GAMMAS,
    PROBE,
    attention,
    cell,
    dataset,
    of_kernel,
    predicted,
)
from benchmarks.subjects import CHIPS_SEED
from cnet_aihw.kernels import kernel_classifier
from cnet_aihw.kernels.baselines import baselines, run_baseline
from cnet_aihw.runtime.records import append_record, read_records, replace_file

FOLDER = OUTPUTS / "kernels"
KERNELS, FEATURES = ("rbf", "arc_cosine", "softmax"), ("rff", "orf", "sorf")
SEEDS = 5
SETS = ["wine", "breast_cancer", "digits", "magic", "letter", "mnist"]
RATIOS = (1, 2, 3, 4, 5)  # logarithms to base 2 of rows / columns
COLUMNS = ("data", "kernel", "features", "log2_ratio", "s", "sigma", "way", "accuracy", "std",
           "q05", "error", "error_std", "predicted")  # fmt: skip


def work(names: list[str]) -> Iterator[tuple[str, str, Any, tuple[Any, ...]]]:
    """Yield file, key, function and arguments of everything that is measured."""
    for name in names:
        for given in product([name], KERNELS, FEATURES, RATIOS, range(SEEDS)):
            yield name, " ".join(map(str, given)), cell, given
        for kernel in KERNELS:
            x, y, xt, yt = of_kernel(name, kernel)
            gamma = kernel_classifier(x, 2, kernel, gamma=GAMMAS.get((name, kernel))).features.gamma
            rows, parts = [round(2.0**r * x.shape[1]) for r in RATIOS], ((x, y), (xt, yt))
            for key, given in baselines([kernel], [gamma], rows, *parts, int(y.max()) + 1, ALPHA,
                                        4000, range(2)):  # fmt: skip
                if kernel == "rbf" or given["method"] == "KernelRidge":
                    yield f"{name}-baselines", key, run_baseline, (given,)
        if name != "mnist":
            yield f"{name}-predicted", "predicted", predicted, (name,)
    for given in product(RATIOS, range(SEEDS)):
        yield "attention", " ".join(map(str, given)), attention, given


@torch.no_grad()
def run(data: list[str]) -> None:
    """Measure what is not there yet."""
    known: dict[Path, set[str]] = {}
    for file, key, function, given in work(data):
        path = FOLDER / f"{file}.jsonl"
        there = known.setdefault(path, {r["key"] for r in read_records(path)})
        if key not in there:
            append_record(path, {"key": key, **function(*given)})


def rows_of(name: str) -> Iterator[list[Any]]:
    """Yield the compact rows of a set, over projections and chips."""
    closed = {r["key"]: r["found"] for r in read_records(FOLDER / f"{name}-predicted.jsonl")}
    groups: dict[tuple[Any, ...], list[Any]] = {}
    for record in read_records(FOLDER / f"{name}.jsonl"):
        for which, values in record["found"].items():
            cell_of = *record["key"].split()[:4], record["s"], which
            groups.setdefault(cell_of, []).extend(values)
    for (data, kernel, features, ratio, s, which), values in groups.items():
        sigma, _, way = which.partition(" ")
        right, error = np.array(values).T
        error_of = None
        if closed and (kernel, features) == ("rbf", "rff"):
            bias, variance = closed["predicted"][which.replace("chip", "")]
            error_of = round((bias + variance / s) ** 0.5, 4)
        numbers = right.mean(), right.std(ddof=1), np.quantile(right, 0.05), error.mean()
        shown = [round(float(v), 4) for v in (*numbers, error.std(ddof=1))]
        yield [data, kernel, features, int(ratio), s, float(sigma), way, *shown, error_of]


def table() -> None:
    """Write benchmarks/results/kernels.json, one row a line."""
    of_attention: dict[tuple[str, str], list[float]] = {}
    for record in read_records(FOLDER / "attention.jsonl"):
        for sigma, values in record["found"].items():
            of_attention.setdefault((record["key"].split()[0], sigma), []).extend(values)
    found: dict[str, list[Any]] = {
        "rows": [row for name in SETS for row in rows_of(name)],
        "attention": [[int(ratio), float(sigma), round(float(np.mean(v)), 4)]
                      for (ratio, sigma), v in of_attention.items()],
        "baselines": [{"data": name, **{k: v for k, v in r.items() if k != "key"}} for name in SETS
                      for r in read_records(FOLDER / f"{name}-baselines.jsonl")],
    }  # fmt: skip
    head = {"command": "python -m benchmarks.kernels run", "chips": CHIPS, "seeds": SEEDS,
            "chips_seed": CHIPS_SEED, "alpha": ALPHA, "error_samples": PROBE, "columns": COLUMNS,
            "samples": {n: [len(dataset(n)[1]), len(dataset(n)[3])] for n in SETS}}  # fmt: skip
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    for key, values in found.items():
        lines.append(f"{json.dumps(key)}: [\n" + ",\n".join(map(json.dumps, values)) + "\n]")
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    replace_file(RESULTS / "kernels.json", lambda path: path.write_text(text, encoding="utf-8"))


if __name__ == "__main__":
    command_line(__doc__, run, table, data=SETS)
