"""Uncertainty of predictions on chips: binary posteriors on cells, and baselines beside them.

    python -m benchmarks.bayes run     # networks and all rows, test parts
    python -m benchmarks.bayes table   # benchmarks/results/bayes.json

`--data NAME` takes one data set. Networks and rows are in outputs/per_chip/bayes, or in the folder
that the environment names as BENCHMARK_PER_CHIP; each row resumes where it was stopped. Data are
expected as for benchmarks.per_chip, with cifar100.npz beside. About 35 minutes of one core in all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.bayes_subjects import FOLDER, LR, PLANS, READ, dataset, parts, trained
from benchmarks.common import RESULTS, command_line, once
from benchmarks.subjects import CHIPS_SEED
from cnet_aihw import bayes, rram
from cnet_aihw.bayes.sampling import chip_logits
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.runtime.records import read_json

COMMAND = "python -m benchmarks.bayes"
SAMPLES, SIGMAS, TIMES = (1, 4, 16, 64), (0.0, 0.1, 0.3), (1.0, 3600.0, 86400.0)
CHIPS, SETS, FIT = 10, 3, 16  # chips; sets of 64 chips; readings that a correction is fitted to
PLAIN_READ = 0.05  # read noise / g_max of plainly trained networks
NU, NU_STD = 0.05, 0.01  # of drift
_LEFT_OUT = ("ece_mass", "ood_entropy", "auroc_mutual_information")


def measured(name: str, logits: dict[str, Tensor], several: bool) -> list[dict[str, Any]]:
    """Return scores of each number of samples and correction; of several chips each has its own."""
    y, val = (
        dataset(name).test.first(PLANS[name].test).y,
        dataset(name).val.first(PLANS[name].held).y,
    )
    fit, found = logits["val"], []
    for kind in ("none", "temperature", "logit_affine"):
        own = (
            [bayes.fit_logits(one, val, kind) for one in fit] if several and kind != "none" else []
        )
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
def on_chip(name: str, kind: str, sigma: float, nu: float | None, t: Any, chip: int) -> list[dict]:
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
    return measured(name, {key: torch.cat(some) for key, some in logits.items()}, several)


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
        once(FOLDER / name / "digital.json", lambda name=name: digital(name))
        for row in rows(name):
            for chip in range(SETS if row[0] == "chips" else CHIPS):
                file = file_of(name, row, chip)
                once(file, lambda given=(name, *row, chip): timed(*given))


def file_of(name: str, row: tuple[Any, ...], chip: Any) -> Path:
    """Where one chip of a row is."""
    kind, sigma, nu, t = row
    return FOLDER / name / "rows" / f"{kind}-s{sigma:g}-e{nu}-t{t}-{chip}.json"


def timed(*given: Any) -> dict[str, Any]:
    """Measure one chip, with its seconds of the processor."""
    start = process_time()
    return {"rows": on_chip(*given), "seconds": process_time() - start}


def table() -> None:
    """Write means and deviations over chips of all rows that are there, one row a line."""
    found: list[dict[str, Any]] = []
    for name in PLANS:
        path = FOLDER / name / "digital.json"
        for method, scores in (read_json(path) if path.exists() else {}).items():
            found += [{"data": name, "method": method, **_over([row])} for row in scores]
        for row in rows(name):
            pattern, (kind, sigma, nu, t) = file_of(name, row, "*"), row
            chips = [read_json(file)["rows"] for file in pattern.parent.glob(pattern.name)]
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
    record = {"command": f"{COMMAND} run; {COMMAND} table", "settings": settings}
    lines = ",\n".join(json.dumps(row) for row in found)
    text = f'{json.dumps(record)[:-1]}, "rows": [\n{lines}\n]}}\n'
    (RESULTS / "bayes.json").write_text(text, encoding="utf-8")


def _over(chips: Any) -> dict[str, Any]:
    names = [n for n in chips[0] if n not in ("samples", "correction", *_LEFT_OUT)]
    found = {n: round(float(np.mean([c[n] for c in chips])), 4) for n in names}
    if len(chips) > 1:
        spread = {n: np.std([c[n] for c in chips], ddof=1) for n in ("accuracy", "nll")}
        found |= {f"{n}_std": round(float(v), 4) for n, v in spread.items()}
    return {**{n: chips[0][n] for n in ("samples", "correction")}, **found}


if __name__ == "__main__":
    command_line(__doc__, run, table, data=list(PLANS))
