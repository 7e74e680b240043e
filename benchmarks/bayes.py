"""What predictions on chips know of their errors: binary posteriors on cells, beside baselines.

    python -m benchmarks.bayes run     # networks and all rows, test parts
    python -m benchmarks.bayes table   # benchmarks/results/bayes.json

`--data NAME` takes one data set. Networks and rows are in outputs/per_chip/bayes, or in the folder
that the environment names as BENCHMARK_PER_CHIP; each row resumes where it was stopped. Data are
expected as for benchmarks.per_chip, with cifar100.npz beside. About 20 minutes of one core in all.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from benchmarks.subjects import CHIPS_SEED, DATA, OUTPUTS, RESULTS
from cnet_aihw import rram, zoo
from cnet_aihw.bayes import LastLayerLaplace, deep_ensemble, deterministic, fit_logits, mc_dropout
from cnet_aihw.bayes import uncertainty_scores as scores_of
from cnet_aihw.bayes.sampling import chip_logits
from cnet_aihw.rram import CompositeNoiseModel, StochasticCellNoiseModel
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.runtime.records import read_json, write_json_atomic
from cnet_aihw.training import BayesSettings, TrainingSettings, VariationSettings, train

FOLDER = OUTPUTS / "bayes"
COMMAND = "python -m benchmarks.bayes"
SAMPLES, SIGMAS, TIMES = (1, 4, 16, 64), (0.0, 0.1, 0.3), (1.0, 3600.0, 86400.0)
CHIPS, SETS, FIT = 10, 3, 16  # chips; sets of chips; readings that a correction is fitted to
READ, PLAIN_READ = 0.2, 0.05  # read noise / g_max of cells, and of plainly trained networks
NU, NU_STD = 0.05, 0.01  # of drift
KINDS = ("none", "temperature", "logit_affine")
BAYES = BayesSettings(data_weight=20.0)
BAYES_TRAINING = VariationSettings(enabled=True, gradient="reparametrized")


@dataclass(frozen=True)
class Plan:
    """How much is trained and measured on one data set."""

    images: int | None
    epochs: int
    bayes_epochs: int
    members: int  # of the deep ensemble
    hidden: int  # 0: the VGG
    test: int
    dropout: float = 0.2


PLANS = {
    "breast_cancer": Plan(None, 30, 60, 5, 32, 200),
    "digits": Plan(None, 20, 40, 5, 100, 360),
    "mnist": Plan(10000, 5, 12, 5, 100, 1000),
    "cifar10": Plan(10000, 6, 12, 3, 0, 200),
}


@cache
def dataset(name: str) -> zoo.Dataset:
    """Return a data set, with as much of it as the plan says."""
    if name == "breast_cancer":
        return zoo.table("breast_cancer")
    data = {"digits": zoo.digits, "mnist": lambda: zoo.mnist(DATA)}.get(name)
    found = data() if data else zoo.arrays(DATA / "cifar10.npz")
    plan = PLANS[name]
    return replace(found, train=found.train.first(plan.images))


@cache
def unknown(name: str) -> Tensor | None:
    """Return inputs of another kind: grey CIFAR-10, or CIFAR-100 beside CIFAR-10."""
    if name == "breast_cancer":
        return None
    file = np.load(DATA / ("cifar100.npz" if name == "cifar10" else "cifar10.npz"))
    raw = torch.from_numpy(file["x_test"][: PLANS[name].test]).float() / 255
    x = raw if raw.shape[1] == 3 else raw.permute(0, 3, 1, 2)
    if name != "cifar10":
        x = interpolate(x.mean(1, keepdim=True), size=(28, 28), mode="area")
    data = dataset(name)
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (data.mean, data.std))
    return (x - mean) / std


def network(name: str, dropout: float) -> nn.Module:
    """Return an MLP, or a VGG of five convolutions."""
    data, plan = dataset(name), PLANS[name]
    if plan.hidden:
        wide = int(np.prod(data.input_shape))
        first, last = nn.Linear(wide, plan.hidden), nn.Linear(plan.hidden, data.classes)
        return nn.Sequential(nn.Flatten(), first, nn.ReLU(), nn.Dropout(dropout), last)
    layers: list[nn.Module] = []
    for number, (i, o) in enumerate(pairwise((3, 16, 16, 32, 32, 64))):
        layers += [nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if number % 2 else []
    layers += [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(dropout), nn.Linear(256, 10)]
    return nn.Sequential(*layers)


def trained(name: str, kind: str, seed: int = 0) -> nn.Module:
    """Return a network: "plain", "dropout" or "bayes"; trained where it is not yet."""
    plan, data = PLANS[name], dataset(name)
    torch.manual_seed(seed)
    bayes = kind == "bayes"
    cell = StochasticCellNoiseModel(READ)
    noise = cell if bayes else rram.GaussianAdditiveNoiseModel(0.0)
    digital = network(name, plan.dropout if kind == "dropout" else 0.0)
    model = rram.convert_to_analog(digital, rram.RRAMRPUConfig(noise_model=noise))
    if bayes:
        rram.make_binary(model)
    settings = TrainingSettings(
        name=kind, epochs=plan.bayes_epochs if bayes else plan.epochs, batch_size=64, seed=seed,
        optimizer="bayes_binary" if bayes else "adam", lr=5e-3 if bayes else 2e-3,
        weight_decay=0.0, select="last", validation_chips=0, bayes=BAYES,
        variation=BAYES_TRAINING if bayes else VariationSettings(),
    )  # fmt: skip
    small = replace(data, val=data.val.first(500))
    train(model, small, settings, FOLDER / name / f"{kind}-{seed}", device="cpu", progress=False)
    return model.eval()


def device(kind: str, sigma: float, exponent: float | None) -> Any:
    """Return the noise model of a row; an exponent of None: no drift, 0: not corrected."""
    models: list[Any] = [rram.GaussianAdditiveNoiseModel(sigma)]
    if exponent is not None:
        models.append(rram.PowerLawDriftNoiseModel(NU, NU_STD))
    if kind == "cells":
        models.append(StochasticCellNoiseModel(READ, drift_exponent=exponent or 0.0))
    elif kind == "readings":
        models.append(rram.ReadNoiseModel(PLAIN_READ))
    return CompositeNoiseModel(models)


def measured(name: str, logits: dict[str, Tensor], fit: Tensor, members: bool) -> list[dict]:
    """Return scores of each number of samples and correction; ``fit``: validation logits."""
    part, val = dataset(name).test.first(PLANS[name].test), dataset(name).val.first(500)
    found = []
    for kind in KINDS:
        for n in (n for n in SAMPLES if n <= len(logits["test"])):
            test = {key: some[:n] for key, some in logits.items()}
            if kind != "none" and members:  # each chip has its own correction
                scales = [fit_logits(one, val.y, kind) for one in fit[:n]]
                test = {
                    key: torch.stack([s(one) for s, one in zip(scales, some, strict=True)])
                    for key, some in test.items()
                }
            elif kind != "none":
                scale = fit_logits(fit[:n], val.y, kind)
                test = {key: scale(some) for key, some in test.items()}
            p = {key: some.softmax(-1) for key, some in test.items()}
            scores = scores_of(p["test"], part.y, p.get("ood"))
            found.append({"samples": n, "correction": kind, **scores})
    return found


def parts(name: str) -> dict[str, Tensor]:
    """Return the inputs that are measured."""
    data, other = dataset(name), unknown(name)
    found = {"test": data.test.first(PLANS[name].test).x, "val": data.val.first(500).x}
    return found if other is None else {**found, "ood": other}


@torch.no_grad()
def on_chip(name: str, model: nn.Module, kind: str, noise: Any, t: Any, chip: int) -> list[dict]:
    """Measure one chip, or one set of chips."""
    x, seed, most = parts(name), derive_seed(CHIPS_SEED, chip), 16 if t else max(SAMPLES)
    several, logits = kind == "chips", {key: [] for key in parts(name)}
    for member in range(most if several else 1):
        with rram.programmed(model, derive_seed(seed, member), noise, t):
            for key, some in x.items():
                count = 1 if several else FIT if key == "val" else most
                if key != "ood" or t is None:
                    stream = "fit" if key == "val" else "sample"
                    logits[key].append(chip_logits(model, some, count, seed, 1000, stream))
    found = {key: torch.cat(some) for key, some in logits.items() if some}
    return measured(name, found, found.pop("val"), several)


def rows(name: str) -> Iterator[tuple[str, float, float | None, float | None]]:
    """Yield source, sigma, exponent of the drift's correction (None: no drift) and time."""
    yield from ((kind, s, None, None) for kind in ("cells", "chips", "readings") for s in SIGMAS)
    yield from (("cells", 0.1, exponent, t) for exponent in (0.0, NU) for t in TIMES)


def digital(name: str) -> Iterator[tuple[str, list[dict]]]:
    """Yield the digital baselines and their scores."""
    plain, x = trained(name, "plain"), parts(name)
    several = [trained(name, "plain", seed) for seed in range(PLANS[name].members)]
    dropped, data = trained(name, "dropout"), dataset(name)
    laplace = LastLayerLaplace(plain, data.train, data.val.first(500))
    bayes = trained(name, "bayes")
    for method, logits_of in (
        ("deterministic", lambda some: deterministic(plain, some)),
        ("mean binary weights", lambda some: deterministic(bayes, some)),
        ("MC dropout", lambda some: mc_dropout(dropped, some, max(SAMPLES))),
        ("deep ensemble", lambda some: deep_ensemble(several, some)),
        ("laplace", lambda some: laplace.sample(some, max(SAMPLES))),
    ):
        found = {key: logits_of(some) for key, some in x.items()}
        yield method, measured(name, found, found.pop("val"), False)


def run(name: str) -> None:
    """Train, and measure all rows that are not there yet."""
    path = FOLDER / name / "digital.json"
    if not path.exists():
        write_json_atomic(path, dict(digital(name)))
    models = {kind: trained(name, kind) for kind in ("plain", "bayes")}
    for kind, sigma, exponent, t in rows(name):
        for chip in range(SETS if kind == "chips" else CHIPS):
            file = FOLDER / name / "rows" / f"{kind}-s{sigma:g}-e{exponent}-t{t}-{chip}.json"
            if file.exists():
                continue
            start, noise = process_time(), device(kind, sigma, exponent)
            model = models["bayes" if kind == "cells" else "plain"]
            found = on_chip(name, model, kind, noise, t, chip)
            write_json_atomic(file, {"rows": found, "seconds": process_time() - start})
            print(f"{name} {file.stem}: {process_time() - start:.1f} s", flush=True)


def table() -> dict[str, Any]:
    """Return means and standard deviations over chips of all rows that are there."""
    found = []
    for name in PLANS:
        path = FOLDER / name / "digital.json"
        if not path.exists():
            continue
        for method, scores in read_json(path).items():
            found += [{"data": name, "method": method, **_short(row)} for row in scores]
        for kind, sigma, exponent, t in rows(name):
            pattern = f"{kind}-s{sigma:g}-e{exponent}-t{t}-*.json"
            chips = [read_json(file)["rows"] for file in (FOLDER / name / "rows").glob(pattern)]
            for same in zip(*chips, strict=True):
                head = {"data": name, "method": kind, "sigma": sigma, "chips": len(chips)}
                head |= {} if t is None else {"t": t, "corrected_nu": exponent}
                found.append({**head, **_over_chips(same)})
    settings = {
        "plans": {name: plan.__dict__ for name, plan in PLANS.items()},
        "bayes": {**BAYES.__dict__, "temperature": 0.5, "lr": 5e-3},
        "read_noise": {"cells": READ, "plain": PLAIN_READ},
        "drift": {"nu": NU, "nu_std": NU_STD},
        "fit": {"readings": FIT, "inputs": 500},
    }
    return {"command": f"{COMMAND} run; {COMMAND} table", "settings": settings, "rows": found}


def _over_chips(chips: Sequence[dict[str, Any]]) -> dict[str, Any]:
    names = [n for n in chips[0] if n not in ("samples", "correction")]
    mean = {n: float(np.mean([c[n] for c in chips])) for n in names}
    std = {f"{n}_std": float(np.std([c[n] for c in chips], ddof=1)) for n in ("accuracy", "nll")}
    return _short({**{n: chips[0][n] for n in ("samples", "correction")}, **mean, **std})


def _short(row: dict[str, Any]) -> dict[str, Any]:
    left = ("ece_mass", "brier", "auroc_mutual_information", "ood_entropy")
    kept = {n: v for n, v in row.items() if n not in left or n == "brier"}
    return {n: round(v, 4) if isinstance(v, float) else v for n, v in kept.items()}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--data", choices=tuple(PLANS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "run":
        for name in [given.data] if given.data else PLANS:
            run(name)
        return
    record = table()
    head = json.dumps({n: record[n] for n in ("command", "settings")})[:-1]
    lines = ",\n".join(json.dumps(row) for row in record["rows"])
    (RESULTS / "bayes.json").write_text(f'{head}, "rows": [\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
