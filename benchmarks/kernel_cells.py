"""Cells of benchmarks.kernels: sets, a projection on its chips, closed forms, attention."""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import Any

import torch
from torch.nn import functional as F

from benchmarks.common import DATA
from benchmarks.subjects import CHIPS_SEED
from cnet_aihw.kernels import (
    exact_kernel,
    fit_ridge,
    kernel_classifier,
    kernel_error,
    matched_scale,
    predicted_error,
)
from cnet_aihw.kernels.functions import feature_map
from cnet_aihw.rram import LogNormalNoiseModel, RRAMRPUConfig, chips, convert_to_analog
from cnet_aihw.zoo import PerformerAttention, mnist, table
from cnet_aihw.zoo.transformer import Attention

SIGMAS, CHIPS, ALPHA = (0.0, 0.1, 0.3, 0.5), 10, 0.5
TEST, PROBE = 1000, 200  # most samples of accuracy, and of the kernel's error
GAMMAS = {("magic", "rbf"): 0.05, ("letter", "rbf"): 0.05}  # the paper's; else by the data


@cache
def dataset(name: str) -> tuple[torch.Tensor, ...]:
    """Return inputs and classes, training then test; half of a table is for training."""
    if name == "mnist":  # means of 2 x 2 pixels, 5000 and 1000 images
        data = mnist(str(DATA))
        train, test = data.train.first(5000), data.test.first(TEST)
        parts = [(F.avg_pool2d(p.x, 2).flatten(1), p.y) for p in (train, test)]
    else:
        path = DATA / f"{name}.csv" if name in ("magic", "letter") else name
        data = table(path, val_size=0.25, test_size=0.25)
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
