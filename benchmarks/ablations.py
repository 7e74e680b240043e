"""Effect of single settings of the training, and of a network's width, on validation data.

    python -m benchmarks.ablations run     # makes, or continues, all sweeps
    python -m benchmarks.ablations table   # benchmarks/results/ablations.json from what is there

Each is a sweep of `cnet-aihw` over short trainings at sigma 0.5; the last epoch's weights are
measured on 20 chips with the validation part. It needs MNIST in data/ as torchvision lays it out,
and CIFAR-10 as data/cifar10.npz. What ratio, reads and evaluator are worth is measured by
`benchmarks.compensation` and `benchmarks.evaluators`, beta by `benchmarks.training select`.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from benchmarks.training import RECORDS, RESULTS, WHERE, cnet_aihw
from cnet_aihw.report.load import current
from cnet_aihw.runtime.records import read_json, write_json_atomic

CHIPS = 20
_MEASURED = ("clean_score", "chip_score", "chip_std")
FOLDER = RECORDS / "ablations"


@dataclass(frozen=True)
class Problem:
    """A network, its data and how long it is trained."""

    name: str
    words: tuple[str, ...]
    epochs: int


@dataclass(frozen=True)
class Sweep:
    """One setting and the values it is given."""

    setting: str
    key: str
    values: str
    trainings: str
    problems: tuple[Problem, ...]

    def words(self, problem: Problem) -> list[str]:
        """The words of the command."""
        short = (f"training.epochs={problem.epochs}", f"training.validate_every={problem.epochs}",
                 "training.select=last", f"training.validation_chips={CHIPS}")  # fmt: skip
        asked = (f"training={self.trainings}", f"{self.key}={self.values}")
        return ["-m", *problem.words, "job=train", *short, *asked]

    @property
    def trainings_made(self) -> int:
        """How many trainings it is."""
        return len(self.values.split(",")) * len(self.trainings.split(","))

    def folder(self, problem: Problem) -> Path:
        """Where its trainings are."""
        name = problem.name.partition(",")[0]  # a comma would make a sweep of it
        return FOLDER / "-".join([self.setting, name, *([self.values] if self.single else [])])

    @property
    def single(self) -> bool:
        """Whether it has one value, which its records need not tell."""
        return "," not in self.values


MNIST = Problem("lenet5_mnist", ("experiment=lenet5_mnist", WHERE["mnist"]), 3)
CIFAR10 = Problem("lenet5_cifar10", ("experiment=lenet5_cifar10", WHERE["cifar10"]), 4)
VGG16 = Problem(
    "vgg16_narrow_cifar10, 15,000 images",
    ("experiment=vgg16_narrow_cifar10", WHERE["cifar10"], "data.limit_train=15000"),
    6,
)
PENALTY = "lipschitz,lipschitz_noise"
SWEEPS = (
    Sweep("k", "training.lipschitz.k", "0.5,1,2", PENALTY, (MNIST, CIFAR10)),
    Sweep("steps_per_chip", "training.variation.steps_per_chip", "0,1,10,100", "noise",
          (MNIST, CIFAR10)),
    Sweep("fold_batchnorm", "training.lipschitz.fold_batchnorm", "false,true", PENALTY, (VGG16,)),
    Sweep("gram", "training.lipschitz.gram", "matrix,slices", PENALTY, (MNIST, CIFAR10)),
    *(Sweep("width", "model.width", width, "plain,lipschitz,noise", (VGG16,))
      for width in ("0.125", "0.25", "0.5")),
)  # fmt: skip


def run() -> None:
    """All sweeps."""
    for sweep in SWEEPS:
        for problem in sweep.problems:
            folder = sweep.folder(problem)
            if len(list(folder.rglob("result.json"))) < sweep.trainings_made:
                try:
                    cnet_aihw(*sweep.words(problem), f"hydra.sweep.dir={folder}")
                except subprocess.CalledProcessError:  # reported; the others of it are done
                    print(f"{sweep.setting}: not every training came to its end", flush=True)
            table()


def table() -> None:
    """Write the table from the records alone."""
    rows = []
    for sweep in SWEEPS:
        for problem in sweep.problems:
            command = shlex.join(["cnet-aihw", *sweep.words(problem)])
            for path in sorted(sweep.folder(problem).rglob("run.json")):
                rows.append(_row(sweep, problem, path) | {"command": command})
    rows.sort(key=lambda row: (row["setting"], row["problem"], row["training"], row["value"]))
    write_json_atomic(
        RESULTS / "ablations.json", {"command": "python -m benchmarks.ablations run", "rows": rows}
    )


def _row(sweep: Sweep, problem: Problem, path: Path) -> dict[str, Any]:
    run = read_json(path)
    settings = (run.get("provenance") or run["identity"])["training"]
    left = path.with_name("result.json")
    result = current(read_json(left)) if left.exists() else dict.fromkeys(_MEASURED)  # it diverged
    key = sweep.key.removeprefix("training.")
    value = (
        float(sweep.values) if sweep.single else OmegaConf.select(OmegaConf.create(settings), key)
    )
    return {
        "setting": sweep.setting,
        "problem": problem.name,
        "training": settings["name"],
        "value": value,
        "epochs": settings["epochs"],
        "validation_clean": result["clean_score"],
        "validation_chips_mean": result["chip_score"],
        "validation_chips_std": result["chip_std"],
        "chips": CHIPS,
        "seed": settings["seed"],
    }


def main() -> None:
    """Do what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=("run", "table"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.action == "run":
        run()
    table()


if __name__ == "__main__":
    main()
