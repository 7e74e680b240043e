"""The columns: each method on the same chips, and the recipe that validation data choose."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from benchmarks.common import RECORDS
from benchmarks.paper.rows import (
    LIMIT,
    PER_CHIP,
    REFERENCE,
    SIGMAS,
    Row,
    by_sensitivity,
    compensated,
    dataset,
    network,
    train,
    train_variant,
    with_compensation,
)
from cnet_aihw.compensation import (
    PAPER,
    NetworkCost,
    Placement,
    compensate,
    compensation_cost,
    digital_placement,
    network_cost,
)
from cnet_aihw.evaluation import (
    ChipCalibration,
    ChipStatistics,
    evaluate_chips,
    make_calibration,
)
from cnet_aihw.rram import analog_layers
from cnet_aihw.runtime.records import read_json, write_json_atomic
from cnet_aihw.zoo.dataset import ImagePart

VALIDATION_CHIPS, VALIDATION_SEED, VALIDATION_SAMPLES = 20, 3000, 2000
CALIBRATION_SAMPLES = 1000
YIELD = 0.95
"""A chip counts for the yield when it has this share of the plain network's clean accuracy."""

NONE, BATCHNORM, AFFINE = "none", "BatchNorm per chip", "affine correction per chip"
COLUMNS = (
    "plain", "lipschitz", "noise", "noise_best", "noise_from_plain", "lipschitz_noise",
    "correctnet", "digital",
)  # fmt: skip
"""Columns of the table beside the recipes, with and without BatchNorm per chip."""

RECIPES = {"recipe": float("inf"), "recipe_macs": LIMIT}
"""The recipes, each with its limit on added MACs; that on added weights is for both."""


TRAININGS = ("lipschitz", "noise", "lipschitz_noise")
NOWHERE = Placement({})
_WITHOUT = {
    "noise_best": "noise", "correctnet": "lipschitz", "both_compensated": "lipschitz_noise",
    "ramped_compensated": "noise_ramped", "correctnet_per_chip": "lipschitz",
}  # fmt: skip
"""Name of a network's method where its placement is empty."""


@dataclass(frozen=True)
class Subject:
    """A network that a method leads to."""

    method: str
    model: nn.Module
    folder: Path
    trained_at: float | None = None
    """The sigma injected in training, or that of the penalty's lambda; None: neither."""

    placement: Placement = NOWHERE
    overhead_weights: float = 0.0
    overhead_macs: float = 0.0

    @property
    def label(self) -> str:
        """Name of its records: the same where methods lead to the same network."""
        name = self.method
        if name in _WITHOUT and not self.placement:
            name = _WITHOUT[name]
        return name if self.trained_at is None else f"{name}-{self.trained_at:g}"

    @property
    def calibrations(self) -> list[str]:
        """Calibrations that are possible on its chips."""
        normed = any(isinstance(module, _BatchNorm) for module in self.model.modules())
        return [NONE, BATCHNORM] if normed else [NONE]

    def seconds(self) -> float:
        """How long its training, and its compensation's fit, took."""
        left = [self.folder / "result.json"]
        if self.method in _WITHOUT and self.placement:
            left.append(self.folder / "compensation" / "result.json")
        return sum(float(read_json(path)["seconds"]) for path in left)


def prepare(row: Row, sigma: float, seed: int) -> None:
    """Train all networks of a sigma, and search and fit their compensation."""
    train(row, "plain", REFERENCE, seed)
    for training in TRAININGS:
        train(row, training, sigma, seed)
    compensated(row, "lipschitz", sigma, seed, "ppo")
    compensated(row, "lipschitz_noise", sigma, seed, "surrogate")
    if row.batchnorm:
        compensated(row, "lipschitz", sigma, seed, "ppo", PER_CHIP)
    for variant in _variants(row):
        train_variant(row, variant, sigma, seed, _digital(row, sigma, seed))
        if variant == "ramped":
            compensated(row, "noise", sigma, seed, "surrogate", variant)


def subjects(row: Row, sigma: float, seed: int) -> Iterator[Subject]:
    """All networks that are measured at a sigma; those of the recipe's choice come last."""
    here, plain = row.folder(sigma, seed), row.folder(REFERENCE, seed) / "plain"

    def on_chips(folder: Path, exclude: Placement = NOWHERE) -> nn.Module:
        return network(row, folder, sigma, seed, exclude)

    def placed(
        method: str, model: nn.Module, folder: Path, placement: Placement, at: float = sigma
    ) -> Subject:
        found = compensation_cost(_cost(row, seed), placement, PAPER)
        overheads = found.overhead_weights, found.overhead_macs
        return Subject(method, model, folder, at, placement, *overheads)

    def fitted(method: str, folder: Path) -> Subject:
        model = on_chips(folder)
        return placed(method, model, folder, with_compensation(model, folder))

    yield Subject("plain", on_chips(plain), plain)
    for training in TRAININGS:
        yield Subject(training, on_chips(here / training), here / training, sigma)
    yield _best_noise(row, sigma, seed)
    yield fitted("correctnet", here / "lipschitz")
    if row.batchnorm:
        yield fitted("correctnet_per_chip", row.folder(sigma, seed, PER_CHIP) / "lipschitz")
    yield fitted("both_compensated", here / "lipschitz_noise")
    for method, folder in (("plain_centred", plain), ("lipschitz_centred", here / "lipschitz")):
        yield Subject(method, centred(on_chips(folder)), folder, sigma)
    digital, folder = _digital(row, sigma, seed), here / "lipschitz"
    yield placed("digital", compensate(on_chips(folder), digital), folder, digital)
    for variant, at in product(_variants(row), SIGMAS):
        folder, method = row.folder(at, seed, variant) / "noise", f"noise_{variant}"
        if not (folder / "result.json").exists():
            continue
        if variant.startswith("digital"):
            digital = _digital(row, at, seed)
            yield placed(method, on_chips(folder, digital), folder, digital, at)
        else:
            yield Subject(method, on_chips(folder), folder, at)
            if variant == "ramped" and at == sigma:
                yield fitted("ramped_compensated", folder)


def centred(model: nn.Module) -> nn.Module:
    """Divide the weights by the mean of their factor: on chips their mean is what is wanted."""
    for layer in analog_layers(model).values():
        for tile in layer.analog_tiles():
            mean, _ = tile.rpu_config.noise_model.factor_moments()
            weights, bias = tile.get_weights()
            tile.set_weights(weights / mean, bias)
    return model


def cells(row: Row, sigma: float, seed: int) -> list[dict[str, Any]]:
    """Measure everything at one sigma and seed, the recipe's choice first, on validation data."""
    candidates = list(subjects(row, sigma, seed))
    found = {s.method: s for s in candidates if s.method in COLUMNS and _is_of(s, sigma)}
    fixed, choice = recipes(row, candidates, sigma, seed)
    for method, calibration, chosen in fixed:
        print(row.name, sigma, seed, f"{method}:", chosen.label, calibration, flush=True)
    test = dataset(row, seed).test
    plain = evaluate_chips(found["plain"].model, _first(test, row.samples), chips=1, seed=0)
    assert plain.clean is not None
    wanted = [(m, c, found[m]) for m in COLUMNS for c in found[m].calibrations]
    if row.batchnorm:  # what was fitted for it
        own = next(s for s in candidates if s.method == "correctnet_per_chip")
        wanted = [(m, c, own if (m, c) == ("correctnet", BATCHNORM) else s) for m, c, s in wanted]
    rows = []
    for method, how, subject in (*wanted, *fixed):
        measured = _measured(row, subject, how, "test", sigma, seed, plain.clean)
        rows.append(_cell(row, sigma, seed, method, how, subject, measured))
        print(row.name, sigma, seed, method, how, f"{measured.mean:.4f}", flush=True)
    folder = measurements(row, sigma, seed)
    write_json_atomic(folder / "cells.json", {"cells": rows, "recipe": choice})
    return rows


def _is_of(subject: Subject, sigma: float) -> bool:
    """Whether its column shows it: of some methods there are trainings at other sigmas too."""
    return subject.method != "noise_from_plain" or subject.trained_at == sigma


def recipes(
    row: Row, candidates: Sequence[Subject], sigma: float, seed: int
) -> tuple[list[tuple[str, str, Subject]], list[dict[str, Any]]]:
    """Choose the highest mean on validation chips among all within the limits."""
    choice: list[dict[str, Any]] = []
    best: dict[str, tuple[float, str, Subject]] = {}
    for subject in {subject.label: subject for subject in candidates}.values():
        for how in (*subject.calibrations, AFFINE):
            if subject.overhead_weights + _extra(row, subject, how, seed) > LIMIT:
                continue
            measured = _measured(row, subject, how, "validation", sigma, seed)
            about = {"network": subject.label, "calibration": how}
            choice.append({**about, "mean": measured.mean, "std": measured.std})
            for method, limit in RECIPES.items():
                ahead = method not in best or measured.mean > best[method][0]
                if subject.overhead_macs <= limit and ahead:
                    best[method] = (measured.mean, how, subject)
    return [(method, *best[method][1:]) for method in RECIPES], choice


def _best_noise(row: Row, sigma: float, seed: int) -> Subject:
    """Of the networks trained under any of the row's sigmas, the best on validation chips."""
    folders = {at: row.folder(at, seed) / "noise" for at in SIGMAS}
    found = [
        Subject("noise_best", network(row, folder, sigma, seed), folder, at)
        for at, folder in folders.items() if (folder / "result.json").exists()
    ]  # fmt: skip
    return max(found, key=lambda it: _measured(row, it, NONE, "validation", sigma, seed).mean)


def _measured(
    row: Row, subject: Subject, how: str, part: str, sigma: float, seed: int,
    reference: float | None = None,
) -> ChipStatistics:  # fmt: skip
    """Accuracy over chips on one part of the data; what was measured before is taken up."""
    data, test = dataset(row, seed), part == "test"
    samples = _first(data.test, row.samples) if test else _first(data.val, VALIDATION_SAMPLES)
    name = f"{subject.label}-{how.replace(' ', '_')}-{part}.jsonl"
    return evaluate_chips(
        subject.model,
        samples,
        chips=row.chips if test else VALIDATION_CHIPS,
        seed=0 if test else VALIDATION_SEED,
        calibration=_calibration(row, how, seed),
        threshold=None if reference is None else YIELD * reference,
        reference=reference,
        records=measurements(row, sigma, seed) / name,
    )


def _cell(
    row: Row, sigma: float, seed: int, method: str, how: str, subject: Subject,
    measured: ChipStatistics,
) -> dict[str, Any]:  # fmt: skip
    kept = ("clean", "mean", "std", "q05", "ci95", "yield", "threshold", "recovery", "chips")
    record = measured.as_record()
    return {
        "row": row.name,
        "title": row.title,
        "sigma": sigma,
        "method": method,
        "calibration": how,
        "network": subject.label,
        "trained_at": subject.trained_at,
        "placement": dict(subject.placement),
        "overhead_weights": subject.overhead_weights + _extra(row, subject, how, seed),
        "overhead_macs": subject.overhead_macs,
        **{key: record[key] for key in kept},
        "chips_seed": 0,
        "seed": seed,
        "test_samples": row.samples or len(dataset(row, seed).test.x),
        "seconds": subject.seconds(),
        "hardware": hardware(),
        "command": f"python -m benchmarks.paper run --row {row.name} --sigma {sigma:g} "
        f"--seed {seed}",
    }


def _variants(row: Row) -> list[str]:
    return ["from_plain", "digital", "digital_from_plain", *(["ramped"] if row.ramp else [])]


def hardware() -> str:
    """Name of the machine's GPU or CPU."""
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return f"{platform.machine()} CPU, {torch.get_num_threads()} thread"


def _first(part: ImagePart, samples: int | None) -> tuple[Tensor, Tensor]:
    return part.x[:samples], part.y[:samples]


def measurements(row: Row, sigma: float, seed: int) -> Path:
    """Where the cells of one sigma and seed are, and the records of their chips."""
    return RECORDS / "paper" / row.name / f"seed{seed}" / f"sigma{sigma:g}" / "measured"


def _calibration(row: Row, how: str, seed: int) -> ChipCalibration | None:
    name = {NONE: "none", BATCHNORM: "batchnorm", AFFINE: "affine"}[how]
    return make_calibration(name, dataset(row, seed).train, CALIBRATION_SAMPLES)


def _extra(row: Row, subject: Subject, how: str, seed: int) -> float:
    """Digital weights of a calibration, as a share of the network's."""
    calibration = _calibration(row, how, seed)
    added = 0 if calibration is None else calibration.cost(subject.model)
    return added / _cost(row, seed).weights


@cache
def _cost(row: Row, seed: int) -> NetworkCost:
    folder = row.folder(REFERENCE, seed) / "plain"
    return network_cost(network(row, folder, REFERENCE, seed), dataset(row, seed).val.x[:1])


def _digital(row: Row, sigma: float, seed: int) -> Placement:
    """The layers kept digital: the most sensitive first, as many as the limit allows."""
    order = by_sensitivity(row.folder(sigma, seed) / "lipschitz")
    return digital_placement(_cost(row, seed), order, LIMIT, limit_macs=None)
