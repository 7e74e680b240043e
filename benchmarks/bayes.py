"""Uncertainty of predictions on chips: binary posteriors on cells, and baselines beside them.

    python -m benchmarks.bayes run     # networks and all rows, test parts
    python -m benchmarks.bayes table   # benchmarks/results/bayes.json

`--data NAME` takes one data set. Networks and rows are in outputs/per_chip/bayes, or in the folder
that the environment names as BENCHMARK_PER_CHIP; each row resumes where it was stopped. Data are
expected as for benchmarks.per_chip, with cifar100.npz beside. About 35 minutes of one core in all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from benchmarks.common import DATA, OUTPUTS, Row, command_line, once, recorded, timed, write_lines
from benchmarks.subjects import CHIPS_SEED
from cnet_aihw import bayes, rram, zoo
from cnet_aihw.bayes.sampling import chip_logits
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.training import BayesSettings, TrainingSettings, VariationSettings, train

COMMAND = "python -m benchmarks.bayes"
FOLDER = OUTPUTS / "bayes"
SAMPLES, SIGMAS, TIMES = (1, 4, 16, 64), (0.0, 0.1, 0.3), (1.0, 3600.0, 86400.0)
CHIPS, SETS, FIT = 10, 3, 16  # chips; sets of 64 chips; readings that a correction is fitted to
READ, PLAIN_READ = 0.2, 0.05  # read noise / g_max of cells, and of plainly trained networks
NU, NU_STD = 0.05, 0.01  # of drift
LR = 5e-3  # of log-odds
_LEFT_OUT = ("ece_mass", "ood_entropy", "auroc_mutual_information")


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


# -- measurements


def measured(name: str, logits: dict[str, Tensor], several: bool) -> list[dict[str, Any]]:
    """Return scores of each number of samples and correction; of several chips each has its own."""
    plan, data = PLANS[name], dataset(name)
    y, val = data.test.first(plan.test).y, data.val.first(plan.held).y
    fit, found = logits["val"], []
    for kind in ("none", "temperature", "logit_affine"):
        each = fit if several and kind != "none" else ()
        own = [bayes.fit_logits(one, val, kind) for one in each]
        for n in (n for n in SAMPLES if n <= len(logits["test"])):
            test = {key: some[:n] for key, some in logits.items() if key != "val"}
            for key, some in test.items() if own else ():
                test[key] = torch.stack([s(x) for s, x in zip(own, some, strict=False)])
            if not own and kind != "none":
                scale = bayes.fit_logits(fit[:n], val, kind)
                test = {key: scale(some) for key, some in test.items()}
            p = {key: some.softmax(-1) for key, some in test.items()}
            scores = bayes.uncertainty_scores(p["test"], y, p.get("ood"))
            found.append({"samples": n, "correction": kind, **scores})
    return found


@torch.no_grad()
def on_chip(name: str, kind: str, sigma: float, nu: float | None, t: Any, chip: int) -> Row:
    """Measure one chip, or one set of chips; ``nu``: what corrects the drift, None: no drift."""
    models: list[Any] = [rram.GaussianAdditiveNoiseModel(sigma)]
    models += [] if nu is None else [rram.PowerLawDriftNoiseModel(NU, NU_STD)]
    models += [rram.ReadNoiseModel(PLAIN_READ)] if kind == "readings" else []
    models += [rram.StochasticCellNoiseModel(READ, None, nu or 0.0)] if kind == "cells" else []
    noise = rram.CompositeNoiseModel(models)
    model = trained(name, "bayes" if kind == "cells" else "plain")
    several, most, seed = kind == "chips", 16 if t else max(SAMPLES), derive_seed(CHIPS_SEED, chip)
    x = {key: some for key, some in parts(name).items() if key != "ood" or t is None}
    logits: dict[str, list[Tensor]] = {key: [] for key in x}
    for member in range(most if several else 1):
        with rram.programmed(model, derive_seed(seed, member), noise, t):
            for key, some in x.items():
                count, stream = (FIT, "fit") if key == "val" else (most, "sample")
                count = 1 if several else count
                logits[key].append(chip_logits(model, some, count, seed, 1000, stream))
    all_ = {key: torch.cat(some) for key, some in logits.items()}
    return {"rows": measured(name, all_, several)}


def rows(name: str) -> Iterator[tuple[str, float, float | None, float | None]]:
    """Yield source, sigma, exponent of the drift's correction (None: no drift) and time."""
    yield from ((kind, s, None, None) for kind in ("cells", "chips", "readings") for s in SIGMAS)
    yield from (("cells", 0.1, nu, t) for nu in (0.0, NU) for t in TIMES)


def digital(name: str) -> dict[str, list[dict[str, Any]]]:
    """Return the scores of digital baselines."""
    plain, dropped, data = trained(name, "plain"), trained(name, "dropout"), dataset(name)
    several = [trained(name, "plain", seed) for seed in range(PLANS[name].members)]
    laplace, means = bayes.LastLayerLaplace(plain, data.train, data.val), trained(name, "bayes")
    ways = {
        "deterministic": lambda x: bayes.deterministic(plain, x),
        "mean binary weights": lambda x: bayes.deterministic(means, x),
        "MC dropout": lambda x: bayes.mc_dropout(dropped, x, max(SAMPLES)),
        "deep ensemble": lambda x: bayes.deep_ensemble(several, x),
        "laplace": lambda x: laplace.sample(x, max(SAMPLES)),
    }
    return {
        way: measured(name, {key: logits_of(x) for key, x in parts(name).items()}, False)
        for way, logits_of in ways.items()
    }


def run(data: list[str]) -> None:
    """Train, and measure all rows that are not there yet."""
    for name in data:
        once(FOLDER / name / "digital.json", digital, name)
        for row in rows(name):
            for chip in range(SETS if row[0] == "chips" else CHIPS):
                once(file_of(name, row, chip), timed, on_chip, name, *row, chip)


def file_of(name: str, row: tuple[Any, ...], chip: Any) -> Path:
    """Where one chip of a row is."""
    kind, sigma, nu, t = row
    return FOLDER / name / "rows" / f"{kind}-s{sigma:g}-e{nu}-t{t}-{chip}.json"


def table() -> None:
    """Write means and deviations over chips of all rows that are there."""
    found: list[dict[str, Any]] = []
    for name in PLANS:
        path = FOLDER / name / "digital.json"
        for method, scores in (recorded(path) if path.exists() else {}).items():
            found += [{"data": name, "method": method, **_over([row])} for row in scores]
        for row in rows(name):
            pattern, (kind, sigma, nu, t) = file_of(name, row, "*"), row
            chips = [recorded(file)["rows"] for file in pattern.parent.glob(pattern.name)]
            head = {"data": name, "method": kind, "sigma": sigma, "chips": len(chips)}
            head |= {} if t is None else {"t": t, "corrected_nu": nu}
            found += [{**head, **_over(same)} for same in zip(*chips, strict=True)]
    settings = {
        "plans": {name: asdict(plan) for name, plan in PLANS.items()},
        "posterior": {"temperature": 0.5, "lr": LR},
        "read_noise": {"cells": READ, "readings": PLAIN_READ},
        "drift": {"nu": NU, "nu_std": NU_STD},
        "correction": {"readings": FIT},
    }
    about = {"command": f"{COMMAND} run; {COMMAND} table", "settings": settings}
    write_lines("bayes", about, rows=found)


def _over(chips: Any) -> dict[str, Any]:
    names = [n for n in chips[0] if n not in ("samples", "correction", *_LEFT_OUT)]
    found = {n: round(float(np.mean([c[n] for c in chips])), 4) for n in names}
    if len(chips) > 1:
        spread = {n: np.std([c[n] for c in chips], ddof=1) for n in ("accuracy", "nll")}
        found |= {f"{n}_std": round(float(v), 4) for n, v in spread.items()}
    return {**{n: chips[0][n] for n in ("samples", "correction")}, **found}


if __name__ == "__main__":
    command_line(__doc__, run, table, data=list(PLANS))
