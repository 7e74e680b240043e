"""Values that cannot be, for arguments of public functions: a `CnetError`, or they are taken."""

import functools
import inspect
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from aihwkit.inference import PCMLikeNoiseModel
from torch import nn

from cnet_aihw import (
    bayes,
    cluster,
    compensation,
    evaluation,
    kernels,
    report,
    rram,
    search,
    tasks,
    training,
    tuning,
    zoo,
)
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.parts import as_part
from cnet_aihw.search import searchers
from cnet_aihw.zoo.mlp import MLP

VALUES = [
    None, True, "no", "", "a\0b", math.nan, math.inf, -math.inf, -1, 0, 2.5, 10**30, 1e300,
    [], ["a"], {"a": 1}, object(), int, torch.zeros(2), np.zeros(2),
]  # fmt: skip
PLACEMENT = compensation.Placement({"layers.fc1": "size 1"})
X, Y = torch.rand(24, 1, 8, 8), torch.arange(24) % 3
ROWS = torch.rand(24, 5, generator=torch.Generator().manual_seed(0))
OF_DEVICE = {"noise_model": rram.LogNormalNoiseModel()}
Make = Callable[[], dict[str, Any]]


def network() -> nn.Module:
    return rram.convert_to_analog(MLP((1, 8, 8), 3, hidden=(4,)), rram.RRAMRPUConfig())


def charged() -> nn.Module:
    config = rram.RRAMRPUConfig(readout=rram.Charge(test_steps=2))
    return rram.convert_to_analog(zoo.ClippedMLP((1, 8, 8), 3, (4,)), config)


def data() -> Any:
    return zoo.from_tensors("mine", (X, Y), (X, Y), val_size=6)


def costs() -> Any:
    return compensation.network_cost(network(), X[:1])


def with_adcs() -> nn.Module:
    config = rram.RRAMRPUConfig(forward=rram.periphery(adc_bits=6))
    return rram.convert_to_analog(MLP((1, 8, 8), 3, hidden=(4,)), config)


def drifting() -> nn.Module:
    device = rram.PowerLawDriftNoiseModel()
    return rram.convert_to_analog(MLP((1, 8, 8), 3), rram.RRAMRPUConfig(noise_model=device))


def calibration() -> Any:
    fit = compensation.PerChipFit(X)
    return compensation.WithCompensation(PLACEMENT, compensation.LowRank(), fit)


def on_a_chip(model: nn.Module) -> nn.Module:
    rram.program(model, 1)
    return model


def fitted() -> dict[str, Any]:
    fit = compensation.PerChipFit(X)
    with fit(on_a_chip(corrected())):
        return {"fit": fit}


def corrected() -> nn.Module:
    return compensation.compensate(network(), PLACEMENT, compensation.LowRank())


@functools.cache
def scan() -> Any:
    return evaluation.scan_layers(network(), (X, Y), chips=1, device="cpu")


def checkpoint() -> Any:
    return training.Checkpoint({"a": torch.zeros(2)}, {})


def loadable() -> dict[str, Any]:
    training.save_checkpoint("checkpoint", checkpoint())
    return {"path": "checkpoint"}


def on_own_chip(**more: Any) -> dict[str, Any]:
    """Arguments of what tunes a network, or measures it, on a simulated chip."""
    model = network()
    chip = tuning.SimulatedChip(model, 1)
    tuning.write_all(model, chip)
    return {"model": model, "chip": chip, **more}


def tuned() -> dict[str, Any]:
    settings = tuning.TuningSettings(epochs=1, samples=8, validation_samples=4)
    return {"model": network(), "data": data(), "settings": settings, "folder": "tuned"}


def on_cells() -> nn.Module:
    config = rram.RRAMRPUConfig(noise_model=rram.StochasticCellNoiseModel())
    model = rram.convert_to_analog(MLP((1, 8, 8), 3, hidden=(4,)), config)
    rram.make_binary(model)
    return model


def sampled() -> dict[str, Any]:
    return {"probabilities": torch.full((2, 3, 2), 0.5), "targets": torch.zeros(3).long()}


def perturbed() -> dict[str, Any]:
    parameter = nn.Parameter(torch.ones(2))
    loss = lambda: parameter.square().sum()  # noqa: E731
    ones = [torch.ones(2)]
    return {"loss_of": loss, "parameters": [parameter], "directions": ones, "size": 0.1}


def problem() -> Any:
    return search.placement_problem(costs(), ["layers.fc1"], limit=None, limit_macs=None)


class Pretended:
    """An evaluator without any chips."""

    def key(self) -> str:
        return "pretended"

    def describe(self) -> dict[str, Any]:
        return {"evaluator": "pretended"}

    def evaluate(self, placement: Any) -> tuple[float, ...]:
        return (0.5,)


def of_model(**more: Any) -> Make:
    """Arguments of a function of a network."""
    return lambda: {"model": network(), **more}


def saved(save: Callable[..., None], model: Callable[[], nn.Module]) -> dict[str, Any]:
    """Arguments of a function that loads what another one has saved."""
    made = model()
    rram.program(made, 1)
    if not Path("correctors").exists():
        save(made, "correctors")
    return {"model": compensation.remove_compensation(made), "path": "correctors"}


def npz() -> dict[str, Any]:
    np.savez("a.npz", x_train=X.numpy(), y_train=Y.numpy(), x_test=X.numpy(), y_test=Y.numpy())
    return {"path": "a.npz", "val_size": 6}


def csv() -> dict[str, Any]:
    Path("d.csv").write_text("target,measured\n0,1\n10,11\n")
    return {"path": "d.csv"}


def written(name: str, text: str) -> str:
    Path(name).write_text(text)
    return name


def weights() -> dict[str, Any]:
    torch.save(MLP((1, 8, 8), 3).state_dict(), "a.pt")
    return {"model": MLP((1, 8, 8), 3), "path": "a.pt"}


def whole(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that goes through all that another one yields."""

    @functools.wraps(function)
    def walk(**given: Any) -> None:
        list(function(**given))

    return walk


def settings(kind: type, validate: Callable[..., None]) -> Callable[..., None]:
    """A function of the fields of settings that checks them."""

    def check(**fields: Any) -> None:
        validate(kind(**fields))

    check.__signature__ = inspect.signature(kind)  # type: ignore[attr-defined]
    return check


ON_CPU = {"chips": 1, "device": "cpu"}
OF_MODEL: dict[str, tuple[Callable[..., Any], Make]] = {
    **{
        name: (getattr(rram, name), of_model())
        for name in (
            *("analog_layers", "clear_chip", "convert_to_digital", "count_weights", "snapshot"),
            *("digital_state_dict", "effective_weights", "freeze_analog", "get_variation"),
            *("trainable_parameters", "unfreeze_analog", "nominal_inside"),
        )
    },
    **{
        name: (getattr(compensation, name), lambda: {"model": corrected()})
        for name in (
            *("compensated_layers", "compensation_disabled", "compensation_parameters"),
            *("enable_compensation", "placement_of", "remove_compensation"),
        )
    },
    "programmed": (rram.programmed, of_model(seed=0)),
    "at_time": (rram.at_time, of_model(t_inference=1.0)),
    "chips": (rram.chips, of_model(count=1)),
    "chip_model": (rram.chip_model, of_model(seeds=0)),
    "find_module": (rram.find_module, of_model(name="layers.fc1")),
    "load_snapshot": (
        rram.load_snapshot,
        lambda: {"model": network(), "tensors": rram.snapshot(network())},
    ),
    "plan_conversion": (rram.plan_conversion, of_model(rpu_config=rram.RRAMRPUConfig())),
    "resample_variation": (rram.resample_variation, of_model(seed=0)),
    "set_noise_model": (rram.set_noise_model, of_model(noise_model=rram.LogNormalNoiseModel())),
    "set_variation": (
        lambda model, enabled, hold, strength, gradient, t_inference: rram.set_variation(
            model,
            enabled=enabled,
            hold=hold,
            strength=strength,
            gradient=gradient,
            t_inference=t_inference,
        ),
        of_model(enabled=True, hold=False, strength=1.0, gradient="auto", t_inference=None),
    ),
    "adc_use": (evaluation.adc_use, lambda: {"model": with_adcs(), "example": X[:1]}),
    "adc_summary": (evaluation.adc_summary, of_model(example=X[:1])),
    "calibrate_adc": (
        evaluation.calibrate_adc,
        lambda: {"model": with_adcs(), "inputs": X, "device": "cpu"},
    ),
    "ceiling": (evaluation.ceiling, of_model(data=(X, Y), layers=["layers.fc1"], **ON_CPU)),
    "move_to_crossbars": (evaluation.move_to_crossbars, of_model(config=rram.RRAMRPUConfig())),
    "error_growth": (evaluation.error_growth, of_model(inputs=X, **ON_CPU)),
    "measure": (evaluation.measure, of_model(data=(X, Y))),
    "score": (evaluation.score, of_model(data=(X, Y))),
    "measured_chips": (
        whole(evaluation.measured_chips),
        of_model(data=(X, Y), measurement=evaluation.Score(), chips=1),
    ),
    "network_record": (
        evaluation.network_record,
        of_model(
            test=(X, Y),
            validation=(X, Y),
            settings=evaluation.EvaluationSettings(chips=1),
            task=tasks.Classification(),
            calibration=None,
            records=Path("records.jsonl"),
            device="cpu",
        ),
    ),
    "LipschitzPenalty": (training.LipschitzPenalty, of_model(lambda_=1.0)),
    "Distillation": (
        training.Distillation,
        lambda: {
            "teacher": network(),
            "share": 0.5,
            "temperature": 2.0,
            "task": None,
            "label_smoothing": 0.0,
        },
    ),
    "spectral_norms": (training.spectral_norms, of_model()),
    "following_batchnorms": (training.following_batchnorms, of_model(example_input=X[:1])),
    "network_cost": (compensation.network_cost, of_model(example=X[:1])),
    "check_placement": (compensation.check_placement, of_model(placement=PLACEMENT)),
    "overheads": (
        compensation.overheads,
        of_model(example=X[:1], calibration=None, compensation=None),
    ),
    "save_compensation": (
        compensation.save_compensation,
        lambda: {"model": corrected(), "path": "correctors"},
    ),
    "save_chip_correctors": (
        compensation.save_chip_correctors,
        lambda: {"model": on_a_chip(corrected()), "path": "correctors"},
    ),
    "load_chip_correctors": (
        compensation.load_chip_correctors,
        lambda: saved(compensation.save_chip_correctors, corrected),
    ),
    "fit_compensation": (
        compensation.fit_compensation,
        lambda: {
            "model": corrected(),
            "data": data(),
            "settings": compensation.FitSettings(epochs=0, start_chips=1),
            "folder": "fit",
            "device": "cpu",
            "progress": False,
        },
    ),
    "fit_shared_closed_form": (
        compensation.fit_shared_closed_form,
        lambda: {"model": corrected(), "x": X, "seeds": [1]},
    ),
    "load_compensation": (
        compensation.load_compensation,
        lambda: saved(compensation.save_compensation, corrected),
    ),
    "accuracy_over_time": (
        whole(compensation.accuracy_over_time),
        lambda: {
            "model": drifting(),
            "data": (X, Y),
            "times": [1.0],
            "calibration": calibration(),
            "chips": 1,
        },
    ),
    "save_one_chip": (
        compensation.save_one_chip,
        lambda: {
            "model": network(),
            "data": (X, Y),
            "chip": 0,
            "path": Path("chip.safetensors"),
            "settings": evaluation.EvaluationSettings(),
            "task": tasks.Classification(),
            "calibration": calibration(),
            "device": "cpu",
        },
    ),
    "PerChipEvaluator": (search.PerChipEvaluator, of_model(val=(X, Y), inputs=X, **ON_CPU)),
    "FitEvaluator": (
        search.FitEvaluator,
        lambda: {"model": network(), "data": data(), **ON_CPU},
    ),
    "SupernetEvaluator": (
        search.SupernetEvaluator,
        lambda: {"model": network(), "data": data(), "problem": problem(), **ON_CPU},
    ),
}
OTHERS: dict[str, tuple[Callable[..., Any], Make]] = {
    "predict": (bayes.predict, lambda: {"model": on_cells(), "x": X, "source": "cells"}),
    "evaluate_uncertainty": (
        bayes.evaluate_uncertainty,
        lambda: {
            **{"model": on_cells(), "data": (X, Y), "source": "cells", "samples": 1, "chips": 1},
            **{"device": "cpu", "ood": None},
        },
    ),
    "uncertainty_scores": (bayes.uncertainty_scores, sampled),
    "reliability": (bayes.reliability, sampled),
    "fit_logits": (
        bayes.fit_logits,
        lambda: {"logits": torch.randn(2, 3, 2), "targets": torch.zeros(3).long()},
    ),
    "LogitCorrection": (bayes.LogitCorrection, lambda: {"x": X, "y": Y, "samples": 1}),
    "deterministic": (bayes.deterministic, lambda: {"model": network(), "x": X}),
    "mc_dropout": (
        bayes.mc_dropout,
        lambda: {"model": nn.Sequential(nn.Flatten(), nn.Dropout()), "x": X, "samples": 1},
    ),
    "deep_ensemble": (bayes.deep_ensemble, lambda: {"models": [network()], "x": X}),
    "LastLayerLaplace": (
        bayes.LastLayerLaplace,
        lambda: {"model": network(), "train": (X, Y), "validation": (X, Y)},
    ),
    "StochasticCellNoiseModel": (rram.StochasticCellNoiseModel, lambda: {"sigma_read": 0.2}),
    "make_binary": (rram.make_binary, lambda: {"model": on_cells(), "gain": 1.0, "largest": 0.5}),
    **{
        name: (getattr(rram, name), lambda: {"model": on_cells()})
        for name in ("binary_weights", "has_cells")
    },
    "RandomFeatures": (kernels.RandomFeatures, lambda: {"inputs": 3, "s": 4}),
    "kernel_classifier": (kernels.kernel_classifier, lambda: {"x": X, "classes": 3}),
    "exact_kernel": (kernels.exact_kernel, lambda: {"kernel": "rbf", "x": ROWS, "y": ROWS}),
    "kernel_error": (
        kernels.kernel_error,
        lambda: {"exact": torch.eye(24), "features": ROWS},
    ),
    "scale_bandwidth": (kernels.scale_bandwidth, lambda: {"kernel": "rbf", "x": ROWS}),
    "matched_scale": (kernels.matched_scale, lambda: {**OF_DEVICE, "weights": ROWS}),
    "expected_kernel": (
        kernels.expected_kernel,
        lambda: {"kernel": "rbf", "x": ROWS, "y": ROWS, **OF_DEVICE},
    ),
    "predicted_error": (
        kernels.predicted_error,
        lambda: {"kernel": "rbf", "x": ROWS, "s": 4, **OF_DEVICE},
    ),
    "fit_ridge": (kernels.fit_ridge, lambda: {"z": ROWS, "y": Y, "classes": 3}),
    "ReadoutFit": (kernels.ReadoutFit, lambda: {"x": X, "y": Y}),
    "KernelScore": (kernels.KernelScore, lambda: {"x": X, "kernel": "rbf"}),
    "kernel_ridge_accuracy": (
        kernels.kernel_ridge_accuracy,
        lambda: {
            "kernel": "rbf",
            "gamma": 1.0,
            "train": (ROWS, Y),
            "test": (ROWS, Y),
            "classes": 3,
        },
    ),
    "measure_kernels": (
        kernels.measure_kernels,
        lambda: {
            "train": (X, Y),
            "test": (X, Y),
            "classes": 3,
            "settings": kernels.KernelSettings(log2_ratio=[-3.0], seeds=1, baselines=False),
            "rpu_config": rram.RRAMRPUConfig(),
            "folder": "kernel",
            **ON_CPU,
        },
    ),
    "AnalogFeatures": (
        lambda **given: kernels.AnalogFeatures(**given).fit(ROWS.numpy()),
        lambda: {"log2_ratio": 1.0},
    ),
    "random_projection": (
        zoo.random_projection,
        lambda: {"features": "rff", "inputs": 2, "outputs": 3, "seed": 0},
    ),
    "PerformerAttention": (zoo.PerformerAttention, lambda: {"width": 8, "heads": 2}),
    "KernelSettings": (
        settings(kernels.KernelSettings, kernels.validate_kernel_settings),
        lambda: {},
    ),
    "SimulatedChip": (tuning.SimulatedChip, lambda: {"model": network(), "seed": 1}),
    "CellWrites": (tuning.CellWrites, lambda: {"limit": 1}),
    "score_on_chip": (tuning.score_on_chip, lambda: on_own_chip(data=(X, Y))),
    "write_all": (tuning.write_all, on_own_chip),
    "tune_on_chip": (
        tuning.tune_on_chip,
        lambda: {**tuned(), "chip": tuning.SimulatedChip(network(), 1)},
    ),
    "tune_chips": (tuning.tune_chips, lambda: {**tuned(), "chips": 1, "device": "cpu"}),
    "perturbation_gradient": (tuning.perturbation_gradient, perturbed),
    **{
        name: (getattr(rram, name), lambda: {"noise_model": rram.LogNormalNoiseModel()})
        for name in ("acts_with_time", "has_read_noise", "label_of")
    },
    "nominal_weight": (rram.nominal_weight, lambda: {"layer": network().layers.fc1}),
    "filter_errors": (compensation.filter_errors, fitted),
    "choose_target": (
        compensation.choose_target,
        lambda: {
            **{"model": network(), "data": (X, Y), **ON_CPU},
            "correctors": compensation.WithCompensation(
                PLACEMENT, compensation.LowRank(), compensation.PerChipFit(X)
            ),
        },
    ),
    "over_limit": (
        compensation.over_limit,
        lambda: {
            "cost": compensation.compensation_cost(costs(), PLACEMENT, compensation.LowRank()),
            "limit": 0.05,
            "limit_macs": None,
        },
    ),
    "match_names": (
        rram.match_names,
        lambda: {"names": ["a"], "patterns": ["a"], "what": "exclude"},
    ),
    "check_times": (
        rram.check_times,
        lambda: {"noise_model": rram.LogNormalNoiseModel(), "times": [1.0]},
    ),
    **{
        name: (getattr(rram, name), lambda: {"noise_model": rram.LogNormalNoiseModel()})
        for name in ("noise_model_id", "unprinted_attributes")
    },
    "AihwkitNoiseModel": (rram.AihwkitNoiseModel, lambda: {"noise_model": PCMLikeNoiseModel()}),
    "find_traps": (rram.find_traps, lambda: {"rpu_config": rram.RRAMRPUConfig()}),
    "RRAMRPUConfig": (
        lambda noise_model, mapping, variation: rram.RRAMRPUConfig(
            noise_model=noise_model, mapping=mapping, variation=variation
        ),
        lambda: {
            "noise_model": rram.LogNormalNoiseModel(),
            "mapping": None,
            "variation": rram.VariationParameter(),
        },
    ),
    "ReferenceColumnConverter": (
        rram.ReferenceColumnConverter,
        lambda: {"g_max": 25.0, "g_min": 0.0},
    ),
    "RRAMLinear": (rram.RRAMLinear, lambda: {"in_features": 4, "out_features": 3}),
    **{
        name: (
            getattr(rram, name),
            lambda: {"in_channels": 2, "out_channels": 2, "kernel_size": 1},
        )
        for name in ("RRAMConv1d", "RRAMConv2d", "RRAMConvTranspose2d")
    },
    "conversion_steps": (evaluation.conversion_steps, lambda: {"conversions": 1, "bits": 2}),
    "perfect_periphery": (
        evaluation.perfect_periphery,
        lambda: {"config": rram.RRAMRPUConfig()},
    ),
    "candidate_layers": (evaluation.candidate_layers, lambda: {"scan": scan()}),
    "chip_statistics": (evaluation.chip_statistics, lambda: {"scores": [0.5]}),
    "AffineCorrection": (evaluation.AffineCorrection, lambda: {"x": X}),
    "BatchNormReestimation": (evaluation.BatchNormReestimation, lambda: {"x": X}),
    "make_calibration": (
        evaluation.make_calibration,
        lambda: {"name": "affine", "part": as_part((X, Y))},
    ),
    "Score": (evaluation.Score, lambda: {}),
    "save_checkpoint": (
        training.save_checkpoint,
        lambda: {"path": "checkpoint", "checkpoint": checkpoint()},
    ),
    "load_checkpoint": (training.load_checkpoint, loadable),
    "lipschitz_lambda": (
        training.lipschitz_lambda,
        lambda: {"noise_model": rram.LogNormalNoiseModel()},
    ),
    "make_optimizer": (
        training.make_optimizer,
        lambda: {"settings": ONE_EPOCH, "parameters": network().parameters()},
    ),
    "learning_rate": (
        training.learning_rate,
        lambda: {"settings": ONE_EPOCH, "step": 0, "steps_per_epoch": 3},
    ),
    "TrainingParts": (training.TrainingParts, lambda: {"train": (X, Y), "val": (X, Y)}),
    "corrector_from": (
        compensation.corrector_from,
        lambda: {"described": compensation.LowRank().describe()},
    ),
    "layer_shape": (compensation.layer_shape, lambda: {"layer": network().layers.fc1}),
    "with_size": (compensation.with_size, lambda: {"filters": 2}),
    "size_given": (compensation.size_given, lambda: {"value": "size 2"}),
    "has_closed_form": (
        compensation.has_closed_form,
        lambda: {"corrector": compensation.LowRank()},
    ),
    "compensation_cost": (
        compensation.compensation_cost,
        lambda: {"network": costs(), "placement": PLACEMENT, "corrector": compensation.LowRank()},
    ),
    "off_crossbar_cost": (compensation.off_crossbar_cost, lambda: {"network": costs()}),
    "calibration_overhead": (
        compensation.calibration_overhead,
        lambda: {"network": costs(), "added_weights": 3},
    ),
    "total_overhead": (compensation.total_overhead, lambda: {"parts": [0.1, None]}),
    "digital_placement": (
        compensation.digital_placement,
        lambda: {"network": costs(), "layers": ["layers.fc1"], "limit": 1.0, "limit_macs": None},
    ),
    "Placement": (compensation.Placement, lambda: {"layers": {"layers.fc1": 0.5}}),
    "PerChipFit": (compensation.PerChipFit, lambda: {"x": X}),
    "WithCompensation": (
        compensation.WithCompensation,
        lambda: {
            "placement": PLACEMENT,
            "corrector": compensation.LowRank(),
            "fit": compensation.PerChipFit(X),
        },
    ),
    "PlacementEnv": (search.PlacementEnv, lambda: {"config": {"problem": problem()}}),
    "EvaluationStore": (search.EvaluationStore, lambda: {"folder": "store", "key": "a"}),
    "run_search": (
        search.run_search,
        lambda: {
            "problem": problem(),
            "evaluator": Pretended(),
            "searcher": searchers.RandomSearcher(),
            "folder": "search",
            "budget": 2,
        },
    ),
    "describe_task": (tasks.describe_task, lambda: {"task": tasks.Classification()}),
    "is_better": (
        tasks.is_better,
        lambda: {"task": tasks.Classification(), "score": 0.5, "other": 0.4},
    ),
    "reaches": (
        tasks.reaches,
        lambda: {"task": tasks.Classification(), "score": 0.5, "threshold": 0.4},
    ),
    "check_score": (
        tasks.check_score,
        lambda: {"task": tasks.Classification(), "key": "a", "value": 0.5},
    ),
    "smoothed": (tasks.smoothed, lambda: {"task": None, "label_smoothing": 0.1}),
    "Dataset": (
        zoo.Dataset,
        lambda: {name: getattr(data(), name) for name in inspect.signature(zoo.Dataset).parameters},
    ),
    "ImagePart": (zoo.ImagePart, lambda: {"x": X, "y": Y}),
    "batches": (zoo.batches, lambda: {"part": data().train, "batch_size": 4}),
    "save_figure": (
        report.save_figure,
        lambda: {"figure": report.new_figure(2.0)[0], "folder": Path(), "name": "a"},
    ),
    "new_figure": (report.new_figure, lambda: {"height": 2.0}),
    "write_report": (report.write_report, lambda: {"folder": "run"}),
}
ONE_EPOCH = training.TrainingSettings(epochs=1, batch_size=8, validation_chips=1)
CASES: dict[str, tuple[Callable[..., Any], Make]] = {
    **{name: (getattr(zoo, name), lambda: {}) for name in ("LeNet5", "MLP", "ResNet20", "digits")},
    **{
        name: (getattr(zoo, name), lambda: {"root": "nowhere"})
        for name in ("mnist", "fashion_mnist", "cifar10", "cifar100")
    },
    "VGG16": (zoo.VGG16, lambda: {"width": 0.1}),
    "CropFlip": (zoo.CropFlip, lambda: {"fill": [0.0]}),
    "from_tensors": (
        zoo.from_tensors,
        lambda: {"name": "a", "train": (X, Y), "test": (X, Y), "val_size": 6},
    ),
    "from_samples": (
        zoo.from_samples,
        lambda: {"name": "a", "train": (ROWS, Y), "test": (ROWS, Y), "val_size": 6},
    ),
    "arrays": (zoo.arrays, npz),
    "text": (zoo.text, lambda: {"path": written("book.txt", "to be or not " * 20), "context": 4}),
    "table": (zoo.table, lambda: {"path": written("rows.csv", "1,2,a\n3,4,b\n" * 20)}),
    "digit_scenes": (zoo.digit_scenes, lambda: {"train": 2, "val": 1, "test": 1}),
    "ViT": (zoo.ViT, lambda: {"width": 8, "depth": 1, "heads": 2}),
    "LanguageModel": (zoo.LanguageModel, lambda: {"width": 8, "depth": 1, "heads": 2}),
    "Recurrent": (zoo.Recurrent, lambda: {"width": 8}),
    "UNet": (zoo.UNet, lambda: {"width": 2}),
    "timm_model": (zoo.timm_model, lambda: {"name": "resnet10t"}),
    "torchvision_model": (zoo.torchvision_model, lambda: {"name": "squeezenet1_1"}),
    "huggingface_model": (zoo.huggingface_model, lambda: {"path": "nowhere"}),
    "LanguageModelling": (tasks.LanguageModelling, lambda: {}),
    "Segmentation": (tasks.Segmentation, lambda: {}),
    "MultiLabel": (tasks.MultiLabel, lambda: {}),
    "load_digital_state_dict": (
        rram.load_digital_state_dict,
        lambda: {"model": network(), "state": rram.digital_state_dict(network())},
    ),
    "image_folder": (zoo.image_folder, lambda: {"root": ".", "size": 8}),
    "load_pretrained": (zoo.load_pretrained, weights),
    **{
        name: (getattr(rram, name), lambda: {})
        for name in (
            *("LogNormalNoiseModel", "GaussianAdditiveNoiseModel", "LevelsNoiseModel"),
            *("GaussianProportionalNoiseModel", "StuckAtNoiseModel", "PowerLawDriftNoiseModel"),
            *("ReadNoiseModel", "CMONoiseModel", "PCMNoiseModel", "Wan2022NoiseModel"),
            *("periphery", "conductance_converter", "CrossbarMapping", "VariationParameter"),
            *("Charge", "readout"),
        )
    },
    "set_readout": (rram.set_readout, lambda: {"model": charged()}),
    "check_clipped": (evaluation.check_clipped, lambda: {"model": charged(), "x": X}),
    "fit_charge_scales": (
        evaluation.fit_charge_scales,
        lambda: {"model": charged(), "data": (X, Y), "grid": [1.0]},
    ),
    "column_voltages": (evaluation.column_voltages, lambda: {"model": charged(), "x": X}),
    "ClippedMLP": (zoo.ClippedMLP, lambda: {}),
    "ClippedCNN": (zoo.ClippedCNN, lambda: {}),
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
    "RaySettings": (settings(cluster.RaySettings, cluster.validate_ray_settings), lambda: {}),
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
    **{
        name: (getattr(searchers, name), lambda: {})
        for name in searchers.__all__
        if name.endswith("Searcher") and name != "Searcher"
    },
    **OF_MODEL,
    **OTHERS,
}
SAMPLE = [name for name in CASES if name not in OTHERS and name not in OF_MODEL]
FUNCTIONS = ("reference", "augment", "layer_config", "objective")
"""Arguments that take any function; errors of a function are its own."""
REFUSED = (
    *("timm_model", "huggingface_model", "image_folder", "write_report"),
    *("mnist", "fashion_mnist", "cifar10", "cifar100"),
)
"""Functions whose files are not here."""
LEFT_OUT = {"find_analog_layers", "is_programmed", "named_tiles", "without_wrappers"}
"""Walks over networks that every other function takes many times."""
SLOW = (
    "train",
    "tune_on_chip",
    "tune_chips",
    "digits",
    "evaluate_chips",
    "scan_layers",
    "VGG16",
    "torchvision_model",
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def check(name: str, values: list[Any]) -> None:
    """Give each argument each value, all others being right."""
    function, make = CASES[name]
    given = make()
    function(**given) if name not in (*SLOW, *REFUSED) else None
    failed = {}
    for argument, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        for value in values:
            if value is int and argument in FUNCTIONS:
                continue
            if value is True and argument in ("download", "pretrained"):  # takes a network
                continue
            try:
                function(**{**make(), argument: value})
            except CnetError as error:
                assert "\n" not in str(error).strip()[:200]
            except Exception as error:
                failed[f"{argument}={value!r:.40}"] = f"{type(error).__name__}: {error}"[:120]
    assert not failed, "\n".join(f"{case}: {error}" for case, error in failed.items())


@pytest.mark.parametrize("name", [name for name in SAMPLE if name not in SLOW])
def test_arguments_that_cannot_be_are_one_sentence(name: str) -> None:
    check(name, VALUES[len(name) % 5 :: 5])


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CASES))
def test_more_arguments_that_cannot_be_are_one_sentence(name: str) -> None:
    """Every other value, or all of them with CNET_ALL=1 in the environment."""
    step = 1 if os.environ.get("CNET_ALL") else 2
    check(name, VALUES[len(name) % step :: step])


def test_every_public_function_with_arguments_is_among_the_cases() -> None:
    rooms = (
        *(
            bayes,
            compensation,
            evaluation,
            kernels,
            report,
            rram,
            search,
            searchers,
            tasks,
            training,
            tuning,
        ),
        zoo,
    )
    functions = {
        name
        for room in rooms
        for name in room.__all__
        if inspect.isfunction(getattr(room, name))
        and inspect.signature(getattr(room, name)).parameters
    }
    checks = {name for name in functions if name.startswith("validate_")}  # cases by their settings
    assert functions - checks - set(CASES) == LEFT_OUT
