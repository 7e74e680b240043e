"""The steps of a job. Each takes a `Run` and works on what earlier steps left in its folder."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cnet_aihw.jobs.agreement import check_measured_so, check_trained_so
from cnet_aihw.jobs.calibration import asked_calibration, calibration_record
from cnet_aihw.jobs.crossbar import crossbar_record, digital_record, on_crossbars, prepare
from cnet_aihw.jobs.recipes import Recipe
from cnet_aihw.jobs.results import (
    CHIPS_COMPENSATED,
    COMPENSATION,
    MEASURED,
    MEASURED_COMPENSATED,
    analog_networks,
    compensation_folder,
    compensation_left,
    left_by_earlier_step,
    origin,
    refuse_source,
    trained_networks,
)
from cnet_aihw.jobs.table import render, rows_of
from cnet_aihw.runtime.records import read_json, write_json_atomic
from cnet_aihw.training.settings import TrainingSettings

if TYPE_CHECKING:
    from torch import nn

    from cnet_aihw.evaluation import ChipCalibration
    from cnet_aihw.jobs.pipeline import Run

log = logging.getLogger(__name__)

_GROWTH_CHIPS, _GROWTH_SAMPLES = 5, 100  # enough for a curve over layers


def train(run: Run) -> None:
    """Train each recipe's network, or go on where an earlier run of the same folder stopped."""
    from cnet_aihw.training import train as train_network

    refuse_source(run, "train")
    settings = [_training_settings(recipe) for recipe in run.recipes]
    models = analog_networks(run)
    log.info("network, layer by layer:\n%s", models[0].conversion_report)
    for recipe, setting, model in zip(run.recipes, settings, models, strict=True):
        log.info("training %s", recipe.name)
        result = train_network(
            model,
            run.data,
            setting,
            run.folder_of(recipe),
            device=recipe.config.device,
            progress=recipe.config.progress,
        )
        if result.chip_accuracy is not None:
            run.objectives[recipe.name] = result.chip_accuracy
        log.info(
            "training %s: validation accuracy %.4f clean, %s on chips (epoch %d)",
            *(recipe.name, result.clean_accuracy),
            "not measured" if result.chip_accuracy is None else f"{result.chip_accuracy:.4f}",
            result.best_epoch,
        )


def evaluate(run: Run) -> None:
    """Measure each trained network, without and with compensation, on the same chips.

    The data are the test part.
    """
    from cnet_aihw.compensation import load_compensation

    networks = trained_networks(run)
    for recipe, _ in networks:
        check_trained_so(run, recipe, _training_settings(recipe))
    for recipe, trained in networks:
        folder, model = run.folder_of(recipe), on_crossbars(recipe, trained)
        asked = asked_calibration(run, recipe)
        measured = _measured(run, recipe, model, "chips.jsonl", asked)
        write_json_atomic(folder / MEASURED, {**origin(run, recipe), **measured})
        described = compensation_left(run, recipe)
        if described is None or not described["placement"]:
            continue
        path = compensation_folder(run, recipe) / COMPENSATION
        left_by_earlier_step(path, "compensate", "compensation")
        load_compensation(model, path)
        calibration = asked or _fitted_with(run, described)
        measured = _measured(run, recipe, model, CHIPS_COMPENSATED, calibration)
        names = ("label", "placement", "overhead_weights", "overhead_macs", "calibration_samples")
        found = described.get("search")
        compensation = {name: described[name] for name in names}
        compensation["search"] = None if found is None else found["searcher"]
        write_json_atomic(
            folder / MEASURED_COMPENSATED,
            {**origin(run, recipe), "compensation": compensation, **measured},
        )


def table(run: Run) -> None:
    """Put the results of all recipes into one table: table.json, table.txt and on the screen."""
    results, notes = [], ""
    for recipe in run.recipes:
        folder, names = run.folder_of(recipe), [MEASURED]
        described = compensation_left(run, recipe)
        if described is not None and described["placement"]:
            names.append(MEASURED_COMPENSATED)
        elif described is not None:
            notes += f"{recipe.name} has no compensation: {described['reason']}.\n"
        for name in names:
            left_by_earlier_step(folder / name, "evaluate", "measurements on chips")
            result = read_json(folder / name)
            check_measured_so(recipe, result, folder / name)
            results.append(result)
    rows = rows_of(results)
    about = {name: results[0][name] for name in ("data", "model", "rram")}
    title = "  ".join(f"{name}: {value}" for name, value in about.items())
    about["device"] = results[0].get("device", about["rram"])  # earlier versions wrote none
    text = render(title, rows) + f"\n{notes}device: {about['device']}\n{run.command}\n"
    write_json_atomic(run.folder / "table.json", {"command": run.command, **about, "rows": rows})
    (run.folder / "table.txt").write_text(text, encoding="utf-8")
    print(f"\n{text}", flush=True)


def _training_settings(recipe: Recipe) -> TrainingSettings:
    """The recipe's settings with the noise model that they describe."""
    from cnet_aihw.jobs.build import make

    described = recipe.config.training.variation.noise_model
    if described is None:
        return recipe.training
    variation = replace(recipe.training.variation, noise_model=make(described))
    return replace(recipe.training, variation=variation)


def _measured(
    run: Run,
    recipe: Recipe,
    model: nn.Module,
    records: str,
    calibration: ChipCalibration | None = None,
) -> dict[str, Any]:
    """Statistics over chips, one for each time, and how the error grows through the layers.

    Each chip of the statistics is a record. The error is that of the first time, on the validation
    part, against the network without compensation.
    """
    from cnet_aihw.compensation import compensation_disabled
    from cnet_aihw.evaluation import error_growth, evaluate_chips

    prepare(run, recipe, model)
    settings = recipe.evaluation
    measured = evaluate_chips(
        model,
        run.data.test,
        chips=settings.chips,
        seed=settings.seed,
        batch_size=settings.batch_size,
        t_inference=settings.t_inference,
        threshold=settings.threshold,
        calibration=calibration,
        records=run.folder_of(recipe) / records,
        device=recipe.config.device,
        progress=recipe.config.progress,
    )
    by_time = list(measured.values()) if isinstance(measured, dict) else [measured]
    log.info("%s of %s: mean accuracy %.4f", records, recipe.name, by_time[0].mean)
    growth = error_growth(
        model,
        run.data.val.x[:_GROWTH_SAMPLES],
        chips=min(_GROWTH_CHIPS, settings.chips),
        seed=settings.seed,
        t_inference=by_time[0].t_inference,
        calibration=calibration,
        reference=compensation_disabled,
        device=recipe.config.device,
    )
    return {
        "crossbar": crossbar_record(run, recipe, model),
        "digital": digital_record(run, model),
        "calibration": calibration_record(run, model, calibration),
        "statistics": [statistics.as_record() for statistics in by_time],
        "error_growth": [error.as_record() for error in growth],
    }


def _fitted_with(run: Run, described: Mapping[str, Any]) -> ChipCalibration | None:
    """What a compensation that was fitted with each chip's own BatchNorm is measured with."""
    from cnet_aihw.evaluation import BatchNormReestimation

    samples = described["calibration_samples"]
    return None if samples is None else BatchNormReestimation(run.data.train.x[:samples])
