"""Speed of a training step and of a chip, against plain torch and stock aihwkit in one run.

    make bench          (or: python -m benchmarks.speed)

BENCHMARK_LIGHTNING names a folder with IBM's aihwkit-lightning, which wants another version of
torch and is only measured where it is given: `pip download --no-deps aihwkit-lightning`, unzipped.

All variants of a case take turns, round after round; each ratio is the median over the rounds of
the ratios within a round: on a machine shared with others ratios say more than seconds. One thread.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import aihwkit
import torch
from aihwkit.nn.conversion import convert_to_analog as stock_convert_to_analog
from aihwkit.optim import AnalogSGD
from aihwkit.simulator.configs import InferenceRPUConfig, TorchInferenceRPUConfig
from aihwkit.simulator.parameters import IOParameters, MappingParameter, WeightModifierParameter
from aihwkit.simulator.parameters.enums import WeightModifierType
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.common import SIGMA, command_line, write_result
from cnet_aihw import rram
from cnet_aihw.compensation import PAPER, Placement, compensate, compensation_parameters
from cnet_aihw.evaluation import Score, measured_chips
from cnet_aihw.training import LipschitzPenalty, lipschitz_lambda
from cnet_aihw.zoo import MLP, VGG16, LanguageModel, LeNet5, ViT

IMAGE = (3, 32, 32)
TABLE = 8_000_000
RIVAL = "aihwkit-lightning"
LIGHTNING = os.environ.get("BENCHMARK_LIGHTNING")
if LIGHTNING:
    sys.path.append(LIGHTNING)
OURS = (
    "variation",
    "variation + penalty",
    "variation from a table",
    "variation from a table + probed penalty",
    "variation from a table + probed penalty at every second step",
)
STOCK = {"stock torch tile": TorchInferenceRPUConfig, "stock C++ tile": InferenceRPUConfig}
Step = Callable[[], float | None]
"""Does the work once; returns its seconds where it knows better than the clock around it."""


def stock_config(cls: type[InferenceRPUConfig], modifier: bool) -> InferenceRPUConfig:
    """aihwkit at its fastest that computes the same: perfect periphery, one tile, no compensation.

    With ``modifier`` the nearest noise that it can inject in training, 1 + sigma N.
    """
    return cls(
        forward=IOParameters(is_perfect=True, out_bound=0.0),
        mapping=MappingParameter(max_input_size=0, max_output_size=0),
        drift_compensation=None,
        noise_model=rram.LogNormalNoiseModel(SIGMA),
        modifier=WeightModifierParameter(
            type=WeightModifierType.MULT_NORMAL if modifier else WeightModifierType.NONE,
            std_dev=SIGMA,
            rel_to_actual_wmax=False,
            assumed_wmax=1.0,
        ),
    )


def training_step(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    penalty: LipschitzPenalty | None = None,
    every: int = 1,
    optimizer: torch.optim.Optimizer | None = None,
) -> Step:
    """One step on one batch, by SGD with momentum; the penalty at every k-th, with weight k."""
    if optimizer is None:
        optimizer = torch.optim.SGD(rram.trainable_parameters(model), lr=1e-4, momentum=0.9)
    model.train()

    def steps() -> float:
        start = time.perf_counter()
        for number in range(every):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            if penalty is not None and number == 0:
                penalty.backward(1e-4 * every)
            optimizer.step()
        return (time.perf_counter() - start) / every

    return steps


def stock_training_step(
    digital: nn.Module, x: Tensor, y: Tensor, cls: type[InferenceRPUConfig]
) -> Step:
    """The same with aihwkit's optimizer, without which its C++ tile injects nothing."""
    model = stock_convert_to_analog(digital, stock_config(cls, modifier=True))
    optimizer = AnalogSGD(model.parameters(), lr=1e-4, momentum=0.9)
    optimizer.regroup_param_groups(model)
    return training_step(model, x, y, optimizer=optimizer)


def lightning_training_step(digital: nn.Module, x: Tensor, y: Tensor) -> Step:
    """The same in aihwkit-lightning, with the additive normal noise that it has."""
    conversion, configs, parameters, optim = (
        importlib.import_module(f"aihwkit_lightning.{name}")
        for name in ("nn.conversion", "simulator.configs", "simulator.parameters", "optim")
    )
    noise = parameters.WeightNoiseInjectionType.ADD_NORMAL
    config = configs.TorchInferenceRPUConfig(
        modifier=parameters.WeightModifierParameter(std_dev=SIGMA, noise_type=noise)
    )
    model = conversion.convert_to_analog(digital, config)
    sgd, learned = torch.optim.SGD, model.parameters()
    optimizer = optim.AnalogOptimizer(sgd, model.analog_layers, learned, lr=1e-4, momentum=0.9)
    return training_step(model, x, y, optimizer=optimizer)


def training_variants(
    digital: nn.Module, x: Tensor, y: Tensor, cheap: bool = False, stock: bool = True
) -> dict[str, Step]:
    """Name -> one training step; with ``cheap`` also with a table of factors and one probe."""
    table = rram.VariationParameter(table=TABLE)
    config = rram.RRAMRPUConfig(noise_model=rram.LogNormalNoiseModel(SIGMA))
    ours, penalized = (rram.convert_to_analog(digital, config) for _ in range(2))
    lambda_ = lipschitz_lambda(rram.LogNormalNoiseModel(SIGMA))
    penalty = LipschitzPenalty(penalized, lambda_)
    more: dict[str, Step] = {}
    if cheap:
        tabled, probed, seldom = (
            rram.convert_to_analog(digital, replace(config, variation=table)) for _ in range(3)
        )
        first, second = (LipschitzPenalty(m, lambda_, probes=1) for m in (probed, seldom))
        more = {
            OURS[2]: training_step(tabled, x, y),
            OURS[3]: training_step(probed, x, y, first),
            OURS[4]: training_step(seldom, x, y, second, every=2),
        }
    for name, cls in STOCK.items() if stock else ():
        more[name] = stock_training_step(digital, x, y, cls)
    if LIGHTNING and stock:
        more[RIVAL] = lightning_training_step(digital, x, y)
    return {
        "plain torch": training_step(digital, x, y),
        OURS[0]: training_step(ours, x, y),
        OURS[1]: training_step(penalized, x, y, penalty),
        **more,
    }


def fitting_variants(digital: nn.Module, x: Tensor, y: Tensor) -> dict[str, Step]:
    """Name -> one step of fitting the paper's compensation on two layers, the base network frozen.

    Plain torch is the same network with the same compensation and frozen layers of plain torch.
    """
    ours = rram.convert_to_analog(
        digital, rram.RRAMRPUConfig(variation=rram.VariationParameter(hold=True))
    )
    layers = list(rram.analog_layers(ours))
    compensate(ours, Placement({layers[0]: 0.5, layers[1]: 0.5}), PAPER)
    fitted = {id(parameter) for parameter in compensation_parameters(ours).values()}
    for parameter in ours.parameters():
        parameter.requires_grad_(id(parameter) in fitted)
    plain = rram.convert_to_digital(ours)
    fitted = {id(parameter) for parameter in compensation_parameters(plain).values()}
    for parameter in plain.parameters():
        parameter.requires_grad_(id(parameter) in fitted)
    plain_step, ours_step = (training_step(model, x, y) for model in (plain, ours))
    seeds = itertools.count()

    def step() -> None:
        rram.resample_variation(ours, next(seeds))
        ours_step()

    return {"plain torch": plain_step, "fresh chip": step}


def chip_variants(
    digital: nn.Module, x: Tensor, y: Tensor, batch_size: int, stock: bool = True
) -> dict[str, Step]:
    """Name -> one chip measured (plain torch: one pass over the same data)."""
    ours = rram.convert_to_analog(digital, rram.RRAMRPUConfig()).eval()
    digital.eval()
    seeds = itertools.count()

    def pass_over(model: nn.Module) -> None:
        right = 0.0
        with torch.inference_mode():
            for inputs, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
                outputs = model(inputs)
                F.cross_entropy(outputs, labels).item()
                right += (outputs.argmax(1) == labels).sum().item()

    def ours_chip() -> float:
        seconds = chip_seconds(ours, (x, y), 2, seed=next(seeds), batch_size=batch_size)
        return statistics.mean(seconds)

    def stock_chip(model: nn.Module) -> Step:
        def step() -> None:
            model.program_analog_weights()
            pass_over(model)

        return step

    converted = {
        name: stock_convert_to_analog(digital, stock_config(cls, modifier=False)).eval()
        for name, cls in (STOCK if stock else {}).items()
    }
    plain: dict[str, Step] = {"plain torch": lambda: pass_over(digital), "chip": ours_chip}
    return plain | {name: stock_chip(model) for name, model in converted.items()}


def chip_seconds(model: nn.Module, data: Any, chips: int, **how: Any) -> list[float]:
    """Return what each chip takes: to program it, what is fitted to it, one pass, to clear it."""
    return [chip.seconds for chip in measured_chips(model, data, Score(), chips, **how)]


def race(variants: dict[str, Step], rounds: int) -> dict[str, list[float]]:
    """Let the variants take turns; seconds of each in each round."""
    for step in variants.values():
        step()
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, step in variants.items():
            start = time.perf_counter()
            own = step()
            seconds[name].append(time.perf_counter() - start if own is None else own)
    return seconds


def ratio(above: list[float], below: list[float]) -> float:
    """Median over the rounds of the ratio within a round."""
    return round(statistics.median(a / b for a, b in zip(above, below, strict=True)), 3)


def rows(case: str, seconds: dict[str, list[float]], ours: tuple[str, ...]) -> list[dict]:
    """The rows of one case: each of our variants against plain torch and the faster stock tile."""
    plain = seconds["plain torch"]
    stock = {name: ratio(seconds[name], plain) for name in seconds if name.startswith("stock")}
    lightning = ratio(seconds[RIVAL], plain) if RIVAL in seconds else None
    fastest = min(stock, key=stock.__getitem__, default=None)
    return [
        {
            "case": f"{case}, {name}",
            "ours_over_plain": ratio(seconds[name], plain),
            "ours_over_stock": fastest and ratio(seconds[name], seconds[fastest]),
            "stock": fastest,
            "stock_over_plain": stock,
            "lightning_over_plain": lightning,
            "milliseconds_plain": round(1e3 * statistics.median(plain), 1),
            "repeats": len(plain),
        }
        for name in ours
    ]


Case = tuple[str, dict[str, Step], int, tuple[str, ...]]
"""Name of a case, its variants, rounds, and those of the variants that are ours."""


def cases() -> Iterator[Case]:
    """Yield all cases."""
    for name, make, shape, batch, images, size, rounds in (
        ("LeNet-5", LeNet5, (1, 28, 28), 256, 2000, 500, 21),
        ("VGG16", VGG16, IMAGE, 64, 256, 64, 4),
    ):
        x, y = inputs(shape, batch)
        about, steps = f"{name}, batch {batch}", training_variants(make(shape, 10), x, y)
        yield f"training step, {about}", steps, rounds, OURS[:2]
        fits = fitting_variants(make(shape, 10), x, y)
        yield f"fitting step, {about}", fits, rounds, ("fresh chip",)
        chip = chip_variants(make(shape, 10), *inputs(shape, images), size)
        yield f"one chip, {name}, {images} images", chip, rounds, ("chip",)
    # Wide layers and few samples, where drawing and Gram matrices cost most; tokens.
    mlp = MLP((512,), 512, (512, 512, 512))
    tokens = torch.randint(256, (16, 128))
    model = nn.Sequential(LanguageModel((128,), 256), nn.Flatten(0, 1))
    wide: list[tuple[str, nn.Module, Tensor, Tensor]] = [
        *((f"MLP 4x512, batch {n}", mlp, *inputs((512,), n, 512)) for n in (128, 16)),
        ("ViT, 64 tokens, batch 32", ViT(IMAGE, 10), *inputs(IMAGE, 32)),
        ("language model, 128 tokens, batch 16", model, tokens, tokens.flatten()),
    ]
    for name, digital, x, y in wide:
        steps = training_variants(digital, x, y, cheap=True)
        yield f"training step, {name}", steps, 15, OURS
    # One chip over 2,000 inputs, where programming counts for little.
    for name, digital, shape, rounds in (
        ("MLP 4x512", mlp, (512,), 9), ("ViT", ViT(IMAGE, 10), IMAGE, 9),
        ("VGG16", VGG16(IMAGE, 10), IMAGE, 3),
    ):  # fmt: skip
        chip = chip_variants(digital, *inputs(shape, 2000), 250, stock=name != "VGG16")
        yield f"one chip, {name}, 2000 inputs", chip, rounds, ("chip",)
    # The convolution on which aihwkit's unfolding costs most: VGG16's second, 64 -> 64 at 32x32.
    second = [nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    chip = chip_variants(nn.Sequential(*second), *inputs((64, 32, 32), 256, 64), 64)
    yield "one chip, VGG16's second convolution, 256 images", chip, 9, ("chip",)


def inputs(shape: tuple[int, ...], count: int, classes: int = 10) -> tuple[Tensor, Tensor]:
    """Return random inputs and classes."""
    return torch.randn(count, *shape), torch.randint(classes, (count,))


def run() -> None:
    """Run all cases and write the rows."""
    warnings.filterwarnings("ignore", category=UserWarning)
    torch.manual_seed(0)
    found: list[dict[str, Any]] = []
    for case, variants, rounds, ours in cases():
        found += rows(case, race(variants, rounds), ours)
        print(json.dumps(found[-1]), flush=True)
    lightning = LIGHTNING and importlib.import_module("aihwkit_lightning.version").__version__
    about = {
        "threads": 1,
        "machine": platform.machine(),
        "torch": torch.__version__,
        "aihwkit": aihwkit.__version__,
        "aihwkit-lightning": lightning,
    }
    write_result("speed", "python -m benchmarks.speed", found, **about)


if __name__ == "__main__":
    command_line(__doc__, run)
