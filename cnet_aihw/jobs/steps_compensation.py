"""Steps of compensation: scan, search, searches (their table), compensate."""

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
    SCANNED,
    SEARCHED,
    SEARCHES,
    check,
    job_record,
    refuse_source,
    scan_of,
    search_of,
    trained,
    write_artifact,
)
from cnet_aihw.jobs.measuring import calibration_of, fitted_calibration
from cnet_aihw.report.rows import searches_rows, write_table
from cnet_aihw.report.search_tables import searches_columns
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

_OFF = "no compensation is asked for (compensation.enabled is false)"


def scan(job: JobContext) -> None:
    """Scan the layers of each trained network over chips, on the validation part of the data."""
    from cnet_aihw.evaluation import candidate_layers, scan_layers
    from cnet_aihw.jobs.build import drift_time

    refuse_source(job, "scan")
    if not _enabled(job):
        log.info(_OFF)
        return
    for variant in job.variants:
        model, folder = trained(job, variant), job.folder_of(variant)
        settings, config = variant.compensation, variant.config
        scans = {
            mode: scan_layers(
                model,
                job.data.val.first(settings.scan.samples),
                task=job.task,
                mode=mode,
                chips=settings.scan.chips,
                seed=settings.scan.seed,
                batch_size=variant.evaluation.batch_size,
                t_inference=drift_time(config),
                records=folder / f"scan-{mode}.jsonl",
                device=config.device,
                progress=config.progress,
            )
            for mode in ("suffix", "single")
        }
        candidates = candidate_layers(scans[settings.scan.mode], settings.threshold)
        log.info("candidate layers of %s: %s", variant.name, ", ".join(candidates) or "none")
        found = {
            "metric": job.task.metric,
            "higher_is_better": job.task.higher_is_better,
            "clean": scans["suffix"].clean,
            "mode": settings.scan.mode,
            "threshold": settings.threshold,
            "candidates": list(candidates),
            "sensitivity": scans["single"].sensitivity(),
            "rows": scans["suffix"].as_rows() + scans["single"].as_rows(),
        }
        write_artifact(job, variant, folder / SCANNED, found)


def search(job: JobContext) -> None:
    """Search each network's placement among the candidate layers (CorrectNet, step 3)."""
    if not any(variant.searches for variant in job.variants):
        log.info("nothing is searched, because %s", _why_not(job.variants[0]))
        return
    scans = {variant.name: scan_of(job, variant) for variant in job.variants}
    for variant in job.variants:
        model, scanned = trained(job, variant), scans[variant.name]
        assert scanned is not None  # no placement is given
        try:
            result = _searched(job, variant, scanned, model)
            found: dict[str, Any] = {"result": result}
        except _NothingToSearch as error:  # reported in the tables; the trainings are done
            reason = str(error).rstrip(".")
            log.info("%s is not searched, because %s", variant.name, reason)
            found = {"result": None, "reason": reason}
        found["candidates"] = scanned["candidates"]
        write_artifact(job, variant, job.folder_of(variant) / SEARCHED, found)


def searches(job: JobContext) -> None:
    """Write the table of all searches: searches.json, searches.txt and on the screen.

    Raises:
        CnetError: if nothing was to be searched.
    """
    if not any(variant.searches for variant in job.variants):
        why = _why_not(job.variants[0])
        raise CnetError(f"there is nothing to search, because {why}.", key="search", fix=why)
    paths = [job.folder_of(variant) / SEARCHED for variant in job.variants]
    found = [read_json(path) for path in paths if path.exists()]
    notes = [
        f"{record['training']} was not searched: {record['reason']}."
        for record in found
        if record["result"] is None
    ]
    record = {**job_record(job), "rows": searches_rows(found)}
    title = "searches, on validation chips of their own"
    write_table(job.folder / SEARCHES, record, title, searches_columns, notes)


def compensate(job: JobContext) -> None:
    """Put compensation on each trained network, and fit it on chips."""
    from cnet_aihw.compensation import Placement, network_cost

    if not _enabled(job):
        log.info(_OFF)
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


class _NothingToSearch(Exception):
    """A network without a placement problem; the message says why."""


def _enabled(job: JobContext) -> bool:
    return all(variant.compensation.enabled for variant in job.variants)


def _why_not(variant: Variant) -> str:
    if not variant.compensation.enabled:
        return "no compensation is asked for (compensation.enabled is false)"
    if variant.compensation.placement is not None:
        return "compensation.placement is given"
    return "no searcher is chosen (search.searcher is null); choose one, such as search=ppo"


def _no_candidates(threshold: float) -> str:
    return f"no layer takes the score below {100 * threshold:g} % of the clean one"


def _searched(
    job: JobContext, variant: Variant, scanned: Mapping[str, Any], model: nn.Module
) -> dict[str, Any]:
    """Search one network's placement; return the result as a record."""
    from cnet_aihw.compensation import network_cost
    from cnet_aihw.jobs.build import build_searcher
    from cnet_aihw.jobs.evaluators import build_evaluator
    from cnet_aihw.search import placement_problem
    from cnet_aihw.search.run import run_search

    settings = variant.search
    if not scanned["candidates"]:
        raise _NothingToSearch(_no_candidates(scanned["threshold"]))
    try:
        problem = placement_problem(
            network_cost(model, job.example),
            scanned["candidates"],
            variant.corrector,
            variant.compensation.limit,
            settings,
            settings.objective,
            scanned["sensitivity"],
            reference=None if job.task.higher_is_better else scanned["clean"],
            higher_is_better=job.task.higher_is_better,
        )
    except CnetError as error:
        raise _NothingToSearch(str(error)) from error
    searcher = build_searcher(variant.config)
    evaluator = build_evaluator(job, variant, problem, model)
    log.info(
        "searching %s: %s, %d candidate layers, %d placements within the limit, budget %d",
        *(variant.name, searcher.name, len(problem.layers), problem.count(), settings.budget),
    )
    name = f"{searcher.name}-seed{settings.seed}"
    result = run_search(
        problem,
        evaluator,
        searcher,
        job.folder_of(variant) / "search" / name,
        budget=settings.budget,
        seed=settings.seed,
        store=Path(settings.store).absolute(),
        ray=variant.ray,
        name=f"{variant.name}-{name}",
        progress=variant.config.progress,
    )
    log.info(
        "best placement of %s: %s, reward %.4f after %d evaluations (%d known before)",
        *(variant.name, result.placement.to_json(), result.reward),
        *(result.evaluations, result.cached),
    )
    job.objectives[variant.name] = result.reward
    return result.as_record()


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
            return digital_placement(cost, order, settings.limit), ""
        if not scanned["candidates"]:
            return Placement({}), _no_candidates(settings.threshold)
        found = uniform_placement(cost, scanned["candidates"], settings.limit, variant.corrector)
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
