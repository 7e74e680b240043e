"""Steps of the search: scan, search, searches (their table)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnet_aihw.jobs.artifacts import (
    RESULT,
    SCANNED,
    SEARCHED,
    SEARCHES,
    job_record,
    write_artifact,
)
from cnet_aihw.jobs.earlier import check_scans, check_searches
from cnet_aihw.jobs.loading import refuse_source, scan_of, trained
from cnet_aihw.jobs.ray_checks import check_measuring, check_searching
from cnet_aihw.report.rows import searches_rows, write_table
from cnet_aihw.report.search_tables import searches_columns
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import read_json

if TYPE_CHECKING:
    from torch import nn

    from cnet_aihw.compensation import NetworkCost
    from cnet_aihw.jobs.context import JobContext
    from cnet_aihw.jobs.variants import Variant

log = logging.getLogger(__name__)

OFF = "no compensation is asked for (compensation.enabled is false)"
"""The reason where compensation is switched off."""


def check_scan(job: JobContext) -> None:
    """Check before the first step what the step needs, and what is in the folder."""
    check_measuring(job, lambda variant: _scanned(job, variant))
    if enabled(job):
        check_scans(job)


def check_search(job: JobContext) -> None:
    """Check before the first step what the step needs, and what is in the folder."""
    check_searches(job)
    check_searching(job)


def scan(job: JobContext) -> None:
    """Scan the layers of each trained network over chips, on the validation part of the data."""
    from cnet_aihw.evaluation import candidate_layers, scan_layers
    from cnet_aihw.jobs.build import drift_time

    refuse_source(job, "scan")
    if not enabled(job):
        log.info(OFF)
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
                ray=variant.ray,
            )
            for mode in ("suffix", "single")
        }
        candidates = candidate_layers(scans[settings.scan.mode], settings.threshold)
        if not variant.per_chip:
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
    from cnet_aihw.compensation import network_cost

    if not any(variant.searches for variant in job.variants):
        log.info("nothing is searched, because %s", _why_not(job.variants[0]))
        return
    scans = {variant.name: scan_of(job, variant) for variant in job.variants}
    for variant in job.variants:
        model = trained(job, variant)
        network = network_cost(model, job.example)
        layers = candidates_of(variant, scans[variant.name], network)
        most = ceiling_of(job, variant, model, layers or [])
        try:
            result = _searched(job, variant, scans[variant.name] or {}, model, network)
            found: dict[str, Any] = {"result": result}
        except _NothingToSearch as error:  # reported in the tables; the trainings are done
            reason = str(error).rstrip(".")
            log.info("%s is not searched, because %s", variant.name, reason)
            found = {"result": None, "reason": reason}
        found |= {"candidates": layers, "ceiling": most}
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


class _NothingToSearch(Exception):
    """A network without a placement problem; the message says why."""


def enabled(job: JobContext) -> bool:
    """Return whether compensation is asked for."""
    return all(variant.compensation.enabled for variant in job.variants)


def _scanned(job: JobContext, variant: Variant) -> int:
    """Return how many chips of layers a scan has."""
    from cnet_aihw.rram import analog_layers

    if not enabled(job):
        return 0
    return variant.compensation.scan.chips * len(analog_layers(job.networks[variant.name]))


def candidates_of(
    variant: Variant, scanned: Mapping[str, Any] | None, network: NetworkCost
) -> list[str] | None:
    """Return the candidate layers; None where nothing says which.

    With a fit per chip they are all layers that can be corrected, otherwise those of the scan.
    """
    if variant.per_chip:
        return network.correctable
    return None if scanned is None else scanned["candidates"]


def ceiling_of(
    job: JobContext, variant: Variant, model: nn.Module, layers: Sequence[str]
) -> dict[str, Any] | None:
    """Measure and show what compensation of layers can reach at most; None without layers.

    The reference is the clean score of the plain network, where the run or its source has one.
    """
    from cnet_aihw.evaluation import ceiling
    from cnet_aihw.jobs.build import drift_time

    if not layers:
        return None
    plain = Path(job.config.source or job.folder) / "plain" / RESULT
    found = ceiling(
        model,
        job.data.val,
        layers,
        reference=read_json(plain)["clean_score"] if plain.exists() else None,
        task=job.task,
        seed=variant.compensation.scan.seed,
        batch_size=variant.evaluation.batch_size,
        t_inference=drift_time(variant.config),
        device=variant.config.device,
    )
    log.info("ceiling of %s: %s", variant.name, found.sentence())
    return found.as_record()


def no_candidates(threshold: float) -> str:
    """Return the reason where no layer is a candidate."""
    return f"no layer takes the score below {100 * threshold:g} % of the clean one"


def _why_not(variant: Variant) -> str:
    if not variant.compensation.enabled:
        return "no compensation is asked for (compensation.enabled is false)"
    if variant.compensation.placement is not None:
        return "compensation.placement is given"
    return "no searcher is chosen (search.searcher is null); choose one, such as search=ppo"


def _searched(
    job: JobContext,
    variant: Variant,
    scanned: Mapping[str, Any],
    model: nn.Module,
    network: NetworkCost,
) -> dict[str, Any]:
    """Search one network's placement; return the result as a record."""
    from cnet_aihw.jobs.build import build_searcher, needs_reference
    from cnet_aihw.jobs.evaluators import build_evaluator
    from cnet_aihw.search import placement_problem
    from cnet_aihw.search.run import run_search

    settings = variant.search
    layers = candidates_of(variant, scanned, network)
    if not layers:
        raise _NothingToSearch(no_candidates(variant.compensation.threshold))
    try:
        problem = placement_problem(
            network,
            layers,
            variant.corrector,
            variant.compensation.limit,
            variant.space(network),
            settings.objective,
            scanned.get("sensitivity"),
            limit_macs=variant.compensation.limit_macs,
            reference=_clean(job, variant, model) if needs_reference(variant, job.task) else None,
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
        first=settings.first,
        name=f"{variant.name}-{name}",
        progress=variant.config.progress,
    )
    log.info(
        "best placement of %s: %s, reward %.4f after %d evaluations (%d known before)",
        *(variant.name, result.placement.to_json(), result.reward),
        *(result.evaluations, result.cached),
    )
    missing = -(result.reward + problem.overhead(result.encoding))
    if settings.objective.direction == "cheapest" and missing > 0.0:
        log.warning(
            "no placement of %s that was evaluated keeps %.4g of the clean score; the nearest is "
            "given: allow a larger search.objective.drop, limit or budget",
            *(variant.name, 1.0 - settings.objective.drop),
        )
    job.objectives[variant.name] = result.reward
    return result.as_record()


def _clean(job: JobContext, variant: Variant, model: nn.Module) -> float:
    """Return the clean score on the samples that placements are measured on, always the same."""
    from cnet_aihw.evaluation.chip_run import measure_clean, measuring
    from cnet_aihw.evaluation.measurement import Score
    from cnet_aihw.runtime.device_parts import placed
    from cnet_aihw.runtime.torch_device import resolve_device

    settings, device = variant.search, resolve_device(variant.config.device)
    part = job.data.val.first(settings.samples)
    with measuring(model, device):
        values = measure_clean(
            *(model, placed(part, device), Score(job.task)),
            seed=settings.chips_seed,
            batch_size=variant.evaluation.batch_size,
        )
    return values["score"]
