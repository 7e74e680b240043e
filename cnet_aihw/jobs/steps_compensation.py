"""The step compensate: placement, correctors and their fit."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnet_aihw.jobs.artifacts import (
    COMPENSATED,
    COMPENSATION,
    MEASURED_COMPENSATED,
    check,
    scan_of,
    search_of,
    trained,
    write_artifact,
)
from cnet_aihw.jobs.measuring import calibration_of, fitted_calibration
from cnet_aihw.jobs.steps_search import OFF, enabled, no_candidates
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import read_json, write_json_atomic

if TYPE_CHECKING:
    from torch import nn

    from cnet_aihw.compensation import NetworkCost, Placement
    from cnet_aihw.jobs.context import JobContext
    from cnet_aihw.jobs.variants import Variant

log = logging.getLogger(__name__)

_FIT = "compensation"
"""The folder of the fit."""

_FITTED = "placement.json"
"""The placement that a folder's fit is of: written before the fit begins, moved after all else."""


def compensate(job: JobContext) -> None:
    """Put compensation on each trained network, and fit it on chips."""
    from cnet_aihw.compensation import Placement, network_cost

    if not enabled(job):
        log.info(OFF)
        return
    scans = {variant.name: scan_of(job, variant) for variant in job.variants}
    for variant in job.variants:
        model, scanned = trained(job, variant), scans[variant.name]
        found, folder = search_of(job, variant), job.folder_of(variant)
        cost = network_cost(model, job.example)
        if found is None:
            placement, why_none = _placement(variant, scanned, cost)
        else:
            placement = Placement(found["placement"])
            why_none = "the search found no placement that is worth its overhead"
        described: dict[str, Any] = {
            "candidates": None if scanned is None else scanned["candidates"],
            "search": found,
            "placement": dict(placement),
        }
        _set_aside(folder, placement, found)
        left = folder / COMPENSATED
        if left.exists() and read_json(left)["placement"]:
            check(job, variant, left, ("compensation",))
        if placement:
            write_json_atomic(folder / _FITTED, {"placement": dict(placement), "search": found})
            described |= _compensated(job, variant, model, placement, cost)
        else:
            described["reason"] = why_none
            log.info("%s: no compensation, because %s", variant.name, why_none)
        write_artifact(job, variant, folder / COMPENSATED, described)


def _placement(
    variant: Variant, scanned: Mapping[str, Any] | None, cost: NetworkCost
) -> tuple[Placement, str]:
    """Return the placement given or filled in, without layers of ratio 0, and why it is empty."""
    from cnet_aihw.compensation import Placement, digital_placement, uniform_placement

    settings, given = variant.compensation, variant.placement
    if given is not None:
        placement = Placement({name: ratio for name, ratio in given.items() if ratio != 0.0})
        return placement, "the placement gives no layer a ratio above 0"
    assert scanned is not None  # no placement is given
    try:
        if settings.fill == "digital":
            lost: Mapping[str, float] = scanned["sensitivity"]
            order = sorted(lost, key=lambda name: lost[name], reverse=True)
            found = digital_placement(cost, order, settings.limit, limit_macs=settings.limit_macs)
            return found, ""
        if not scanned["candidates"]:
            return Placement({}), no_candidates(settings.threshold)
        found = uniform_placement(
            *(cost, scanned["candidates"], settings.limit, variant.corrector),
            limit_macs=settings.limit_macs,
        )
        return found, ""
    except CnetError as error:  # reported in the table; the trainings are done
        return Placement({}), str(error).rstrip(".")


def _compensated(
    job: JobContext, variant: Variant, model: nn.Module, placement: Placement, network: NetworkCost
) -> dict[str, Any]:
    """Compensate and fit one network; return cost and validation."""
    from cnet_aihw.compensation import (
        compensate as put,
    )
    from cnet_aihw.compensation import (
        compensation_cost,
        compensation_parameters,
        fit_compensation,
        save_compensation,
    )
    from cnet_aihw.jobs.build import with_noise_model

    folder, config = job.folder_of(variant), variant.config
    fit = with_noise_model(variant.compensation.fit, config.compensation.fit)
    cost = compensation_cost(network, placement, variant.corrector)
    log.info(
        "compensation of %s: %s, %.2f %% of the weights, %.2f %% of the MACs",
        *(variant.name, placement.to_json(), 100 * cost.overhead_weights, 100 * cost.overhead_macs),
    )
    put(model, placement, variant.corrector, fit.seed)
    per_chip, validation = fit.batchnorm == "per_chip", None
    samples = variant.compensation.calibration_samples if per_chip else None
    asked = calibration_of(job, variant, variant.evaluation.calibration)
    calibration = asked or fitted_calibration(job, samples)
    if compensation_parameters(model):  # layers that are all digital have nothing to fit
        result = fit_compensation(
            model,
            job.data,
            fit,
            folder / _FIT,
            task=job.task,
            calibration=calibration,
            device=config.device,
            progress=config.progress,
        )
        validation = {
            "clean": result.clean_score,
            "mean": result.chip_score,
            "std": result.chip_std,
            "chips": fit.validation_chips,
        }
        job.set_objective(variant, result.chip_score)
    save_compensation(model, folder / COMPENSATION)
    label = variant.corrector.label() if validation else "digital"
    return {
        "label": label + (", BatchNorm per chip" if per_chip else ""),
        "corrector": variant.corrector.describe(),
        "calibration_samples": samples,
        "overhead_weights": cost.overhead_weights,
        "overhead_macs": cost.overhead_macs,
        "weights": cost.weights,
        "macs": cost.macs,
        "network_weights": network.weights,
        "network_macs": network.macs,
        "validation": validation,
    }


def _set_aside(folder: Path, placement: Placement, search: Mapping[str, Any] | None) -> None:
    """Move the fit of a placement that the same search found with a smaller budget to earlier/.

    A search with a larger budget may end with another placement. A fit that has another origin
    stays: the next fit refuses to resume it.
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
    log.info("the search found a better placement; the earlier fit is now in %s", aside)
    aside.mkdir(parents=True, exist_ok=True)
    records = Path(MEASURED_COMPENSATED).with_suffix(".jsonl").name
    for name in (records, MEASURED_COMPENSATED, _FIT, COMPENSATION, COMPENSATED, _FITTED):
        if (aside / name).is_dir() and (folder / name).exists():
            shutil.rmtree(aside / name)
        if (folder / name).exists():
            os.replace(folder / name, aside / name)
