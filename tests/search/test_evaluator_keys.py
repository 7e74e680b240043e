"""The keys of evaluations: they change with all that determines values, and nothing else."""

import copy
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from aihwkit.inference.converter.conductance import SinglePairConductanceConverter
from aihwkit.inference.noise.base import BaseNoiseModel
from torch import nn

from cnet_aihw.evaluation import AffineCorrection
from cnet_aihw.rram import (
    LogNormalNoiseModel,
    analog_layers,
    load_snapshot,
    nominal_weight,
    periphery,
    set_noise_model,
    snapshot,
)
from cnet_aihw.search import (
    CompensationSupernet,
)
from cnet_aihw.tasks import Classification
from cnet_aihw.training import VariationSettings

from .evaluator_cases import (
    DATA,
    FIT,
    FULL,
    RESIDUAL,
    dataset,
    fit_evaluator,
    network,
    problem_of,
    samples,
    supernet_evaluator,
)


class Stock(BaseNoiseModel):
    """A user's model as aihwkit has them: its text is that of aihwkit's converter, or none."""

    def __init__(self, g_max: float = 25.0, table: torch.Tensor | None = None) -> None:
        super().__init__(SinglePairConductanceConverter(g_max=g_max))
        self.table = table

    def __str__(self) -> str:
        return f"Stock({self.g_converter}, {self.table})"


def one_is(index: int, value: float) -> torch.Tensor:
    table = torch.ones(1100)
    table[index] = value
    return table


def other_weights(model: nn.Module) -> nn.Module:
    other = copy.deepcopy(model)
    with torch.no_grad():
        nominal_weight(analog_layers(other)["0"]).add_(0.01)
    return other


def with_noise(model: nn.Module, sigma: float) -> nn.Module:
    other = copy.deepcopy(model)
    set_noise_model(other, LogNormalNoiseModel(sigma))
    return other


def with_config(model: nn.Module, **config: Any) -> nn.Module:
    other = network(**config)
    load_snapshot(other, snapshot(model))
    return other


EVERY_KEY: dict[str, Callable[[nn.Module], dict[str, Any]]] = {
    "weights": lambda model: {"model": other_weights(model)},
    "the network's noise model": lambda model: {"model": with_noise(model, 0.1)},
    "corrector": lambda model: {"corrector": FULL},
    "task": lambda model: {"task": Classification(0.1)},
    "learning rate": lambda model: {"fit": replace(FIT, lr=1e-3)},
    "seed of the fit": lambda model: {"fit": replace(FIT, seed=1)},
    "batch size of the fit": lambda model: {"fit": replace(FIT, batch_size=10)},
    "noise model of the fit": lambda model: {
        "fit": replace(
            FIT,
            variation=VariationSettings(
                enabled=True, steps_per_chip=1, noise_model=LogNormalNoiseModel(0.1)
            ),
        )
    },
    "steps": lambda model: {"steps": 7},
    "training samples": lambda model: {"data": dataset(train=samples(400, 3))},
    "validation samples": lambda model: {"data": dataset(val=samples(240, 3))},
    "augmentation": lambda model: {"data": dataset(augment=lambda x, g: x.flip(-1))},
    "another augmentation": lambda model: {"data": dataset(augment=lambda x, g: x.flip(-2))},
    "chips": lambda model: {"chips": 4},
    "seed of the chips": lambda model: {"seed": 1},
    "number of samples": lambda model: {"samples": 119},
    "noise model of the chips": lambda model: {"noise_model": LogNormalNoiseModel(0.1)},
    "stock model of the chips": lambda model: {"noise_model": Stock(g_max=0.006)},
    "its conductances, which its text rounds": lambda model: {"noise_model": Stock(g_max=0.014)},
    "a table": lambda model: {"noise_model": Stock(table=torch.ones(1100))},
    "a table that prints the same": lambda model: {"noise_model": Stock(table=one_is(500, 2.0))},
    "time": lambda model: {"t_inference": 3600.0},
    "calibration": lambda model: {"calibration": AffineCorrection(DATA.train.x[:50])},
    "threads": lambda model: {"threads": 2},
}
SUPERNET_KEY: dict[str, Callable[[nn.Module], dict[str, Any]]] = {
    "limit": lambda model: {"problem": problem_of(model, limit=0.5)},
    "ratios": lambda model: {"problem": problem_of(model, ratios=(0.0, 1.0))},
    "layers": lambda model: {"problem": problem_of(model, layers=("0", "2"))},
    "limit in MACs": lambda model: {"problem": replace(problem_of(model), limit_macs=0.5)},
    "what is drawn": lambda model: {"within_limit": False},
    "ratios, where all is drawn": lambda model: {
        "problem": problem_of(model, ratios=(0.0, 1.0)), "within_limit": False,
    },
}  # fmt: skip
NO_KEY: dict[str, Callable[[nn.Module], dict[str, Any]]] = {
    "the same again": lambda model: {},
    "the same weights in another network": lambda model: {"model": with_config(model)},
    "name of the fit": lambda model: {"fit": replace(FIT, name="other")},
    "what a fit is not asked for": lambda model: {
        "fit": replace(FIT, epochs=9, select="clean", validation_chips=2, checkpoint_seconds=1.0)
    },
    "batch size, with perfect periphery": lambda model: {"batch_size": 50},
    "samples that are not looked at": lambda model: {
        "data": dataset(
            val=SimpleNamespace(
                x=torch.cat([DATA.val.x[:120], samples(50, 7).x]),
                y=torch.cat([DATA.val.y[:120], samples(50, 7).y]),
            )
        )
    },
}
NO_SUPERNET_KEY: dict[str, Callable[[nn.Module], dict[str, Any]]] = {
    "objective": lambda model: {"problem": problem_of(model, kind="quantile")},
    "folder": lambda model: {"folder": "elsewhere"},
    "limit, where all is drawn": lambda model: {
        "problem": problem_of(model, limit=0.5),
        "within_limit": False,
    },
}


def _key(make: Callable[..., Any], model: nn.Module, changes: dict[str, Any]) -> str:
    evaluator = make(**({"model": model} | changes))
    assert evaluator.key() == evaluator.key() and len(evaluator.key()) == 64
    return evaluator.key()


@pytest.mark.parametrize("what", EVERY_KEY)
def test_the_key_changes_with_what_determines_values(make, trained, what):
    assert _key(make, trained, EVERY_KEY[what](trained)) != _key(make, trained, {})


def test_all_keys_differ(make, trained):
    keys = {_key(make, trained, changes(trained)) for changes in EVERY_KEY.values()}
    assert len(keys) == len(EVERY_KEY)


@pytest.mark.parametrize("what", NO_KEY)
def test_the_key_does_not_change_with_anything_else(make, trained, what):
    assert _key(make, trained, NO_KEY[what](trained)) == _key(make, trained, {})


@pytest.mark.parametrize("what", SUPERNET_KEY)
def test_the_supernet_key_changes_with_the_problem(trained, what):
    changes = SUPERNET_KEY[what](trained)
    other = {"within_limit": False} if {"problem", "within_limit"} <= set(changes) else {}
    key = _key(supernet_evaluator, trained, changes)
    assert key != _key(supernet_evaluator, trained, other)


@pytest.mark.parametrize("what", NO_SUPERNET_KEY)
def test_the_supernet_key_does_not_change_with_what_does_not_matter(trained, what):
    changes = NO_SUPERNET_KEY[what](trained)
    other = {"within_limit": False} if "within_limit" in changes else {}
    assert _key(supernet_evaluator, trained, changes) == _key(supernet_evaluator, trained, other)


def test_the_key_of_a_fit_changes_with_its_start(trained):
    starts = [
        CompensationSupernet(
            trained, DATA, problem_of(trained), corrector=RESIDUAL, fit=FIT, steps=n
        )
        for n in (5, 6)
    ]
    assert len({fit_evaluator(trained, start=start).key() for start in (None, *starts)}) == 3


def test_the_batch_size_is_in_the_key_where_it_counts(make, trained):
    noisy = network(forward=periphery(out_noise=0.01))
    assert _key(make, noisy, {"batch_size": 50}) != _key(make, noisy, {})
