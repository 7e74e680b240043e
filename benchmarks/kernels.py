"""Kernel features on chips: sets x kernel x features x size x sigma, with and without the match.

    python -m benchmarks.kernels run     # all cells, test part; --data NAME takes one set
    python -m benchmarks.kernels table   # benchmarks/results/kernels.json

Records are in outputs/per_chip/kernels, or in the folder that the environment names as
BENCHMARK_PER_CHIP; what is there is not measured again. Data are in data/ (BENCHMARK_DATA names
another folder): magic.csv, letter.csv, MNIST. About an hour of one core in all.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.common import DATA, OUTPUTS, command_line, write_lines
from benchmarks.subjects import CHIPS_SEED
from cnet_aihw.kernels import (
    exact_kernel,
    fit_ridge,
    kernel_classifier,
    kernel_error,
    matched_scale,
    predicted_error,
)
from cnet_aihw.kernels.baselines import baselines, run_baseline
from cnet_aihw.kernels.functions import feature_map
from cnet_aihw.rram import LogNormalNoiseModel, RRAMRPUConfig, chips, convert_to_analog
from cnet_aihw.runtime.records import append_record, read_records
from cnet_aihw.zoo import PerformerAttention, mnist
from cnet_aihw.zoo import table as data_table
from cnet_aihw.zoo.transformer import Attention

FOLDER = OUTPUTS / "kernels"
KERNELS, FEATURES = ("rbf", "arc_cosine", "softmax"), ("rff", "orf", "sorf")
SETS = ["wine", "breast_cancer", "digits", "magic", "letter", "mnist"]
RATIOS = (1, 2, 3, 4, 5)  # logarithms to base 2 of rows / columns
SEEDS, CHIPS, SIGMAS, ALPHA = 5, 10, (0.0, 0.1, 0.3, 0.5), 0.5
TEST, PROBE = 1000, 200  # most samples of accuracy, and of the kernel's error
GAMMAS = {("magic", "rbf"): 0.05, ("letter", "rbf"): 0.05}  # the paper's; else by the data
COLUMNS = ("data", "kernel", "features", "log2_ratio", "s", "sigma", "way", "accuracy", "std",
           "q05", "error", "error_std", "predicted")  # fmt: skip


@cache
def dataset(name: str) -> tuple[torch.Tensor, ...]:
    """Return inputs and classes, training then test; half of a table is for training."""
    if name == "mnist":  # means of 2 x 2 pixels, 5000 and 1000 images
        data = mnist(str(DATA))
        train, test = data.train.first(5000), data.test.first(TEST)
        parts = [(F.avg_pool2d(p.x, 2).flatten(1), p.y) for p in (train, test)]
    else:
        path = DATA / f"{name}.csv" if name in ("magic", "letter") else name
        data = data_table(path, val_size=0.25, test_size=0.25)
        parts = [(data.train.x, data.train.y), (data.test.x[:TEST], data.test.y[:TEST])]
    (x, y), (xt, yt) = parts
    kept = x.amax(0) > x.amin(0)
    return x[:, kept], y, xt[:, kept], yt


def of_kernel(name: str, kernel: str) -> tuple[torch.Tensor, ...]:
    """Return a set for a kernel: for softmax all rows have one length, as behind a LayerNorm."""
    x, y, xt, yt = dataset(name)
    if kernel == "softmax":
        x, xt = (part.shape[1] ** 0.5 * F.normalize(part, dim=1) for part in (x, xt))
    return x, y, xt, yt


def cell(name: str, kernel: str, features: str, ratio: int, seed: int) -> dict[str, Any]:
    """Return accuracies and errors of one projection, on each chip."""
    x, y, xt, yt = of_kernel(name, kernel)
    gamma = GAMMAS.get((name, kernel))
    made = kernel_classifier(
        x, int(y.max()) + 1, kernel, features, log2_ratio=ratio, gamma=gamma, seed=seed
    ).fit(x, y, ALPHA)
    model = convert_to_analog(made, RRAMRPUConfig(), exclude=["readout"]).eval()
    random, probe = model.features, xt[:PROBE]
    exact = exact_kernel(kernel, probe, probe, random.gamma)
    found: dict[str, Any] = {}
    for sigma in SIGMAS:
        law = LogNormalNoiseModel(sigma)
        scale = matched_scale(law, made.features.projection.weight)
        for _ in chips(model, CHIPS if sigma else 1, CHIPS_SEED + seed, law):
            projected = random.projection(xt)
            for way in ("", "match") if sigma and kernel != "arc_cosine" else ("",):
                # factors on weights: the chip of the scaled projection gives scaled outputs
                z = feature_map(kernel, scale * projected if way else projected, xt, random.gamma)
                right = float((made.readout(z).argmax(1) == yt).double().mean())
                of = found.setdefault(f"{sigma:g} {way}", [])
                of.append([right, kernel_error(exact, z[:PROBE])])
            if (kernel, features, ratio, sigma) == ("rbf", "rff", 2, 0.5):  # fitted to the chip
                weight, bias = fit_ridge(random(x), y, made.classes, ALPHA)
                z = random(xt).double()
                right = float(((z @ weight.T + bias).argmax(1) == yt).double().mean())
                found.setdefault("0.5 chip", []).append([right, kernel_error(exact, z[:PROBE])])
    return {"s": random.s, "gamma": random.gamma, "found": found}


def predicted(name: str) -> dict[str, Any]:
    """Return squared bias, and variance times s, of the error of RBF with independent rows."""
    x, _, xt, _ = dataset(name)
    gamma = kernel_classifier(x, 2, gamma=GAMMAS.get((name, "rbf"))).features.gamma
    found = {}
    for sigma, way in [(0.0, ""), *product(SIGMAS[1:], ("", "match"))]:
        law = LogNormalNoiseModel(sigma)
        scale = matched_scale(law, torch.ones(2, 2)) if way else 1.0
        given = (law, gamma, scale)
        one, all_ = (predicted_error("rbf", xt[:PROBE], s, *given) ** 2 for s in (1, 10**9))
        found[f"{sigma:g} {way}"] = [all_, one - all_]
    return {"found": found}


def attention(ratio: int, seed: int) -> dict[str, Any]:
    """Return the relative error of outputs of Performer attention on chips, 4 heads of 16."""
    torch.manual_seed(seed)
    exact, tokens = Attention(64, 4), torch.randn(4, 64, 64)
    made = PerformerAttention(64, 4, rows=2**ratio * 16, seed=seed)
    made.load_state_dict({**made.state_dict(), **exact.state_dict()})
    layers = ["q", "k", "v", "o"]  # the projection of features alone lies on a crossbar
    model = convert_to_analog(made, RRAMRPUConfig(), exclude=layers).eval()
    wanted, found = exact(tokens), {}
    for sigma in SIGMAS:
        for _ in chips(model, CHIPS if sigma else 1, CHIPS_SEED + seed, LogNormalNoiseModel(sigma)):
            error = float((model(tokens) - wanted).norm() / wanted.norm())
            found.setdefault(f"{sigma:g}", []).append(error)
    return {"found": found}


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
    """Write benchmarks/results/kernels.json."""
    of_attention: dict[tuple[str, str], list[float]] = {}
    for record in read_records(FOLDER / "attention.jsonl"):
        for sigma, values in record["found"].items():
            of_attention.setdefault((record["key"].split()[0], sigma), []).extend(values)
    head = {"command": "python -m benchmarks.kernels run", "chips": CHIPS, "seeds": SEEDS,
            "chips_seed": CHIPS_SEED, "alpha": ALPHA, "error_samples": PROBE, "columns": COLUMNS,
            "samples": {n: [len(dataset(n)[1]), len(dataset(n)[3])] for n in SETS}}  # fmt: skip
    write_lines(
        "kernels", head,
        rows=[row for name in SETS for row in rows_of(name)],
        attention=[[int(ratio), float(sigma), round(float(np.mean(values)), 4)]
                   for (ratio, sigma), values in of_attention.items()],
        baselines=[{"data": name, **{k: v for k, v in r.items() if k != "key"}} for name in SETS
                   for r in read_records(FOLDER / f"{name}-baselines.jsonl")],
    )  # fmt: skip


if __name__ == "__main__":
    command_line(__doc__, run, table, data=SETS)
