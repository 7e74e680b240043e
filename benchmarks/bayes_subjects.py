"""Data, networks and trainings of benchmarks.bayes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from benchmarks.common import DATA, OUTPUTS
from cnet_aihw import rram, zoo
from cnet_aihw.training import BayesSettings, TrainingSettings, VariationSettings, train

FOLDER = OUTPUTS / "bayes"
READ = 0.2  # read noise of cells / g_max
LR = 5e-3  # of log-odds


@dataclass(frozen=True)
class Plan:
    """How much is trained and measured on one data set."""

    images: int | None
    epochs: int
    bayes_epochs: int
    members: int  # of the deep ensemble
    hidden: int  # 0: a VGG of five convolutions
    test: int
    data_weight: float = 20.0  # of the posterior: about 20 000 / training samples
    held: int = 500  # validation inputs that corrections are fitted to
    gradient: str = "reparametrized"  # auto: BatchNorm sees binary weights, as it will on cells


PLANS = {
    "breast_cancer": Plan(None, 30, 60, 5, 32, 200),
    "digits": Plan(None, 20, 40, 5, 100, 360),
    "mnist": Plan(10000, 5, 12, 5, 100, 500, 2.0),
    "cifar10": Plan(20000, 6, 25, 4, 0, 300, 1.0, 200, "auto"),
}


@cache
def dataset(name: str) -> zoo.Dataset:
    """Return a data set, with as much of it as the plan says."""
    if name == "breast_cancer":
        return zoo.table(name)
    if name == "digits":
        return zoo.digits()
    found = zoo.mnist(DATA) if name == "mnist" else zoo.arrays(DATA / "cifar10.npz")
    return replace(found, train=found.train.first(PLANS[name].images))


@cache
def parts(name: str) -> dict[str, Tensor]:
    """Return the inputs: test, validation, and another kind (grey CIFAR-10, or CIFAR-100)."""
    data, count = dataset(name), PLANS[name].test
    held = data.val.first(PLANS[name].held)
    found: dict[str, Any] = {"test": data.test.first(count).x, "val": held.x}
    if name != "breast_cancer":
        raw = np.load(DATA / f"cifar{100 if name == 'cifar10' else 10}.npz")["x_test"][:count]
        x = torch.from_numpy(raw).float().permute(0, 3, 1, 2) / 255
        if name != "cifar10":
            x = interpolate(x.mean(1, keepdim=True), size=(28, 28), mode="area")
        mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (data.mean, data.std))
        found["ood"] = (x - mean) / std
    return found


def network(name: str, dropout: float) -> nn.Module:
    """Return an MLP, or a VGG of five convolutions."""
    data, plan = dataset(name), PLANS[name]
    if plan.hidden:
        first = nn.Linear(int(np.prod(data.input_shape)), plan.hidden)
        last = nn.Linear(plan.hidden, data.classes)
        return nn.Sequential(nn.Flatten(), first, nn.ReLU(), nn.Dropout(dropout), last)
    layers: list[nn.Module] = []
    for number, (i, o) in enumerate(pairwise((3, 16, 16, 32, 32, 64))):
        layers += [nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if number % 2 else []
    layers += [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(dropout), nn.Linear(256, 10)]
    return nn.Sequential(*layers)


@cache
def trained(name: str, kind: str, seed: int = 0) -> nn.Module:
    """Return a network: "plain", "dropout" or "bayes"; trained where it is not yet."""
    plan, data, cells = PLANS[name], dataset(name), kind == "bayes"
    torch.manual_seed(seed)
    noise = rram.StochasticCellNoiseModel(READ) if cells else rram.GaussianAdditiveNoiseModel(0.0)
    digital = network(name, 0.2 if kind == "dropout" else 0.0)
    model = rram.convert_to_analog(digital, rram.RRAMRPUConfig(noise_model=noise))
    settings = TrainingSettings(
        name=kind, epochs=plan.bayes_epochs if cells else plan.epochs, batch_size=64, seed=seed,
        optimizer="bayes_binary" if cells else "adam", lr=LR if cells else 2e-3, weight_decay=0.0,
        select="last", validation_chips=0, bayes=BayesSettings(data_weight=plan.data_weight),
        variation=VariationSettings(enabled=cells, gradient=plan.gradient if cells else "auto"),
    )  # fmt: skip
    if cells:
        rram.make_binary(model)
    small = replace(data, val=data.val.first(plan.held))
    train(model, small, settings, FOLDER / name / f"{kind}-{seed}", device="cpu", progress=False)
    return model.eval()
