"""The evaluator of a search, as configured."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnet_aihw.jobs.build import drift_time, with_noise_model
from cnet_aihw.jobs.measuring import shared_calibration, target_of
from cnet_aihw.search.settings import EVALUATORS

if TYPE_CHECKING:
    from torch import nn

    from cnet_aihw.jobs.context import JobContext
    from cnet_aihw.jobs.variants import Variant
    from cnet_aihw.search import CompensationSupernet, PlacementEvaluator, PlacementProblem

log = logging.getLogger(__name__)


def build_evaluator(
    job: JobContext, variant: Variant, problem: PlacementProblem, model: nn.Module
) -> PlacementEvaluator:
    """Return the evaluator that ``search.evaluator`` describes; a shared fit is made first.

    Without a kind it is the one that belongs to the fit of the compensation.
    """
    from cnet_aihw.search import CompensationSupernet, FitEvaluator, SupernetEvaluator

    settings, asked, compensation = variant.search, variant.search.evaluator, variant.compensation
    kind = asked.kind or EVALUATORS[compensation.fit][0]
    if kind == "per_chip":
        return _per_chip(job, variant, model)
    fit = with_noise_model(compensation.shared, variant.config.compensation.shared)
    per_chip = compensation.shared.batchnorm == "per_chip"
    samples = compensation.calibration_samples if per_chip else None
    common: dict[str, Any] = {
        "corrector": variant.corrector,
        "fit": replace(fit, seed=asked.seed),
        "task": job.task,
        "device": variant.config.device,
        "threads": asked.threads,
    }
    measured: dict[str, Any] = {
        "chips": settings.chips,
        "seed": settings.chips_seed,
        "samples": settings.samples,
        "batch_size": variant.evaluation.batch_size,
        "t_inference": drift_time(variant.config),
        "calibration": shared_calibration(job, variant, variant.evaluation.calibration, samples),
    }
    folder = Path(settings.store).absolute()
    shared: dict[str, Any] = {**common, "steps": asked.shared_steps, "folder": folder}
    if kind == "supernet":
        evaluator = SupernetEvaluator(model, job.data, problem, **shared, **measured)
        _get_ready(variant, evaluator.supernet)
        return evaluator
    start = None
    if asked.start == "supernet":
        start = CompensationSupernet(model, job.data, problem, **shared)
        _get_ready(variant, start)
    return FitEvaluator(model, job.data, start=start, steps=asked.steps, **common, **measured)


def _per_chip(job: JobContext, variant: Variant, model: nn.Module) -> PlacementEvaluator:
    from cnet_aihw.runtime.parts import gathered
    from cnet_aihw.search import PerChipEvaluator

    settings, fit = variant.search, variant.compensation.per_chip
    batchnorm = fit.batchnorm or variant.evaluation.calibration == "batchnorm"
    return PerChipEvaluator(
        model,
        job.data.val,
        gathered(job.data.train, fit.samples).x,
        corrector=variant.corrector,
        fit=replace(fit, batchnorm=batchnorm, target=target_of(job, variant, model)),
        task=job.task,
        chips=settings.chips,
        seed=settings.chips_seed,
        samples=settings.samples,
        batch_size=variant.evaluation.batch_size,
        t_inference=drift_time(variant.config),
        device=variant.config.device,
        threads=variant.search.evaluator.threads,
    )


def _get_ready(variant: Variant, supernet: CompensationSupernet) -> None:
    log.info("fitting the compensation that all placements of %s share", variant.name)
    supernet.get_ready(progress=variant.config.progress)
