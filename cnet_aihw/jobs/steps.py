"""The steps of a job. Each takes a `Run` and works on what earlier steps left in its folder."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from cnet_aihw.errors import CnetError
from cnet_aihw.jobs.recipes import Recipe
from cnet_aihw.jobs.table import render, rows_of
from cnet_aihw.records import write_json_atomic
from cnet_aihw.training.settings import TrainingSettings

if TYPE_CHECKING:
    from torch import nn

    from cnet_aihw.jobs.pipeline import Run

log = logging.getLogger(__name__)

BEST = "best.safetensors"
MEASURED = "chips.json"


def train(run: Run) -> None:
    """Train each recipe's network, or go on where an earlier run of the same folder stopped."""
    from cnet_aihw.training import train as train_network

    settings = [_training_settings(recipe) for recipe in run.recipes]
    models = _analog_networks(run)
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
    """Measure each trained network on the same chips, with the test part of the data."""
    from cnet_aihw.evaluation import evaluate_chips
    from cnet_aihw.rram import load_snapshot
    from cnet_aihw.training import load_checkpoint

    for recipe in run.recipes:
        _left_by_earlier_step(run.folder_of(recipe) / BEST, "train", "trained weights")
    for recipe, model in zip(run.recipes, _analog_networks(run), strict=True):
        folder, settings = run.folder_of(recipe), recipe.evaluation
        load_snapshot(model, load_checkpoint(folder / BEST).model)
        measured = evaluate_chips(
            model,
            run.data.test,
            chips=settings.chips,
            seed=settings.seed,
            batch_size=settings.batch_size,
            t_inference=settings.t_inference,
            threshold=settings.threshold,
            records=folder / "chips.jsonl",
            device=recipe.config.device,
            progress=recipe.config.progress,
        )
        by_time = list(measured.values()) if isinstance(measured, dict) else [measured]
        log.info("chips %s: mean accuracy %.4f", recipe.name, by_time[0].mean)
        records = [statistics.as_record() for statistics in by_time]
        write_json_atomic(folder / MEASURED, {**_origin(run, recipe), "statistics": records})


def table(run: Run) -> None:
    """Put the results of all recipes into one table: table.json, table.txt and on the screen."""
    results = []
    for recipe in run.recipes:
        path = run.folder_of(recipe) / MEASURED
        _left_by_earlier_step(path, "evaluate", "measurements on chips")
        results.append(json.loads(path.read_text(encoding="utf-8")))
    rows = rows_of(results)
    origin = {name: results[0][name] for name in ("data", "model", "rram")}
    title = "  ".join(f"{name}: {value}" for name, value in origin.items())
    text = render(title, rows) + f"\n{run.command}\n"
    write_json_atomic(run.folder / "table.json", {"command": run.command, **origin, "rows": rows})
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


def _analog_networks(run: Run) -> list[nn.Module]:
    """The untrained network of each recipe: all are built, and so checked, before any is used."""
    from cnet_aihw.jobs.build import build_analog, make

    rpu_configs = [make(recipe.config.rram.rpu_config) for recipe in run.recipes]
    return [
        build_analog(recipe.config, rpu_config, run.data)
        for recipe, rpu_config in zip(run.recipes, rpu_configs, strict=True)
    ]


def _left_by_earlier_step(path: Path, step: str, what: str) -> None:
    if not path.exists():
        raise CnetError(
            f"{path.parent} has no {what} ({path.name}); run job={step} first, or name the folder "
            "of an earlier run with hydra.run.dir=FOLDER."
        )


def _origin(run: Run, recipe: Recipe) -> dict[str, Any]:
    """What the results of one training come from."""
    choices = HydraConfig.get().runtime.choices
    config: Any = OmegaConf.to_container(recipe.config, resolve=True)
    return {
        "training": recipe.name,
        **{group: choices[group] for group in ("data", "model", "rram")},
        "data_fingerprint": run.data.fingerprint,
        "command": run.command,
        "config": config,
    }
