"""A small trained problem, and the evaluators on it."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from cnet_aihw.compensation import (
    Corrector,
    FitSettings,
    GeneratorCompensator,
    Placement,
    network_cost,
)
from cnet_aihw.evaluation import evaluate_chips
from cnet_aihw.rram import (
    LogNormalNoiseModel,
    RRAMRPUConfig,
    convert_to_analog,
)
from cnet_aihw.search import (
    FitEvaluator,
    ObjectiveSettings,
    PlacementProblem,
    SpaceSettings,
    SupernetEvaluator,
    placement_problem,
)

RESIDUAL = GeneratorCompensator(form="residual", activation="relu")
FULL = GeneratorCompensator(activation="tanh")
CORRECTORS = {"residual": RESIDUAL, "full": FULL}
FIT = FitSettings(batch_size=20, lr=2e-2)
PLACEMENTS = [
    Placement({"0": 0.5}),
    Placement({"0": 1.0, "4": 0.34}),
    Placement({"0": "digital", "2": 0.5}),
    Placement({"4": "digital"}),
    Placement({}),
]


def samples(count: int, seed: int) -> SimpleNamespace:
    """Four classes of noisy 8x8 patterns."""
    generator = torch.Generator().manual_seed(seed)
    patterns = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(99))
    y = torch.randint(4, (count,), generator=generator)
    noise = torch.randn(count, 1, 8, 8, generator=generator)
    return SimpleNamespace(x=patterns[y] + 1.5 * noise, y=y)


def dataset(**changes: Any) -> SimpleNamespace:
    parts = {"train": samples(400, 1), "val": samples(240, 2), "augment": None, "fingerprint": "p"}
    return SimpleNamespace(**(parts | changes))


DATA = dataset()


def network(**config: Any) -> nn.Module:
    """Two convolutions and a linear layer; the second convolution halves the size."""
    torch.manual_seed(0)
    digital = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, stride=2), nn.Flatten(),
        nn.Linear(54, 4),
    )  # fmt: skip
    return convert_to_analog(digital, RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.6), **config))


def problem_of(
    model: nn.Module,
    corrector: Corrector = RESIDUAL,
    limit: float = 1.0,
    ratios: tuple[float, ...] = (0.0, 0.34, 0.5, 1.0),
    layers: tuple[str, ...] = ("0", "2", "4"),
    **objective: Any,
) -> PlacementProblem:
    space = SpaceSettings(list(ratios), digital=True)
    cost = network_cost(model, DATA.val.x[:1])
    return placement_problem(
        *(cost, layers, corrector, limit, space, ObjectiveSettings(**objective)), limit_macs=None
    )


COMMON = {"chips": 3, "samples": 120, "device": "cpu"}


def fit_evaluator(model: nn.Module, data: Any = DATA, **changes: Any) -> FitEvaluator:
    arguments = {"corrector": RESIDUAL, "fit": FIT, "steps": 6, **COMMON}
    return FitEvaluator(model, data, **(arguments | changes))


def supernet_evaluator(
    model: nn.Module, data: Any = DATA, problem: PlacementProblem | None = None, **changes: Any
) -> SupernetEvaluator:
    arguments = {"corrector": RESIDUAL, "fit": FIT, "steps": 12, **COMMON} | changes
    problem = problem or problem_of(model, arguments["corrector"])
    return SupernetEvaluator(model, data, problem, **arguments)


EVALUATORS: dict[str, Callable[..., Any]] = {
    "per placement": fit_evaluator,
    "supernet": supernet_evaluator,
}


def on_chips(model: nn.Module, **changes: Any) -> tuple[float, ...]:
    data = (DATA.val.x[:120], DATA.val.y[:120])
    return evaluate_chips(model, data, chips=3, device="cpu", **changes).scores
