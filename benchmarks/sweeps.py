"""Tables made of commands of `cnet-aihw` alone: trainings, ablations, devices, levels and ADCs.

    python -m benchmarks.sweeps run     # makes, or continues, all of them
    python -m benchmarks.sweeps table   # their files in benchmarks/results, from records

`--only training` takes one of: selection (learning rate and beta, on validation data), training
(LeNet-5 on test data, 100 chips), ablations (single settings and a network's width, on validation
data), devices (LeNet-5 on MNIST on every device model, at its published operating point and a
harsher one), adc_levels (the networks of `training` on crossbars with levels and ADCs). They need
MNIST in data/ as torchvision lays it out, and CIFAR-10 as data/cifar10.npz; some hours each.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from benchmarks.common import RECORDS, cnet_aihw, command_line, write_result
from cnet_aihw.report.load import current
from cnet_aihw.rram import Wan2022NoiseModel
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.runtime.records import read_json

COMMAND = "python -m benchmarks.sweeps"
WHERE = {"mnist": "data.root=data", "cifar10": "data.path=data/cifar10.npz"}
Row = dict[str, Any]


@dataclass(frozen=True)
class Command:
    """One command and the folder that it leaves."""

    folder: Path
    words: Sequence[str]
    left: str = "table.json"
    """Name of a file of which it leaves `count`."""

    count: int = 1
    about: Row = field(default_factory=dict)
    """Values that its rows begin with."""

    def __str__(self) -> str:
        return shlex.join(["cnet-aihw", *self.words])

    def run(self) -> None:
        """Run it, unless it is done."""
        if len(list(self.folder.rglob(self.left))) < self.count:
            kind = "sweep" if "-m" in self.words else "run"
            try:
                cnet_aihw(*self.words, f"hydra.{kind}.dir={self.folder}")
            except subprocess.CalledProcessError:  # reported; trainings of a sweep may diverge
                if kind == "run":
                    raise
                print(f"{self.folder}: not every training came to its end", flush=True)

    def rows(self) -> list[Row]:
        """Return the rows of the table that it left, if any."""
        path = self.folder / self.left
        return list(read_json(path)["rows"]) if path.exists() else []

    def trainings(self) -> Iterator[tuple[dict[str, Any], Row]]:
        """Yield settings and scores of all trainings of a sweep; without scores, one diverged."""
        for path in sorted(self.folder.rglob("run.json")):
            run, left = read_json(path), path.with_name("result.json")
            found = current(read_json(left)) if left.exists() else {}
            keys = {"clean": "clean_score", "chips_mean": "chip_score", "chips_std": "chip_std"}
            scores = {f"validation_{name}": found.get(key) for name, key in keys.items()}
            yield (run.get("provenance") or run["identity"])["training"], scores


# -- learning rate and beta, and the trainings in full


def selection() -> Iterator[Command]:
    """Short trainings over learning rates, then over beta."""
    swept = {
        "lr": ("plain,noise", "1e-3,2e-3,4e-3", "1e-3"),
        "beta": ("lipschitz,lipschitz_noise", "2e-3", "1e-4,1e-3,1e-2"),
    }
    for data, epochs in (("mnist", 3), ("cifar10", 4)):
        for name, (trainings, lr, beta) in swept.items():
            words = (
                "-m", f"experiment=lenet5_{data}", WHERE[data], "job=train",
                f"training.epochs={epochs}", "training.validation_chips=20",
                "training.select=last", f"training.validate_every={epochs}",
                f"training={trainings}", f"training.lr={lr}", f"training.lipschitz.beta={beta}",
            )  # fmt: skip
            folder = RECORDS / f"selection_{data}_{name}"
            yield Command(folder, words, "result.json", 6, {"data": data})


def selection_rows() -> Iterator[Row]:
    """Validation accuracy of each short training."""
    for command in selection():
        for settings, scores in command.trainings():
            beta = settings["lipschitz"]["beta"] if "lip" in settings["name"] else None
            about = {"training": settings["name"], "lr": settings["lr"], "beta": beta}
            yield {
                **command.about, **about, "epochs": settings["epochs"], **scores,
                "chips": settings["validation_chips"], "command": str(command),
            }  # fmt: skip


def training() -> Iterator[Command]:
    """LeNet-5 on both data sets: plain, Lipschitz, noise-injected, both together."""
    for data, where in WHERE.items():
        words = (f"experiment=lenet5_{data}", where)
        yield Command(RECORDS / f"lenet5_{data}", words, about={"data": data, "network": "lenet5"})


def training_rows() -> Iterator[Row]:
    """Accuracy over chips of the four trainings."""
    for command in training():
        for row in command.rows():
            kept = ("clean", "mean", "std", "q05", "recovery", "chips", "seed")
            yield {
                **command.about, "training": row["training"], "sigma": 0.5,
                **{key: row[key] for key in kept}, "command": str(command),
            }  # fmt: skip


# -- single settings


MNIST = ("lenet5_mnist", ("experiment=lenet5_mnist", WHERE["mnist"]), 3)
CIFAR10 = ("lenet5_cifar10", ("experiment=lenet5_cifar10", WHERE["cifar10"]), 4)
VGG16 = (
    "vgg16_narrow_cifar10, 15,000 images",
    ("experiment=vgg16_narrow_cifar10", WHERE["cifar10"], "data.limit_train=15000"),
    6,
)
PENALTY = "lipschitz,lipschitz_noise"
SETTINGS = (
    ("k", "training.lipschitz.k", "0.5,1,2", PENALTY, (MNIST, CIFAR10)),
    ("steps_per_chip", "training.variation.steps_per_chip", "0,1,10,100", "noise",
     (MNIST, CIFAR10)),
    ("fold_batchnorm", "training.lipschitz.fold_batchnorm", "false,true", PENALTY, (VGG16,)),
    ("gram", "training.lipschitz.gram", "matrix,slices", PENALTY, (MNIST, CIFAR10)),
    *(("width", "model.width", width, "plain,lipschitz,noise", (VGG16,))
      for width in ("0.125", "0.25", "0.5")),
)  # fmt: skip
"""Name, key, values, trainings, and the problems: name, words and epochs of each."""


def ablations() -> Iterator[Command]:
    """A sweep of short trainings over each setting, the last epoch measured on 20 chips."""
    for setting, key, values, trainings, problems in SETTINGS:
        for problem, words, epochs in problems:
            single = "," not in values  # such a value is not in the records of trainings
            short = problem.partition(",")[0]  # a comma would make a sweep of it
            folder = "-".join([setting, short, *([values] if single else [])])
            sweep = (
                "-m", *words, "job=train", f"training.epochs={epochs}",
                f"training.validate_every={epochs}", "training.select=last",
                "training.validation_chips=20", f"training={trainings}", f"{key}={values}",
            )  # fmt: skip
            about = {"setting": setting, "problem": problem}
            about |= {"value": float(values)} if single else {"key": key}
            count = len(values.split(",")) * len(trainings.split(","))
            yield Command(RECORDS / "ablations" / folder, sweep, "result.json", count, about)


def ablations_rows() -> list[Row]:
    """Validation accuracy of each short training."""
    rows = []
    for command in ablations():
        about = command.about
        for settings, scores in command.trainings():
            value = about.get("value")
            if value is None:
                key = about["key"].removeprefix("training.")
                value = OmegaConf.select(OmegaConf.create(settings), key)
            rows.append({
                "setting": about["setting"], "problem": about["problem"],
                "training": settings["name"], "value": value, "epochs": settings["epochs"],
                **scores, "chips": 20, "seed": settings["seed"], "command": str(command),
            })  # fmt: skip
    names = ("setting", "problem", "training", "value")
    return sorted(rows, key=lambda row: [row[name] for name in names])


# -- devices


DEVICES = RECORDS / "devices"
MEASUREMENTS = DEVICES / "measurements.csv"
DAY = ["rram.t_inference=86400.0", "evaluation.t_inference=[86400.0]"]
DECADE = ["rram.t_inference=3.15e8", "evaluation.t_inference=[3.15e8]"]
POINTS: dict[str, tuple[list[str], list[str]]] = {
    "lognormal": ([], ["rram.sigma=0.8"]),
    "gaussian_additive": ([], ["rram.sigma=0.15"]),
    "gaussian_proportional": ([], ["rram.sigma=0.6"]),
    "reram_wan2022": (DAY, [*DAY, "rram.noise_scale=3.0"]),
    "reram_cmo": (DAY, [*DECADE, "rram.acceptance=2", "rram.prog_noise_scale=3.0"]),
    "pcm": (DAY, [*DECADE, "rram.prog_noise_scale=3.0"]),
    "measured": ([], ["rram.noise_scale=3.0"]),
    "levels": ([], ["rram.levels=4"]),
    "stuck_at": ([], ["rram.share_g_min=0.2", "rram.share_g_max=0.05"]),
    "power_law_drift": (DAY, [*DECADE, "rram.nu=0.05", "rram.nu_std=0.02"]),
    "read_noise": ([], ["rram.sigma=0.1"]),
    "composed": (DAY, [*DECADE, "rram.sigma=0.5", "rram.levels=8"]),
}
"""Device -> words of its published operating point, and of a harsher one."""

COMMON = (
    "experiment=lenet5_mnist", "data.root=data", "training.epochs=3", "evaluation.chips=50",
    "evaluation.samples=5000",
)  # fmt: skip
METHODS = {
    ("plain", False): "plain",
    ("noise", False): "noise-injected",
    ("lipschitz", False): "lipschitz",
    ("plain", True): "low rank per chip",
    ("noise", True): "noise, low rank per chip",
    ("lipschitz", True): "penalty, low rank per chip",
}
"""Training, and whether there are correctors -> how its row is called."""


def devices() -> Iterator[Command]:
    """Every device at both points: three trainings, each without and with correctors per chip.

    Noise injection has the device, and the penalty its lambda; CorrectNet has that network.
    """
    for device, points in POINTS.items():
        path = [f"rram.path={os.path.relpath(MEASUREMENTS)}"] if device == "measured" else []
        for point, knobs in zip(("published", "harsher"), points, strict=True):
            folder, about = DEVICES / f"{device}-{point}", {"device": device, "point": point}
            about["knobs"] = ", ".join(word.partition(".")[2] for word in knobs)
            on = (f"rram={device}", *path, *knobs)
            fitted = ("training=all", "compensation=default", "search=spectrum",
                      "compensation.per_chip.target=clean")  # fmt: skip
            yield Command(folder, (*COMMON, *fitted, *on), about=about)
            steps = ("_compensation.compensate", ".evaluate", ".table", ".report")
            steps = ",".join(f"cnet_aihw.jobs.steps{step}" for step in steps)
            shared = (
                f"job.steps=[{steps}]", "training=lipschitz", f"source={os.path.relpath(folder)}",
                "compensation=paper", "compensation.shared.epochs=1", "search=none",
                "compensation.fill=uniform",
            )  # fmt: skip
            about = {**about, "method": "correctnet"}
            beside = folder.with_name(f"{folder.name}-correctnet")
            yield Command(beside, (*COMMON, *shared, *on), about=about)


def devices_rows() -> Iterator[Row]:
    """Accuracy over chips of each method, and its recovery of the plain network's clean one."""
    for command in devices():
        for row in command.rows():
            compensated = row["compensation"] is not None
            if "method" in command.about and not compensated:
                continue  # measured by the other command
            method = METHODS[row["training"], compensated]
            yield {"method": method, **command.about, **row, "command": str(command)}


def make_measurements() -> None:
    """A CSV file of the kind that users have: 40 devices at each of nine conductances.

    They are drawn from the fit of Wan et al., a second after programming.
    """
    if MEASUREMENTS.exists():
        return
    MEASUREMENTS.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(derive_seed(0, "measurements"))
    targets = torch.linspace(0.0, 40.0, 9).repeat_interleave(40)
    measured = Wan2022NoiseModel().drift_device(targets, None, 1.0)
    pairs = zip(targets.tolist(), measured.tolist(), strict=True)
    lines = ["target,measured", *(f"{target:g},{value:.4f}" for target, value in pairs)]
    MEASUREMENTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


# -- levels and ADCs (CorrectNet+)


def adc_levels() -> Iterator[Command]:
    """Accuracy and ADC cost against conductance levels and ADC bits."""
    words = (
        "-m", "experiment=adc_levels", "data=mnist", "data.root=data",
        f"source={os.path.relpath(RECORDS / 'lenet5_mnist')}", "training.compare=[plain,noise]",
        "compensation=none", "evaluation.chips=3", "rram.levels=4,8,16", "rram.adc_bits=4,5,6,8",
    )  # fmt: skip
    yield Command(RECORDS / "adc_levels", words, "sweep.json")


def adc_levels_rows() -> list[Row]:
    """Rows of the sweep."""
    kept = ("training", "levels", "adc_bits", "adc_cost", "clean", "mean", "std", "q05")
    kept = (*kept, "chips", "seed")
    (command,) = adc_levels()
    rows = [{key: row[key] for key in kept} for row in command.rows()]
    return sorted(rows, key=lambda row: [row[name] for name in kept[:3]])


TABLES = {
    "selection": (selection, selection_rows),
    "training": (training, training_rows),
    "ablations": (ablations, ablations_rows),
    "devices": (devices, devices_rows),
    "adc_levels": (adc_levels, adc_levels_rows),
}
"""Result -> its commands, and its rows from what they left."""


def run(only: list[str]) -> None:
    """Run the commands that are not done."""
    for name in only:
        if name == "devices":
            make_measurements()
        for command in TABLES[name][0]():
            command.run()
        table([name])


def table(only: list[str]) -> None:
    """Write results from the records alone."""
    for name in only:
        commands, rows = TABLES[name]
        swept = {"sweep": shlex.join(next(iter(commands())).words)} if name == "adc_levels" else {}
        write_result(name, f"{COMMAND} run --only {name}", list(rows()), **swept)


if __name__ == "__main__":
    command_line(__doc__, run, table, only=list(TABLES))
