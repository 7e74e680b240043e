"""Networks that benchmarks measure on chips, ways to use a chip, and the measurement of a way.

Networks and records of chips are in outputs/per_chip, or in the folder that the environment names
as BENCHMARK_PER_CHIP. Data are in data/ (BENCHMARK_DATA names another folder): MNIST as torchvision
lays it out, CIFAR-10 as cifar10.npz, a text as shakespeare.txt.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from torch import nn

from cnet_aihw.compensation import (
    Corrector,
    FitSettings,
    NetworkCost,
    PerChipFit,
    Placement,
    WithCompensation,
    compensate,
    compensation_cost,
    fit_compensation,
    network_cost,
)
from cnet_aihw.evaluation import BatchNormReestimation, ChipCalibration, evaluate_chips
from cnet_aihw.rram import (
    LogNormalNoiseModel,
    RRAMRPUConfig,
    convert_to_analog,
    load_snapshot,
)
from cnet_aihw.tasks import Classification, LanguageModelling, Regression, Segmentation, Task
from cnet_aihw.training import load_checkpoint
from cnet_aihw.zoo import (
    MLP,
    VGG16,
    Dataset,
    LanguageModel,
    LeNet5,
    Recurrent,
    UNet,
    ViT,
    arrays,
    digit_scenes,
    mnist,
    table,
    text,
)

OUTPUTS = Path(os.environ.get("BENCHMARK_PER_CHIP", "outputs/per_chip"))
DATA = Path(os.environ.get("BENCHMARK_DATA", "data"))
RESULTS = Path(__file__).parent / "results"
LIMIT = 0.05
SIGMA = 0.5
SEEDS = (0, 1)
CHIPS_SEED, VALIDATION_SEED = 7000, 3000
REFINED = ((300, 2000), (1000, 4000))  # steps and images of a refinement
REFINE_LR = 3e-3


@dataclass(frozen=True)
class Subject:
    """A network and its data."""

    name: str
    data: str
    build: Callable[[Dataset], nn.Module]
    betas: tuple[float, ...] = ()
    """Weights of the penalty to choose among; the first is the experiment's."""

    test: int | None = None
    """Images of the test part, from its beginning; None: all."""

    refined: tuple[tuple[int, int], ...] = REFINED
    """Steps and images of refinements to choose among."""

    task: Task = Classification()  # noqa: RUF009

    @property
    def classifies_images(self) -> bool:
        """Whether it is among the networks of the paper."""
        return bool(self.betas)


SUBJECTS = {
    s.name: s
    for s in (
        Subject("lenet5_mnist", "mnist", lambda d: LeNet5(d.input_shape, d.classes), (1e-4,)),
        Subject(
            "lenet5_cifar10",
            "cifar10",
            lambda d: LeNet5(d.input_shape, d.classes),
            (1e-3, 3e-3),
        ),
        Subject(
            "vgg16_narrow_cifar10",
            "cifar10",
            lambda d: VGG16(d.input_shape, d.classes, width=0.125),
            (1e-3,),
            2000,
            REFINED[:1],
        ),
    )
}


OTHERS = {
    s.name: s
    for s in (
        Subject(
            "vit_cifar10",
            "cifar10",
            lambda d: ViT(d.input_shape, d.classes),
            test=2000,
            refined=((300, 1000),),
        ),
        Subject(
            "language_model",
            "text",
            lambda d: LanguageModel(d.input_shape, d.classes),
            refined=((300, 200),),
            task=LanguageModelling(),
        ),
        Subject(
            "recurrent_mnist",
            "mnist",
            lambda d: Recurrent(d.input_shape, d.classes),
            test=2000,
            refined=((300, 1000),),
        ),
        Subject(
            "unet_scenes",
            "scenes",
            lambda d: UNet(d.input_shape, d.classes),
            test=200,
            refined=((100, 100),),
            task=Segmentation(),
        ),
        Subject(
            "diabetes",
            "diabetes",
            lambda d: MLP(d.input_shape, d.classes, (64, 64)),
            refined=((300, 300),),
            task=Regression(metric="R2"),
        ),
    )
}


@cache
def dataset(name: str) -> Dataset:
    """A data set, loaded once."""
    if name == "mnist":
        return mnist(str(DATA))
    if name == "text":
        return text(DATA / "shakespeare.txt")
    if name == "scenes":
        return digit_scenes()
    if name == "diabetes":
        return table("diabetes", target="number")
    return arrays(DATA / "cifar10.npz", val_size=5000, augment=True)


def folder_of(subject: Subject, seed: int, beta: float | None = None) -> Path:
    """Return the folder of trainings; those with another penalty have one of their own."""
    other = "" if beta in (None, *subject.betas[:1]) else f"-beta{beta:g}"
    return OUTPUTS / f"{subject.name}-seed{seed}{other}"


def network(
    subject: Subject, seed: int, training: str, beta: float | None = None, sigma: float = SIGMA
) -> nn.Module:
    """Return a trained analog network."""
    config = RRAMRPUConfig(noise_model=LogNormalNoiseModel(sigma))
    model = convert_to_analog(subject.build(dataset(subject.data)), config)
    weights = folder_of(subject, seed, beta) / training / "best.safetensors"
    load_snapshot(model, load_checkpoint(weights).model)
    return model.eval()


@dataclass(frozen=True)
class Way:
    """One way to use a chip: a row of the results."""

    name: str
    training: str
    corrector: Corrector | None = None
    placement: Placement | None = None
    fit: str = "none"
    """"none", "per_chip", "shared" (trained over chips) or "batchnorm"."""

    images: int = 1000
    refine_steps: int = 0
    target: str = "clean"
    beta: float | None = None
    lrs: tuple[float, ...] = (FitSettings.lr,)
    """Learning rates of a shared fit to choose among, on validation chips."""


def sizes(cost: NetworkCost, size: int) -> Placement:
    """Return the placement with one size at all layers."""
    return Placement({name: f"size {size}" for name, row in cost.layers.items() if row.analog})


def cost_of(model: nn.Module, subject: Subject) -> NetworkCost:
    """Return the costs of a network."""
    return network_cost(model, dataset(subject.data).val.first(1).x)


def calibration(way: Way, subject: Subject) -> ChipCalibration | None:
    """Return what is done on each chip."""
    x = dataset(subject.data).train.x[: way.images]
    if way.fit == "batchnorm":
        return BatchNormReestimation(x)
    if way.fit != "per_chip":
        return None
    assert way.corrector is not None and way.placement is not None
    fit = PerChipFit(
        x,
        batch_size=2000,
        refine_steps=way.refine_steps,
        refine_lr=REFINE_LR,
        target=way.target,
        task=subject.task,
    )
    return WithCompensation(way.placement, way.corrector, fit)


def prepared(way: Way, subject: Subject, seed: int, sigma: float = SIGMA) -> nn.Module:
    """Return the network of a way, with its shared correctors fitted if it has any."""
    if way.fit != "shared":
        return network(subject, seed, way.training, way.beta, sigma)
    fits = [fitted(way, subject, seed, sigma, lr) for lr in way.lrs]
    sign = 1 if subject.task.higher_is_better else -1
    return max(fits, key=lambda fit: sign * fit[0])[1]


def fitted(
    way: Way, subject: Subject, seed: int, sigma: float, lr: float
) -> tuple[float, nn.Module]:
    """Fit the shared correctors of a way; return their score on validation chips, and the model."""
    assert way.corrector is not None and way.placement is not None
    model = network(subject, seed, way.training, way.beta, sigma)
    compensate(model, way.placement, way.corrector, 0)
    name = way.name if lr == way.lrs[0] else f"{way.name}, lr {lr:g}"
    settings = FitSettings(epochs=2, lr=lr, validation_chips=2)
    folder = folder_of(subject, seed) / "shared" / name
    result = fit_compensation(
        model, dataset(subject.data), settings, folder, task=subject.task, progress=False
    )
    print(f"{subject.name} seed {seed}: {name}: lr {lr:g}, validation {result.chip_score}")
    assert result.chip_score is not None
    return result.chip_score, model


def measure(
    way: Way,
    subject: Subject,
    seed: int,
    records: Path,
    chips: int,
    *,
    part: str = "test",
    samples: int | None = None,
    sigma: float = SIGMA,
) -> dict[str, Any]:
    """Measure one way over chips; return its row."""
    model = prepared(way, subject, seed, sigma)
    bare = network(subject, seed, way.training, way.beta)
    asked, data = calibration(way, subject), dataset(subject.data)
    measured = getattr(data, part)
    if samples is not None:
        measured = measured.first(samples)
    records.parent.mkdir(parents=True, exist_ok=True)
    found = evaluate_chips(
        model,
        measured,
        task=subject.task,
        chips=chips,
        seed=CHIPS_SEED if part == "test" else VALIDATION_SEED,
        calibration=asked,
        records=records,
        device="cpu",
        batch_size=500,
    )
    spent = getattr(asked, "spent", None)
    network_costs = cost_of(bare, subject)
    cost = (
        None
        if way.corrector is None or way.placement is None
        else compensation_cost(network_costs, way.placement, way.corrector)
    )
    return {
        "way": way.name,
        "network": subject.name,
        "data": subject.data,
        "training": way.training,
        "training_seed": seed,
        "beta": way.beta or (subject.betas[0] if way.training == "lipschitz" else None),
        "metric": subject.task.metric,
        "corrector": None if way.corrector is None else way.corrector.label(),
        "features": getattr(way.corrector, "features", None),
        "placement": None if way.placement is None else dict(way.placement),
        "fit": way.fit,
        "target": way.target if way.fit == "per_chip" else None,
        "refine_steps": way.refine_steps if way.fit == "per_chip" else None,
        "images": way.images if way.fit in ("per_chip", "batchnorm") else None,
        "overhead_weights": 0.0 if cost is None else cost.overhead_weights,
        "overhead_macs": 0.0 if cost is None else cost.overhead_macs,
        "part": part,
        "samples": len(measured),
        "sigma": sigma,
        "clean": found.clean,
        "mean": found.mean,
        "std": found.std,
        "q05": found.q05,
        "chips": chips,
        "chips_seed": CHIPS_SEED if part == "test" else VALIDATION_SEED,
        "seconds_per_chip": None if spent is None else spent.seconds,
        "passes": None if spent is None else spent.passes,
    }
