"""The step that searches placements for trained and scanned networks, and its table."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnet_aihw.jobs.crossbar import drift_time
from cnet_aihw.jobs.recipes import Recipe
from cnet_aihw.jobs.results import (
    SEARCHED,
    check_same_origin,
    origin,
    scan_left,
    trained_networks,
)
from cnet_aihw.jobs.searches import render_searches
from cnet_aihw.jobs.steps_compensation import fit_settings
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import read_json, write_json_atomic

if TYPE_CHECKING:
    from torch import nn

    from cnet_aihw.evaluation import ChipCalibration
    from cnet_aihw.jobs.pipeline import Run
    from cnet_aihw.search import CompensationSupernet, PlacementEvaluator, PlacementProblem

log = logging.getLogger(__name__)


def search(run: Run) -> None:
    """Search each network's placement among the candidate layers (CorrectNet, step 3)."""
    if not any(recipe.searches for recipe in run.recipes):
        log.info("nothing is searched, because %s", _why_not(run.recipes[0]))
        return
    scans = {recipe.name: scan_left(run, recipe) for recipe in run.recipes}
    for recipe, model in trained_networks(run):
        scan = scans[recipe.name]
        assert scan is not None  # no placement is given
        check_same_origin(run, recipe, scan)
        try:
            problem = _problem(run, recipe, scan, model)
        except CnetError as error:  # the trainings are done: go on, and say it in the tables
            reason = str(error).rstrip(".")
            log.info("%s is not searched, because %s", recipe.name, reason)
            found: dict[str, Any] = {"result": None, "reason": reason}
        else:
            found = {"result": _searched(run, recipe, problem, model)}
        path = run.folder_of(recipe) / SEARCHED
        write_json_atomic(path, {**origin(run, recipe), "candidates": scan["candidates"], **found})


def searches(run: Run) -> None:
    """Put the results of all searches into one table: searches.json, .txt and on the screen.

    Raises:
        CnetError: if nothing was to be searched.
    """
    if not any(recipe.searches for recipe in run.recipes):
        raise CnetError(f"there is nothing to search, because {_why_not(run.recipes[0])}.")
    found = [
        read_json(path)
        for recipe in run.recipes
        if (path := run.folder_of(recipe) / SEARCHED).exists()
    ]
    render_searches(run, found)


def _why_not(recipe: Recipe) -> str:
    if not recipe.compensation.enabled:
        return "no compensation is asked for (compensation.enabled is false)"
    if recipe.compensation.placement is not None:
        return "compensation.placement is given"
    return "there is no searcher (search.searcher is null); choose one, such as search=ppo"


def _problem(
    run: Run, recipe: Recipe, scan: Mapping[str, Any], model: nn.Module
) -> PlacementProblem:
    from cnet_aihw.compensation import network_cost
    from cnet_aihw.search import placement_problem

    settings, searched = recipe.compensation, recipe.search
    if not scan["candidates"]:
        share = f"{100 * scan['threshold']:g} %"
        raise CnetError(f"no layer takes the accuracy under {share} of the clean one")
    lost = {
        row["layer"]: scan["clean"] - row["mean"] for row in scan["rows"] if row["mode"] == "single"
    }
    return placement_problem(
        network_cost(model, run.data.val.x[:1]),
        scan["candidates"],
        settings.variant(),
        settings.limit,
        searched,
        searched.objective,
        lost,
    )


def _searched(
    run: Run, recipe: Recipe, problem: PlacementProblem, model: nn.Module
) -> dict[str, Any]:
    """Search one network's placement; returns the result as a record."""
    from cnet_aihw.jobs.build import build_searcher
    from cnet_aihw.search.run import run_search

    settings, searcher = recipe.search, build_searcher(recipe.config)
    evaluator = _evaluator(run, recipe, problem, model)
    log.info(
        "searching %s: %s, %d candidate layers, %d placements within the limit, budget %d",
        *(recipe.name, searcher.name, len(problem.layers), problem.count(), settings.budget),
    )
    result = run_search(
        problem,
        evaluator,
        searcher,
        run.folder_of(recipe) / "search" / f"{searcher.name}-seed{settings.seed}",
        budget=settings.budget,
        seed=settings.seed,
        store=Path(settings.store).absolute(),
        ray=recipe.ray,
        name=f"{recipe.name}-{searcher.name}-seed{settings.seed}",
        progress=recipe.config.progress,
    )
    log.info(
        "best placement of %s: %s, reward %.4f after %d evaluations (%d known before)",
        *(recipe.name, result.placement.to_json(), result.reward),
        *(result.evaluations, result.cached),
    )
    run.objectives[recipe.name] = result.reward
    return result.as_record()


def _evaluator(
    run: Run, recipe: Recipe, problem: PlacementProblem, model: nn.Module
) -> PlacementEvaluator:
    from cnet_aihw.search import CompensationSupernet, FitEvaluator, SharedEvaluator

    settings, asked = recipe.search, recipe.search.evaluator
    fit = replace(fit_settings(recipe), seed=asked.seed)
    common: dict[str, Any] = {
        "variant": recipe.compensation.variant(),
        "fit": fit,
        "device": recipe.config.device,
        "threads": asked.threads,
    }
    measured: dict[str, Any] = {
        "chips": settings.chips,
        "seed": settings.chips_seed,
        "samples": settings.samples,
        "batch_size": recipe.evaluation.batch_size,
        "t_inference": drift_time(recipe),
        "calibration": _calibration(run, recipe),
    }
    folder = Path(settings.store).absolute()
    shared: dict[str, Any] = {**common, "steps": asked.shared_steps, "folder": folder}
    if asked.kind == "shared":
        evaluator = SharedEvaluator(model, run.data, problem, **shared, **measured)
        _get_ready(recipe, evaluator.shared)
        return evaluator
    start = None
    if asked.start == "shared":
        start = CompensationSupernet(model, run.data, problem, **shared)
        _get_ready(recipe, start)
    return FitEvaluator(model, run.data, start=start, steps=asked.steps, **common, **measured)


def _get_ready(recipe: Recipe, shared: CompensationSupernet) -> None:
    log.info("fitting the compensation that all placements of %s share", recipe.name)
    shared.get_ready(progress=recipe.config.progress)


def _calibration(run: Run, recipe: Recipe) -> ChipCalibration | None:
    """What the compensated network will be measured with."""
    from cnet_aihw.evaluation import BatchNormReestimation

    settings = recipe.compensation
    if settings.fit.batchnorm != "per_chip":
        return None
    return BatchNormReestimation(run.data.train.x[: settings.calibration_samples])
