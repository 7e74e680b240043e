"""The steps that find where compensation may go, and put it there."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnet_aihw.compensation.settings import FitSettings
from cnet_aihw.jobs.crossbar import drift_time
from cnet_aihw.jobs.recipes import Recipe
from cnet_aihw.jobs.results import (
    CHIPS_COMPENSATED,
    COMPENSATED,
    COMPENSATION,
    MEASURED_COMPENSATED,
    SCANNED,
    origin,
    refuse_source,
    scan_left,
    search_left,
    trained_networks,
)
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import read_json, write_json_atomic

if TYPE_CHECKING:
    from torch import nn

    from cnet_aihw.compensation import NetworkCost, Placement
    from cnet_aihw.jobs.pipeline import Run

log = logging.getLogger(__name__)

_FIT = "compensation"
"""The folder of the fit."""

_FITTED = "placement.json"
"""What is fitted in a folder: written before the fit begins, moved after all else."""

_OFF = "no compensation is asked for (compensation.enabled is false)"


def scan(run: Run) -> None:
    """Scan the layers of each trained network over chips, with the validation part of the data."""
    refuse_source(run, "scan")
    if not _enabled(run):
        log.info(_OFF)
        return
    from cnet_aihw.evaluation import candidate_layers, scan_layers

    for recipe, model in trained_networks(run):
        folder, settings = run.folder_of(recipe), recipe.compensation
        samples = settings.scan.samples
        scans = {
            mode: scan_layers(
                model,
                (run.data.val.x[:samples], run.data.val.y[:samples]),
                mode=mode,
                chips=settings.scan.chips,
                seed=settings.scan.seed,
                batch_size=recipe.evaluation.batch_size,
                t_inference=drift_time(recipe),
                records=folder / f"scan-{mode}.jsonl",
                device=recipe.config.device,
                progress=recipe.config.progress,
            )
            for mode in ("suffix", "single")
        }
        candidates = candidate_layers(scans[settings.scan.mode], settings.threshold)
        log.info("candidate layers of %s: %s", recipe.name, ", ".join(candidates) or "none")
        found = {
            "clean": scans["suffix"].clean,
            "mode": settings.scan.mode,
            "threshold": settings.threshold,
            "candidates": list(candidates),
            "rows": scans["suffix"].as_rows() + scans["single"].as_rows(),
        }
        write_json_atomic(folder / SCANNED, {**origin(run, recipe), **found})


def compensate(run: Run) -> None:
    """Compensate each trained network, and fit the compensation on chips."""
    if not _enabled(run):
        log.info(_OFF)
        return
    from cnet_aihw.compensation import Placement, network_cost

    scans = {recipe.name: scan_left(run, recipe) for recipe in run.recipes}
    for recipe, model in trained_networks(run):
        cost, scanned = network_cost(model, run.data.val.x[:1]), scans[recipe.name]
        candidates = None if scanned is None else scanned["candidates"]
        found = search_left(run, recipe)
        if found is None:
            placement, why_none = _placement(recipe, candidates, cost)
        else:
            placement = Placement(found["placement"])
            why_none = "the search found no placement that is worth its overhead"
        described = {
            **origin(run, recipe),
            "candidates": candidates,
            "search": found,
            "placement": dict(placement),
        }
        _set_aside(run.folder_of(recipe), placement, found)
        if placement:
            fitted = {"placement": dict(placement), "search": found}
            write_json_atomic(run.folder_of(recipe) / _FITTED, fitted)
            described |= _compensated(run, recipe, model, placement, cost)
        else:
            described["reason"] = why_none
            log.info("%s: no compensation, because %s", recipe.name, described["reason"])
        write_json_atomic(run.folder_of(recipe) / COMPENSATED, described)


def fit_settings(recipe: Recipe) -> FitSettings:
    """The fit's settings with the noise model that they describe."""
    from cnet_aihw.jobs.build import make

    fit, described = recipe.compensation.fit, recipe.config.compensation.fit.variation.noise_model
    if described is None:
        return fit
    return replace(fit, variation=replace(fit.variation, noise_model=make(described)))


def _set_aside(folder: Path, placement: Placement, search: Mapping[str, Any] | None) -> None:
    """Move what was fitted to what the same search had found before it went on, to earlier/.

    A search with a larger budget may end with another placement. What was fitted in some other way
    stays: the fit refuses to go on with it.
    """
    before = next((p for n in (_FITTED, COMPENSATED) if (p := folder / n).exists()), None)
    if before is None or search is None:
        return
    earlier = read_json(before)
    found = earlier.get("search") or {}
    same = all(found.get(key) == search[key] for key in ("searcher", "seed"))
    if not same or earlier["placement"] == dict(placement):
        return
    aside = folder / "earlier" / f"{found['evaluations']}-evaluations"
    log.info("the search found a better placement; what was fitted before is now in %s", aside)
    aside.mkdir(parents=True, exist_ok=True)
    moved = (CHIPS_COMPENSATED, MEASURED_COMPENSATED, _FIT, COMPENSATION, COMPENSATED, _FITTED)
    for name in moved:
        if (aside / name).is_dir() and (folder / name).exists():
            shutil.rmtree(aside / name)
        if (folder / name).exists():
            os.replace(folder / name, aside / name)


def _enabled(run: Run) -> bool:
    return all(recipe.compensation.enabled for recipe in run.recipes)


def _placement(
    recipe: Recipe, candidates: list[str] | None, cost: NetworkCost
) -> tuple[Placement, str]:
    """The placement given, or one ratio for the candidates, and why it is empty, where it is.

    Layers with ratio 0 are left out.
    """
    from cnet_aihw.compensation import Placement, uniform_placement

    settings = recipe.compensation
    given = settings.given_placement()
    if given is not None:
        placement = Placement({name: ratio for name, ratio in given.items() if ratio != 0.0})
        return placement, "the placement gives no layer a ratio above 0"
    if not candidates:
        share = f"{100 * settings.threshold:g} %"
        return Placement({}), f"no layer takes the accuracy under {share} of the clean one"
    try:
        return uniform_placement(cost, candidates, settings.limit, settings.variant()), ""
    except CnetError as error:  # the trainings are done: measure them, and say it in the table
        return Placement({}), str(error).rstrip(".")


def _compensated(
    run: Run, recipe: Recipe, model: nn.Module, placement: Placement, network: NetworkCost
) -> dict[str, Any]:
    """Compensate and fit one network; returns what it is, costs and reaches."""
    from cnet_aihw.compensation import (
        compensate as put,
    )
    from cnet_aihw.compensation import (
        compensation_cost,
        compensation_parameters,
        fit_compensation,
        save_compensation,
    )

    folder, settings = run.folder_of(recipe), recipe.compensation
    fit = fit_settings(recipe)
    cost = compensation_cost(network, placement, settings.variant())
    log.info(
        "compensation of %s: %s, %.2f %% of the weights, %.2f %% of the MACs",
        *(recipe.name, placement.to_json(), 100 * cost.overhead_weights, 100 * cost.overhead_macs),
    )
    put(model, placement, settings.variant(), fit.seed)
    validation = None
    if compensation_parameters(model):  # layers that are all digital have nothing to fit
        device, progress = recipe.config.device, recipe.config.progress
        result = fit_compensation(
            model, run.data, fit, folder / _FIT, device=device, progress=progress
        )
        validation = {
            "clean": result.clean_accuracy,
            "mean": result.chip_accuracy,
            "std": result.chip_std,
            "chips": fit.validation_chips,
        }
        if result.chip_accuracy is not None:
            run.objectives[recipe.name] = result.chip_accuracy
    save_compensation(model, folder / COMPENSATION)
    per_chip = fit.batchnorm == "per_chip"
    label = settings.variant().label() if validation else "digital"
    return {
        "label": label + (", BatchNorm per chip" if per_chip else ""),
        "variant": asdict(settings.variant()),
        "calibration_samples": settings.calibration_samples if per_chip else None,
        "overhead_weights": cost.overhead_weights,
        "overhead_macs": cost.overhead_macs,
        "weights": cost.weights,
        "macs": cost.macs,
        "network_weights": network.weights,
        "network_macs": network.macs,
        "validation": validation,
    }
