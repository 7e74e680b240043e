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
    FIT,
    MEASURED_COMPENSATED,
    write_artifact,
)
from cnet_aihw.jobs.earlier import check_compensations
from cnet_aihw.jobs.loading import (
    check_compensation,
    scan_of,
    search_of,
    trained,
)
from cnet_aihw.jobs.measuring import compensating, shared_calibration, target_of
from cnet_aihw.jobs.nodes import plain_values
from cnet_aihw.jobs.steps_search import OFF, candidates_of, ceiling_of, enabled, no_candidates
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import read_json, write_json_atomic

if TYPE_CHECKING:
    from torch import nn

    from cnet_aihw.compensation import NetworkCost, Placement
    from cnet_aihw.jobs.context import JobContext
    from cnet_aihw.jobs.variants import Variant

log = logging.getLogger(__name__)

_FITTED = "placement.json"
"""The placement that a folder's fit is of: written before the fit begins, moved after all else."""


def check_compensate(job: JobContext) -> None:
    """Check before the first step what is in the folder."""
    check_compensations(job)


def compensate(job: JobContext) -> None:
    """Place compensation in each trained network, and fit it unless each chip is fitted later."""
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
        layers = candidates_of(variant, scanned, cost)
        described: dict[str, Any] = {
            "candidates": layers,
            "ceiling": ceiling_of(job, variant, model, [*(layers or placement)]),
            "search": found,
            "placement": dict(placement),
        }
        _set_aside(folder, placement, found)
        left = folder / COMPENSATED
        if left.exists() and read_json(left)["placement"]:
            check_compensation(job, variant, left, ["config.search.budget"])
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
    from cnet_aihw.compensation import Placement, digital_placement
    from cnet_aihw.jobs.build import uniform

    settings, given = variant.compensation, variant.placement
    if given is not None:
        placement = Placement({name: ratio for name, ratio in given.items() if ratio != 0.0})
        return placement, "the placement gives no layer a ratio above 0"
    try:
        if settings.fill == "digital":
            assert scanned is not None  # no placement is given
            lost: Mapping[str, float] = scanned["sensitivity"]
            order = sorted(lost, key=lambda name: lost[name], reverse=True)
            found = digital_placement(cost, order, settings.limit, limit_macs=settings.limit_macs)
            return found, ""
        layers = candidates_of(variant, scanned, cost)
        if not layers:
            return Placement({}), no_candidates(settings.threshold)
        return uniform(variant, cost, layers), ""
    except CnetError as error:  # reported in the table; the trainings are done
        return Placement({}), str(error).rstrip(".")


def _compensated(
    job: JobContext, variant: Variant, model: nn.Module, placement: Placement, network: NetworkCost
) -> dict[str, Any]:
    """Compensate one network, and fit it or measure how it is fitted; return cost and validation.

    With a fit per chip nothing is trained or kept: the chips of the validation are fitted as each
    chip is going to be.
    """
    from cnet_aihw.compensation import DIGITAL, compensation_cost

    settings = variant.compensation
    cost = compensation_cost(network, placement, variant.corrector)
    log.info(
        "compensation of %s: %s, %.2f %% of the weights, %.2f %% of the MACs",
        *(variant.name, placement.to_json(), 100 * cost.overhead_weights, 100 * cost.overhead_macs),
    )
    validated = _validated_per_chip if variant.per_chip else _fitted_for_all
    validation, more = validated(job, variant, model, placement)
    if validation is not None:
        job.set_objective(variant, validation["mean"])
    fit = plain_values(variant.config.compensation[settings.fit])
    if variant.per_chip:
        fit["target"] = target_of(job, variant, model, placement)
    batchnorm = not variant.per_chip and settings.shared.batchnorm == "per_chip"
    label = (
        variant.corrector.label() if any(r != DIGITAL for r in placement.values()) else "digital"
    )
    return {
        "label": label + (", BatchNorm per chip" if batchnorm else ""),
        "fit": settings.fit,
        settings.fit: fit,
        "corrector": variant.corrector.describe(),
        "calibration_samples": settings.calibration_samples if batchnorm else None,
        "overhead_weights": cost.overhead_weights,
        "overhead_macs": cost.overhead_macs,
        "weights": cost.weights,
        "macs": cost.macs,
        "network_weights": network.weights,
        "network_macs": network.macs,
        "validation": validation,
        **more,
    }


def _validated_per_chip(
    job: JobContext, variant: Variant, model: nn.Module, placement: Placement
) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Measure the validation chips of the training, each one fitted, and what filters bring."""
    from cnet_aihw.compensation import filter_errors
    from cnet_aihw.evaluation import evaluate_chips
    from cnet_aihw.jobs.build import drift_time
    from cnet_aihw.runtime.random_state import derive_seed

    training, config = variant.training, variant.config
    if not training.validation_chips:
        return None, {}
    kind = variant.evaluation.calibration
    target = target_of(job, variant, model, placement)
    calibration = compensating(job, variant, placement, kind == "batchnorm", target=target)
    found = evaluate_chips(
        model,
        job.data.val,
        task=job.task,
        chips=training.validation_chips,
        seed=derive_seed(training.seed, "validation"),
        t_inference=drift_time(config),
        calibration=calibration,
        device=config.device,
        progress=config.progress,
    )
    validation = {name: getattr(found, name) for name in ("clean", "mean", "std", "chips")}
    return validation, {"filters": filter_errors(calibration.fit)}


def _fitted_for_all(
    job: JobContext, variant: Variant, model: nn.Module, placement: Placement
) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Fit the correctors of one network for all chips, and save them."""
    from cnet_aihw.compensation import (
        compensate as put,
    )
    from cnet_aihw.compensation import (
        compensation_parameters,
        fit_compensation,
        save_compensation,
    )
    from cnet_aihw.jobs.build import with_noise_model

    folder, config, settings = job.folder_of(variant), variant.config, variant.compensation
    fit = with_noise_model(settings.shared, config.compensation.shared)
    put(model, placement, variant.corrector, fit.seed)
    samples = settings.calibration_samples if fit.batchnorm == "per_chip" else None
    validation = None
    if compensation_parameters(model):  # layers that are all digital have nothing to fit
        result = fit_compensation(
            model,
            job.data,
            fit,
            folder / FIT,
            task=job.task,
            calibration=shared_calibration(job, variant, variant.evaluation.calibration, samples),
            device=config.device,
            progress=config.progress,
        )
        validation = {
            "clean": result.clean_score,
            "mean": result.chip_score,
            "std": result.chip_std,
            "chips": fit.validation_chips,
        }
    save_compensation(model, folder / COMPENSATION)
    return validation, {}


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
    for name in (records, MEASURED_COMPENSATED, FIT, COMPENSATION, COMPENSATED, _FITTED):
        if (aside / name).is_dir() and (folder / name).exists():
            shutil.rmtree(aside / name)
        if (folder / name).exists():
            os.replace(folder / name, aside / name)
