"""The rows: which network on which data, and the commands that train, scan, search and compensate.

Every step is a command of `cnet-aihw` in a folder of outputs/benchmarks, done once.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from hydra import compose, initialize_config_module
from omegaconf import DictConfig
from torch import nn

from benchmarks.common import RECORDS, cnet_aihw
from cnet_aihw.compensation import Placement, load_compensation
from cnet_aihw.jobs.build import build_analog, build_data, build_task
from cnet_aihw.jobs.schema import register_schema
from cnet_aihw.rram import load_snapshot
from cnet_aihw.runtime.records import read_json
from cnet_aihw.training import load_checkpoint
from cnet_aihw.zoo import Dataset

REFERENCE = 0.5
"""The sigma in whose folder the plain network is; no sigma comes into its training."""

SIGMAS = (0.5, 0.3, 0.1, 0.4, 0.2)
"""All sigmas of a row, in the order of the work."""

FROM_SCRATCH = "BENCHMARK_RECORDS=FOLDER makes all of it from scratch in another folder"
"""Remedy where git has the records, but not the networks."""

PER_CHIP = "per_chip"
"""The folder of what is compensated with BatchNorm re-estimated on each chip."""

LIMIT = 0.05
"""Largest overhead in weights of any method."""


@dataclass(frozen=True, eq=False)
class Row:
    """One network on one data set."""

    name: str
    """Also that of its experiment file."""

    title: str
    """As it stands in tables."""

    where: tuple[str, ...]
    """Words that locate the data."""

    needs: str
    """The file or folder of the data; without it the row is left out, and the table says so."""

    settings: tuple[str, ...] = ()
    """Words that all its commands add to the experiment."""

    chips: int = 50
    samples: int | None = None
    """Of the test part, the first ones; None: all."""

    batchnorm: bool = False
    """Whether the network has BatchNorm."""

    ramp: float = 0.0
    """Epochs over which the noise grows in the recipe's trainings."""

    scan: tuple[str, ...] = ("compensation.scan.chips=10",)
    search: tuple[str, ...] = ("search.budget=40", "search.evaluator.shared_steps=1500")
    trained: Mapping[tuple[int, float], str] = field(default_factory=dict)
    """Folders in outputs/benchmarks in which other benchmarks trained: seed and sigma -> folder."""

    def folder(self, sigma: float, seed: int, *more: str) -> Path:
        """Where the networks of one sigma and seed are."""
        known = self.trained.get((seed, sigma)) if not more else None
        own = Path("paper") / self.name / f"seed{seed}" / f"sigma{sigma:g}"
        return RECORDS / (known or own.joinpath(*more))

    def words(self, sigma: float, seed: int, *more: str) -> list[str]:
        """The beginning of all its commands."""
        chosen = [f"experiment={self.name}", *self.where, f"rram.sigma={sigma:g}", f"seed={seed}"]
        return [*chosen, *self.settings, *more]


_SMALL = (
    "search.budget=40", "search.evaluator.shared_steps=800", "search.chips=4", "search.samples=250",
)  # fmt: skip
ROWS = {
    row.name: row
    for row in (
        Row(
            "lenet5_mnist", "LeNet-5 on MNIST", ("data.root=data",), "data/MNIST",
            trained={(0, 0.5): "lenet5_mnist"},
        ),
        Row(
            "lenet5_cifar10", "LeNet-5 on CIFAR-10", ("data.path=data/cifar10.npz",),
            "data/cifar10.npz", settings=("training.epochs=48",),
        ),
        Row(
            "vgg16_narrow_cifar10", "VGG16, an eighth of the width, on CIFAR-10",
            ("data.path=data/cifar10.npz",), "data/cifar10.npz", chips=25, samples=2000,
            batchnorm=True, ramp=6.0, trained={(0, 0.5): "vgg16_narrow_cifar10"},
            scan=("compensation.scan.chips=4", "compensation.scan.samples=250"), search=_SMALL,
        ),
        Row(
            "vgg16_cifar10", "VGG16 on CIFAR-10", ("data.root=data",), "data/cifar-10-batches-py",
            chips=100, batchnorm=True, ramp=50.0,
        ),
        Row(
            "vgg16_cifar100", "VGG16 on CIFAR-100", ("data.root=data",), "data/cifar-100-python",
            chips=100, batchnorm=True, ramp=50.0,
        ),
    )
}  # fmt: skip


# -- commands, each done once


def train(row: Row, training: str, sigma: float, seed: int) -> None:
    """Train one network."""
    _train(row, row.folder(sigma, seed), training, sigma, seed)


def train_variant(row: Row, variant: str, sigma: float, seed: int, digital: Iterable[str]) -> Path:
    """Train under noise in another way than `train` does.

    Args:
        row: the row.
        variant: "from_plain", from the plain network's weights, at half of the learning rate;
            "digital", with layers digital from its first step, and the row's ramp;
            "digital_from_plain"; "ramped", with the row's ramp alone.
        sigma: what is injected.
        seed: that of the training.
        digital: the layers.

    Returns:
        The folder.
    """
    run = row.folder(sigma, seed, variant)
    more = _excluding(digital) if variant.startswith("digital") else []
    if variant.endswith("from_plain"):
        rate = composed(*row.words(sigma, seed)).training.lr / 2
        plain = os.path.relpath(row.folder(REFERENCE, seed) / "plain" / "best.safetensors")
        more += [f"pretrained={plain}", f"training.lr={rate:g}"]
    else:
        more.append(f"training.variation.ramp_epochs={row.ramp:g}")
    _train(row, run, "noise", sigma, seed, *more)
    return run / "noise"


def _train(row: Row, run: Path, training: str, sigma: float, seed: int, *more: str) -> None:
    if not (run / training / "result.json").exists():
        words = row.words(sigma, seed, f"training={training}", "job=train", *more)
        cnet_aihw(*words, f"hydra.run.dir={run}")
    elif not (run / training / "best.safetensors").exists():
        raise SystemExit(
            f"{run / training} was trained elsewhere, its network is not here; {FROM_SCRATCH}"
        )


def compensated(
    row: Row, training: str, sigma: float, seed: int, searcher: str, variant: str | None = None
) -> None:
    """Scan a trained network, search a placement and fit it.

    The limit is that of the project; the agent sees the layers which the paper's threshold names,
    the project's own searcher all that lose anything. `variant` is a folder of the recipe's, or
    PER_CHIP: compensation that is searched, fitted and measured with BatchNorm re-estimated on
    each chip.
    """
    run = row.folder(sigma, seed, *([variant] if variant else []))
    paper = searcher == "ppo"
    common = row.words(sigma, seed, f"training={training}", "compensation=paper", *row.scan)
    if variant == PER_CHIP:
        common.append("compensation.shared.batchnorm=per_chip")
        if not (run / training).exists():
            there = row.folder(sigma, seed) / training
            other = shutil.ignore_patterns("search*", "compensation*", "tensorboard", "*.lock")
            shutil.copytree(there, run / training, ignore=other)
    common += [f"compensation.limit={LIMIT}"] + ([] if paper else ["compensation.threshold=1.0"])
    searching = [f"search={searcher}", *row.search]
    for job, left in (("scan", "scan.json"), ("search", "search.json")):
        if not (run / training / left).exists():
            words = [*common, f"job={job}", *searching, "ray.dashboard=false"]
            cnet_aihw(*words, f"hydra.run.dir={run}")
    if not (run / training / "compensation.json").exists():
        cnet_aihw(*common, *searching, "job=compensate", f"hydra.run.dir={run}")


# -- what they left


@cache
def dataset(row: Row, seed: int) -> Dataset:
    """The data of a row."""
    return build_data(composed(*row.words(REFERENCE, seed)))


def network(
    row: Row, folder: Path, sigma: float, seed: int, exclude: Iterable[str] = ()
) -> nn.Module:
    """The network trained in a folder, on chips of a sigma."""
    config = composed(*row.words(sigma, seed), *_excluding(exclude))
    model = build_analog(config, dataset(row, seed), build_task(config))
    load_snapshot(model, load_checkpoint(folder / "best.safetensors").model)
    return model.eval()


def with_compensation(model: nn.Module, folder: Path) -> Placement:
    """Put the compensation fitted in a folder on a network; returns where it stands."""
    placement = Placement(read_json(folder / "compensation.json")["placement"])
    if placement:
        load_compensation(model, folder / "compensation.safetensors")
    return placement


def by_sensitivity(folder: Path) -> list[str]:
    """All layers, the one whose variation alone costs most first."""
    rows = [row for row in read_json(folder / "scan.json")["rows"] if row["mode"] == "single"]
    return [row["layer"] for row in sorted(rows, key=lambda row: row["mean"])]


def composed(*words: str) -> DictConfig:
    """The configuration of a command."""
    register_schema()
    with initialize_config_module("cnet_aihw.conf", version_base="1.3"):
        return compose("config", list(words))


def _excluding(layers: Iterable[str]) -> list[str]:
    names = ",".join(layers)
    return [f"rram.exclude=[{names}]"] if names else []
