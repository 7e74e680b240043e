"""The paper's four networks, at sigma 0.1 to 0.5, against every baseline.

    python -m benchmarks.paper run     # makes, or continues, all rows whose data are there
    python -m benchmarks.paper table   # benchmarks/results/paper.json, from records

A run trains with commands of `cnet-aihw`, each done once, in folders of outputs/benchmarks; what
is measured is recorded chip by chip. `--row`, `--sigma` and `--seed` restrict it. Data: MNIST and
CIFAR-100 in data/ as torchvision lays them out, CIFAR-10 so too and, for LeNet-5 and the narrow
VGG16, as data/cifar10.npz. The wide VGG16 is for a GPU, the others take hours of a core each.
BENCHMARK_RECORDS=FOLDER in the environment makes all of it from scratch, in another folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.common import RECORDS, command_line, write_result
from benchmarks.paper.cells import cells, measurements, prepare
from benchmarks.paper.rows import FROM_SCRATCH, REFERENCE, ROWS, SIGMAS, Row, composed
from cnet_aihw.runtime.records import read_json

RUN = "python -m benchmarks.paper run"


def run(row: list[str], sigma: list[float], seed: int) -> None:
    """Train, search and measure what is not done yet."""
    for it in (ROWS[name] for name in row):
        if not Path(it.needs).exists():
            print(f"{it.name} is left out: {it.needs} is not there", flush=True)
            continue
        sigmas = [each for each in sigma if _to_do(it, each, seed)]
        for each in sigmas:
            prepare(it, each, seed)
        for each in sigmas:
            cells(it, each, seed)
    table()


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
    write_result("paper", RUN, rows, choices=choices)


def _to_do(row: Row, sigma: float, seed: int) -> bool:
    """Whether cells can be measured here; networks of finished ones are not kept in git."""
    there = row.folder(sigma, seed, "digital") / "noise" / "best.safetensors"
    if not (measurements(row, sigma, seed) / "cells.json").exists() or there.exists():
        return True
    print(
        f"{row.name}, sigma {sigma:g}, seed {seed}: done, its networks are not here; {FROM_SCRATCH}"
    )
    return False


if __name__ == "__main__":
    command_line(__doc__, run, table, row=list(ROWS), sigma=list(SIGMAS), seed=0)
