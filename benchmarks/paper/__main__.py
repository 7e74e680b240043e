"""The paper's four networks, at sigma 0.1 to 0.5, against every baseline.

    python -m benchmarks.paper run     # makes, or continues, all rows whose data are there
    python -m benchmarks.paper table   # benchmarks/results/paper.json and the pages, from records

A run trains with commands of `cnet-aihw`, each done once, in folders of outputs/benchmarks; what
is measured is recorded chip by chip. `--row`, `--sigma` and `--seed` restrict it. Data: MNIST and
CIFAR-100 in data/ as torchvision lays them out, CIFAR-10 so too and, for LeNet-5 and the narrow
VGG16, as data/cifar10.npz. The wide VGG16 is for a GPU. BENCHMARK_RECORDS=FOLDER in the environment
makes all of it from scratch, in another folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from benchmarks.paper.cells import cells, measurements, prepare
from benchmarks.paper.page import write_page
from benchmarks.paper.rows import FROM_SCRATCH, REFERENCE, ROWS, SIGMAS, Row, composed
from benchmarks.summary import write_figure, write_readme
from benchmarks.training import RECORDS, RESULTS
from cnet_aihw.runtime.records import read_json, write_json_atomic

RUN = "python -m benchmarks.paper run"


def table() -> None:
    """Collect the cells of all rows; a row without any says why."""
    rows: list[dict[str, Any]] = []
    choices: list[dict[str, Any]] = []
    for row in ROWS.values():
        found = sorted((RECORDS / "paper" / row.name).glob("seed*/sigma*/measured/cells.json"))
        for path in found:
            left = read_json(path)
            epochs = composed(*row.words(REFERENCE, 0)).training.epochs
            rows += [cell | {"epochs": epochs} for cell in left["cells"]]
            about = {key: left["cells"][0][key] for key in ("row", "title", "sigma", "seed")}
            choices += [{**about, **choice} for choice in left["recipe"]]
        if not found:
            why = "not run here" if Path(row.needs).exists() else f"{row.needs} is not there"
            rows.append({"row": row.name, "title": row.title, "missing": why})
            rows[-1]["command"] = f"{RUN} --row {row.name}"
    write_json_atomic(RESULTS / "paper.json", {"command": RUN, "rows": rows, "choices": choices})


def _to_do(row: Row, sigma: float, seed: int) -> bool:
    """Whether cells can be measured here; networks of finished ones are not kept in git."""
    there = row.folder(sigma, seed, "digital") / "noise" / "best.safetensors"
    if not (measurements(row, sigma, seed) / "cells.json").exists() or there.exists():
        return True
    print(
        f"{row.name}, sigma {sigma:g}, seed {seed}: done, its networks are not here; {FROM_SCRATCH}"
    )
    return False


def main() -> None:
    """Do what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper", description=__doc__)
    parser.add_argument("action", choices=("run", "table"))
    parser.add_argument("--row", choices=list(ROWS), nargs="+", default=list(ROWS))
    parser.add_argument("--sigma", type=float, choices=SIGMAS, nargs="+", default=list(SIGMAS))
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.action == "run":
        for name in arguments.row:
            row = ROWS[name]
            if not Path(row.needs).exists():
                print(f"{name} is left out: {row.needs} is not there", flush=True)
                continue
            for seed in arguments.seed:
                sigmas = [sigma for sigma in arguments.sigma if _to_do(row, sigma, seed)]
                for sigma in sigmas:
                    prepare(row, sigma, seed)
                for sigma in sigmas:
                    cells(row, sigma, seed)
    table()
    write_page()
    write_figure()
    write_readme()


if __name__ == "__main__":
    main()
