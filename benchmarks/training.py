"""LeNet-5 on MNIST and CIFAR-10 at sigma 0.5: plain, Lipschitz, noise-injected, both together.

    python -m benchmarks.training select   # learning rate and beta, on validation data
    python -m benchmarks.training run      # the table, on test data, 100 chips

Each runs the commands of `cnet-aihw` that it prints, resumes where it was stopped, and writes
benchmarks/results/selection.json and training.json from what those left in outputs/benchmarks, or
in the folder that the environment names as BENCHMARK_RECORDS: in an empty one all is made from
scratch.
It needs MNIST in data/ as torchvision lays it out, and CIFAR-10 as data/cifar10.npz.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import nn

from cnet_aihw.report.load import current
from cnet_aihw.rram import RRAMRPUConfig, convert_to_analog, load_snapshot
from cnet_aihw.runtime.records import read_json, write_json_atomic
from cnet_aihw.training import load_checkpoint
from cnet_aihw.zoo import Dataset, LeNet5, arrays, mnist

HERE = Path(__file__).parent
RECORDS = Path(os.environ.get("BENCHMARK_RECORDS", "outputs/benchmarks"))
"""Where all benchmarks put what they leave, and take up what is there."""

RESULTS = HERE / "results"
TRAININGS = ("plain", "lipschitz", "noise", "lipschitz_noise")
DATA: dict[str, Callable[[], Dataset]] = {
    "mnist": lambda: mnist("data"),
    "cifar10": lambda: arrays("data/cifar10.npz", val_size=5000, augment=True),
}
WHERE = {"mnist": "data.root=data", "cifar10": "data.path=data/cifar10.npz"}
SWEEP_EPOCHS = {"mnist": 3, "cifar10": 4}


@cache
def dataset(name: str) -> Dataset:
    """A data set, loaded once."""
    return DATA[name]()


def trained_network(name: str, training: str) -> tuple[Dataset, nn.Module]:
    """A data set and the network that `run` trained on it."""
    data = dataset(name)
    model = convert_to_analog(LeNet5(data.input_shape, data.classes), RRAMRPUConfig())
    best = RECORDS / f"lenet5_{name}" / training / "best.safetensors"
    load_snapshot(model, load_checkpoint(best).model)
    return data, model.eval()


def cnet_aihw(*words: str) -> str:
    """Run a command; returns it as it is written in the results, without its folder."""
    command = ["cnet-aihw", *words]
    print("+", shlex.join(command), flush=True)
    script = "from cnet_aihw.jobs.cli import main; main()"
    # One thread, as the benchmarks themselves: threads that wait for each other spoil times.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", script, *words], check=True, env=environment)
    return shlex.join(w for w in command if not w.startswith("hydra."))


def select(name: str) -> list[dict]:
    """Validation accuracy of short trainings over learning rates, then over beta."""
    rows = []
    common = (f"experiment=lenet5_{name}", WHERE[name], "job=train",
              f"training.epochs={SWEEP_EPOCHS[name]}", "training.validation_chips=20",
              "training.select=last", f"training.validate_every={SWEEP_EPOCHS[name]}")  # fmt: skip
    for sweep, words in (
        (
            "lr",
            ("training=plain,noise", "training.lr=1e-3,2e-3,4e-3", "training.lipschitz.beta=1e-3"),
        ),
        (
            "beta",
            (
                "training=lipschitz,lipschitz_noise",
                "training.lr=2e-3",
                "training.lipschitz.beta=1e-4,1e-3,1e-2",
            ),
        ),
    ):
        folder = RECORDS / f"selection_{name}_{sweep}"
        command = cnet_aihw("-m", *common, *words, f"hydra.sweep.dir={folder}")
        for path in sorted(folder.rglob("run.json")):
            run = read_json(path)
            settings = (run.get("provenance") or run["identity"])["training"]
            result = current(read_json(path.parent / "result.json"))
            rows.append(
                {
                    "data": name,
                    "training": settings["name"],
                    "lr": settings["lr"],
                    "beta": settings["lipschitz"]["beta"] if "lip" in settings["name"] else None,
                    "epochs": settings["epochs"],
                    "validation_clean": result["clean_score"],
                    "validation_chips_mean": result["chip_score"],
                    "validation_chips_std": result["chip_std"],
                    "chips": settings["validation_chips"],
                    "command": command,
                }
            )
    return rows


def run(name: str) -> list[dict]:
    """The four trainings in full, measured on the test part."""
    folder = RECORDS / f"lenet5_{name}"
    command = cnet_aihw(f"experiment=lenet5_{name}", WHERE[name], f"hydra.run.dir={folder}")
    return [
        {
            "data": name,
            "network": "lenet5",
            "training": row["training"],
            "sigma": 0.5,
            **{key: row[key] for key in ("clean", "mean", "std", "q05", "recovery", "chips")},
            "seed": row["seed"],
            "command": command,
        }
        for row in json.loads((folder / "table.json").read_text())["rows"]
    ]


def main() -> None:
    """Run what is asked for and write the rows of all that is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=("select", "run"))
    parser.add_argument("--data", choices=list(DATA), nargs="+", default=list(DATA))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    target = "selection" if arguments.action == "select" else "training"
    for name in arguments.data:
        rows = select(name) if arguments.action == "select" else run(name)
        write_json_atomic(RECORDS / f"{target}_{name}.json", rows)
    paths = [RECORDS / f"{target}_{name}.json" for name in DATA]
    rows = [row for path in paths if path.exists() for row in json.loads(path.read_text())]
    command = f"python -m benchmarks.training {arguments.action}"
    write_json_atomic(RESULTS / f"{target}.json", {"command": command, "rows": rows})


if __name__ == "__main__":
    main()
