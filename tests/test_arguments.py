"""Values that cannot be, for arguments of public functions: a `CnetError`, or they are taken."""

import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cnet_aihw import compensation, evaluation, rram, search, tasks, training, zoo
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.search import searchers
from cnet_aihw.zoo.mlp import MLP

VALUES = [
    None, True, "no", "", "a\0b", math.nan, math.inf, -math.inf, -1, 0, 2.5, 10**30, 1e300,
    [], ["a"], {"a": 1}, object(), int, torch.zeros(2), np.zeros(2),
]  # fmt: skip
X, Y = torch.rand(24, 1, 8, 8), torch.arange(24) % 3
Make = Callable[[], dict[str, Any]]


def network() -> nn.Module:
    return rram.convert_to_analog(MLP((1, 8, 8), 3, hidden=(4,)), rram.RRAMRPUConfig())


def data() -> Any:
    return zoo.from_tensors("mine", (X, Y), (X, Y), val_size=6)


def costs() -> Any:
    return compensation.network_cost(network(), X[:1])


def npz() -> dict[str, Any]:
    np.savez("a.npz", x_train=X.numpy(), y_train=Y.numpy(), x_test=X.numpy(), y_test=Y.numpy())
    return {"path": "a.npz", "val_size": 6}


def csv() -> dict[str, Any]:
    Path("d.csv").write_text("target,measured\n0,1\n10,11\n")
    return {"path": "d.csv"}


def weights() -> dict[str, Any]:
    torch.save(MLP((1, 8, 8), 3).state_dict(), "a.pt")
    return {"model": MLP((1, 8, 8), 3), "path": "a.pt"}


def settings(kind: type, validate: Callable[..., None]) -> Callable[..., None]:
    """A function of the fields of settings that checks them."""

    def check(**fields: Any) -> None:
        validate(kind(**fields))

    check.__signature__ = inspect.signature(kind)  # type: ignore[attr-defined]
    return check


ONE_EPOCH = training.TrainingSettings(epochs=1, batch_size=8, validation_chips=1)
CASES: dict[str, tuple[Callable[..., Any], Make]] = {
    **{
        name: (getattr(zoo, name), lambda: {})
        for name in ("LeNet5", "MLP", "ResNet20", "digits", "mnist", "cifar10")
    },
    "VGG16": (zoo.VGG16, lambda: {"width": 0.1}),
    "CropFlip": (zoo.CropFlip, lambda: {"fill": [0.0]}),
    "from_tensors": (
        zoo.from_tensors,
        lambda: {"name": "a", "train": (X, Y), "test": (X, Y), "val_size": 6},
    ),
    "arrays": (zoo.arrays, npz),
    "image_folder": (zoo.image_folder, lambda: {"root": ".", "size": 8}),
    "load_pretrained": (zoo.load_pretrained, weights),
    **{
        name: (getattr(rram, name), lambda: {})
        for name in (
            *("LogNormalNoiseModel", "GaussianAdditiveNoiseModel", "LevelsNoiseModel"),
            *("GaussianProportionalNoiseModel", "StuckAtNoiseModel", "PowerLawDriftNoiseModel"),
            *("ReadNoiseModel", "CMONoiseModel", "PCMNoiseModel", "Wan2022NoiseModel"),
            *("periphery", "conductance_converter", "CrossbarMapping", "VariationParameter"),
        )
    },
    "MeasuredNoiseModel": (rram.MeasuredNoiseModel, csv),
    "CompositeNoiseModel": (
        rram.CompositeNoiseModel,
        lambda: {"models": [rram.LogNormalNoiseModel()]},
    ),
    "convert_to_analog": (rram.convert_to_analog, lambda: {"model": MLP((1, 8, 8), 3)}),
    "program": (rram.program, lambda: {"model": network(), "seed": 0}),
    "evaluate_chips": (
        evaluation.evaluate_chips,
        lambda: {"model": network(), "data": (X, Y), "chips": 1, "device": "cpu"},
    ),
    "scan_layers": (
        evaluation.scan_layers,
        lambda: {"model": network(), "data": (X, Y), "chips": 1, "device": "cpu"},
    ),
    "inspect_device": (
        evaluation.inspect_device,
        lambda: {"rpu_config": rram.RRAMRPUConfig(), "chips": 1},
    ),
    "train": (
        training.train,
        lambda: {"model": network(), "data": data(), "settings": ONE_EPOCH, "folder": "run"},
    ),
    "TrainingSettings": (
        settings(training.TrainingSettings, training.validate_training_settings),
        lambda: {},
    ),
    "EvaluationSettings": (
        settings(evaluation.EvaluationSettings, evaluation.validate_evaluation_settings),
        lambda: {},
    ),
    "FitSettings": (
        settings(compensation.FitSettings, compensation.validate_fit_settings),
        lambda: {},
    ),
    "PerChipSettings": (
        settings(compensation.PerChipSettings, compensation.validate_per_chip_settings),
        lambda: {},
    ),
    "ObjectiveSettings": (
        settings(search.ObjectiveSettings, search.validate_objective_settings),
        lambda: {},
    ),
    "SpaceSettings": (settings(search.SpaceSettings, search.validate_space_settings), lambda: {}),
    "RaySettings": (settings(search.RaySettings, search.validate_ray_settings), lambda: {}),
    "Classification": (tasks.Classification, lambda: {}),
    "Regression": (tasks.Regression, lambda: {}),
    **{
        name: (getattr(compensation, name), lambda: {})
        for name in ("GeneratorCompensator", "LowRank", "Vera")
    },
    "compensate": (
        compensation.compensate,
        lambda: {"model": network(), "placement": compensation.Placement({"layers.fc1": 1.0})},
    ),
    "uniform_placement": (
        compensation.uniform_placement,
        lambda: {"network": costs(), "layers": ["layers.fc1"], "limit": 1.0, "limit_macs": 1.0},
    ),
    "placement_problem": (
        search.placement_problem,
        lambda: {"network": costs(), "layers": ["layers.fc1"], "limit": None, "limit_macs": None},
    ),
    "SurrogateSearcher": (searchers.SurrogateSearcher, lambda: {}),
}
SLOW = ("train", "mnist", "cifar10", "digits", "evaluate_chips", "scan_layers", "VGG16")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def check(name: str, values: list[Any]) -> None:
    """Give each argument each value, all others being right."""
    function, make = CASES[name]
    given = make()
    function(**given) if name not in (*SLOW, "image_folder") else None
    failed = {}
    for argument in inspect.signature(function).parameters:
        for value in values:
            try:
                function(**{**make(), argument: value})
            except CnetError as error:
                assert "\n" not in str(error).strip()[:200]
            except Exception as error:
                failed[f"{argument}={value!r:.40}"] = f"{type(error).__name__}: {error}"[:120]
    assert not failed, "\n".join(f"{case}: {error}" for case, error in failed.items())


@pytest.mark.parametrize("name", [name for name in CASES if name not in SLOW])
def test_arguments_that_cannot_be_are_one_sentence(name: str) -> None:
    check(name, VALUES[len(name) % 5 :: 5])
