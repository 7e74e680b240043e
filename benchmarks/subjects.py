"""Networks that benchmarks measure on chips: their data, their trainings and what they cost.

Data are in data/ (BENCHMARK_DATA names another folder): MNIST as torchvision lays it out, CIFAR-10
and CIFAR-100 as cifar10.npz and cifar100.npz, a text as shakespeare.txt. Networks and records are
in outputs/per_chip, or in the folder that the environment names as BENCHMARK_PER_CHIP; networks
that took hours, in benchmarks/networks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from torch import nn

from benchmarks.common import DATA, HERE, OUTPUTS, RECORDS, SIGMA
from cnet_aihw import zoo
from cnet_aihw.compensation import (
    Corrector,
    NetworkCost,
    Placement,
    compensation_cost,
    network_cost,
    uniform_placement,
)
from cnet_aihw.rram import LogNormalNoiseModel, RRAMRPUConfig, convert_to_analog, load_snapshot
from cnet_aihw.tasks import Classification, LanguageModelling, Regression, Segmentation, Task
from cnet_aihw.training import load_checkpoint

LIMIT = 0.05
CHIPS_SEED, VALIDATION_SEED = 7000, 3000
REFINED = ((300, 2000), (1000, 4000))  # steps and images of a refinement
WIDE = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24)  # filters of networks whose layers are wide
ONE_CYCLE = (
    "data=arrays", "data.val_size=5000", "data.augment=true", "training.schedule=onecycle",
    "training.lr=0.1", "training.warmup_epochs=0", "training.label_smoothing=0.1",
    "training.bf16=true", "training.channels_last=true", "training.validation_chips=2",
)  # fmt: skip
"""A training for which a CPU suffices."""


@dataclass(frozen=True)
class Subject:
    """A network and its data."""

    name: str
    data: str
    kind: Callable[..., nn.Module]
    betas: tuple[float, ...] = ()
    """Weights of the penalty to choose among; the first is the experiment's."""

    test: int | None = None
    """Images of the test part, from its beginning; None: all."""

    refined: tuple[tuple[int, int], ...] = REFINED
    """Steps and images of refinements to choose among; none: it is not refined."""

    task: Task = Classification()  # noqa: RUF009

    width: float = 0.125
    """Of a VGG16."""

    budget: int = 60
    """Placements of a search, beside that by spectrum; 0: no such search."""

    sizes: tuple[int, ...] = (0, 1, 2, 3, 4, 6, 8)
    """Numbers of filters that a search may give a layer."""

    fit_epochs: int = 2
    """Of a shared fit."""

    trainings: str = "plain,lipschitz,noise,noise_from_plain,noise_drawn,noise_distilled"
    """Names of its trainings."""

    words: tuple[str, ...] = ()
    """Words of the command that trains it, beside those of its experiment."""

    later: tuple[str, ...] | None = None
    """Words of trainings that start from the plain weights and are shorter than they; None: all
    trainings start from random weights, or as their experiment says."""

    seeds: int = 3
    """Number of its trainings."""

    of_paper: bool = True
    """Whether it is a network of the paper, and not of another kind."""

    images: int = 1000
    """Samples that correctors are fitted to."""

    batch: int = 64
    """Samples of a step of refinement."""

    from_plain: tuple[int, float] | None = None
    """Epochs and learning rate of trainings under noise from the plain weights, at two deviations;
    None: both trainings are those of its experiment."""

    milder: tuple[int, float, float] | None = None
    """The same of a longer training, and its deviation, which is below that of the chips; what is
    left of their errors is for correctors, which aim at its clean outputs. None: there is none."""

    @property
    def sigmas(self) -> tuple[float, ...]:
        """Deviations of its measurements; at the first one its placement is chosen."""
        return (SIGMA, 0.1, 0.3, 0.7) if self.of_paper else (0.3, 0.1, SIGMA)

    def under(self, training: str, sigma: float) -> str:
        """Return the folder of a training, that of the deviation for which there is its own."""
        own = training == "noise_from_plain" and self.from_plain is not None and sigma == SIGMA
        return f"{training}_{SIGMA:g}" if own else training

    def build(self) -> nn.Module:
        """Return the network, untrained."""
        data = dataset(self.data)
        narrow = {"width": self.width} if self.kind is zoo.VGG16 else {}
        hidden = {"hidden": (64, 64)} if self.kind is zoo.MLP else {}
        return self.kind(data.input_shape, data.classes, **narrow, **hidden)


HALF = (*ONE_CYCLE, "training.epochs=30", "training.validate_every=30")
OTHER: dict[str, Any] = {"of_paper": False, "budget": 0, "trainings": "plain,noise"}
LATER: dict[str, Any] = OTHER | {"trainings": "plain,noise_from_plain"}
MILDER: dict[str, Any] = OTHER | {"trainings": "plain,noise_from_plain,milder_noise"}
SUBJECTS = {
    s.name: s
    for s in (
        Subject("lenet5_mnist", "mnist", zoo.LeNet5, (1e-4,)),
        Subject("lenet5_cifar10", "cifar10", zoo.LeNet5, (1e-3, 3e-3)),
        Subject("vgg16_narrow_cifar10", "cifar10", zoo.VGG16, (1e-3,), 2000, REFINED[:1]),
        Subject("vgg16_half_cifar10", "cifar10", zoo.VGG16, (1e-3,), 2000, (), budget=0, width=0.5,
                trainings="plain,lipschitz,noise_from_plain", words=HALF, later=(), seeds=2),
        Subject("vgg16_half_cifar100", "cifar100", zoo.VGG16, (1e-3,), 2000, (), budget=0,
                width=0.5, sizes=WIDE, trainings="plain,lipschitz,noise_from_plain", words=HALF,
                later=(), seeds=2),
        Subject("vgg16_cifar10", "cifar10", zoo.VGG16, (1e-3,), 2000, (), budget=0, width=1.0,
                sizes=WIDE, trainings="plain,lipschitz,noise_from_plain", seeds=1,
                words=(*ONE_CYCLE, "training.epochs=12", "training.validate_every=12"),
                later=("training.channels_last=true", "training.validation_chips=2",
                       "training.validate_every=8", "training.select=last")),
        Subject("resnet20_cifar10", "cifar10", zoo.ResNet20, (1e-3,), 2000, REFINED[:1], budget=0,
                trainings="plain,lipschitz,noise_from_plain", seeds=2,
                words=(*ONE_CYCLE, "training.epochs=20", "training.validate_every=20")),
        Subject("vit_cifar10", "cifar10", zoo.ViT, (), 2000, ((100, 1000),), fit_epochs=1,
                from_plain=(4, 5e-4), seeds=2, **LATER),
        Subject("language_model", "text", zoo.LanguageModel, (), None, ((100, 200), (300, 500)),
                LanguageModelling(), fit_epochs=1, images=200, batch=16, from_plain=(8, 1e-3),
                milder=(24, 1e-3, 0.4), seeds=2, **MILDER),
        Subject("recurrent_mnist", "mnist", zoo.Recurrent, (), 2000, ((300, 1000),), **OTHER),
        Subject("unet_scenes", "scenes", zoo.UNet, (), 200, ((300, 300),), Segmentation(),
                images=100, from_plain=(6, 1e-3), **LATER),
        Subject("diabetes", "diabetes", zoo.MLP, (), None, ((300, 300),), Regression(metric="R2"),
                images=300, **OTHER),
    )
}  # fmt: skip
"""Name -> network: those of the paper, then others."""


@cache
def dataset(name: str) -> zoo.Dataset:
    """A data set, loaded once."""
    if name == "mnist":
        return zoo.mnist(str(DATA))
    if name == "text":
        return zoo.text(DATA / "shakespeare.txt")
    if name == "scenes":
        return zoo.digit_scenes()
    if name == "diabetes":
        return zoo.table("diabetes", target="number")
    return zoo.arrays(DATA / f"{name}.npz", val_size=5000, augment=True)


def where(name: str) -> list[str]:
    """Return the words by which a command finds a data set."""
    if name == "mnist":
        return [f"data.root={DATA}", "data.download=false"]
    files = {name: f"{name}.npz" for name in ("cifar10", "cifar100")} | {"text": "shakespeare.txt"}
    return [f"data.path={DATA / files[name]}"] if name in files else []


def folder_of(subject: Subject, seed: int, beta: float | None = None) -> Path:
    """Return the folder of trainings; those with another penalty have one of their own."""
    other = "" if beta in (None, *subject.betas[:1]) else f"-beta{beta:g}"
    return OUTPUTS / f"{subject.name}-seed{seed}{other}"


def loaded(
    subject: Subject, folder: Path, on: float | RRAMRPUConfig = SIGMA, seed: int = 0
) -> nn.Module:
    """Return the analog network that was trained in a folder, or else is in benchmarks/networks.

    It is on crossbars of a log-normal variation, or of a config.
    """
    path, digital = folder / "best.safetensors", subject.build()
    long = kept(subject, folder.name, seed)
    if long.exists() and not path.exists():
        zoo.load_pretrained(digital, long)
    if not isinstance(on, RRAMRPUConfig):
        on = RRAMRPUConfig(noise_model=LogNormalNoiseModel(on))
    model = convert_to_analog(digital, on)
    if path.exists() or not long.exists():
        load_snapshot(model, load_checkpoint(path).model)
    return model.eval()


def kept(subject: Subject, training: str, seed: int = 0) -> Path:
    """Return the file of a network that took hours, if there is one."""
    name = f"{subject.name}_{training}" + (f"_seed{seed}" if seed else "")
    return HERE / "networks" / f"{name}.safetensors"


def network(
    subject: Subject, seed: int, training: str, beta: float | None = None, sigma: float = SIGMA
) -> nn.Module:
    """Return a network that `python -m benchmarks.per_chip train` trained."""
    return loaded(subject, folder_of(subject, seed, beta) / training, sigma, seed)


def swept(subject: Subject, training: str, sigma: float = SIGMA) -> nn.Module:
    """Return a network that `python -m benchmarks.sweeps run` trained, or `search train`."""
    return loaded(subject, RECORDS / subject.name / training, sigma)


def sizes(cost: NetworkCost, size: int) -> Placement:
    """Return the placement with one size at all layers."""
    return Placement({name: f"size {size}" for name, row in cost.layers.items() if row.analog})


def uniform(cost: NetworkCost, corrector: Corrector, limit: float = LIMIT) -> Placement:
    """Return the placement with one share at all layers, within a limit on weights and on MACs."""
    layers = [name for name, row in cost.layers.items() if row.analog]
    return uniform_placement(cost, layers, limit, corrector, limit_macs=limit)


def cost_of(subject: Subject) -> NetworkCost:
    """Return the costs of a network, whose weights do not matter."""
    model = convert_to_analog(subject.build(), RRAMRPUConfig())
    return network_cost(model, dataset(subject.data).val.first(1).x)


def overheads(cost: NetworkCost, placement: Placement, corrector: Corrector) -> dict[str, Any]:
    """Return what rows say of the cost of correctors, relative to the network."""
    found = compensation_cost(cost, placement, corrector)
    return {"overhead_weights": found.overhead_weights, "overhead_macs": found.overhead_macs}
