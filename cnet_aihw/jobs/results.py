"""What steps leave in the folder of a training, and how later steps take it up."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from cnet_aihw.errors import CnetError
from cnet_aihw.jobs.recipes import Recipe
from cnet_aihw.records import read_json

if TYPE_CHECKING:
    from torch import nn

    from cnet_aihw.jobs.pipeline import Run

BEST = "best.safetensors"
SCANNED = "scan.json"
COMPENSATION = "compensation.safetensors"
COMPENSATED = "compensation.json"
MEASURED = "chips.json"
MEASURED_COMPENSATED = "chips-compensated.json"


def left_by_earlier_step(path: Path, step: str, what: str) -> Path:
    """A file that an earlier step wrote.

    Raises:
        CnetError: if it is not there; says which step makes it.
    """
    if not path.exists():
        raise CnetError(
            f"{path.parent} has no {what} ({path.name}); run job={step} first, or name the folder "
            "of an earlier run with hydra.run.dir=FOLDER."
        )
    return path


def analog_networks(run: Run) -> list[nn.Module]:
    """The untrained network of each recipe: all are built, and so checked, before any is used.

    Raises:
        CnetError: where one cannot be built, or its compensation does not fit it.
    """
    from cnet_aihw.jobs.build import build_analog, check_compensation_fits, make

    rpu_configs = [make(recipe.config.rram.rpu_config) for recipe in run.recipes]
    models = [
        build_analog(recipe.config, rpu_config, run.data)
        for recipe, rpu_config in zip(run.recipes, rpu_configs, strict=True)
    ]
    for recipe, model in zip(run.recipes, models, strict=True):
        if recipe.compensation.enabled:
            check_compensation_fits(recipe.compensation, model, run.data)
    return models


def trained_networks(run: Run) -> Sequence[tuple[Recipe, nn.Module]]:
    """Each recipe with its network, as the step ``train`` left it.

    Raises:
        CnetError: where one was not trained.
    """
    from cnet_aihw.rram import load_snapshot
    from cnet_aihw.training import load_checkpoint

    for recipe in run.recipes:
        left_by_earlier_step(run.folder_of(recipe) / BEST, "train", "trained weights")
    models = analog_networks(run)
    for recipe, model in zip(run.recipes, models, strict=True):
        load_snapshot(model, load_checkpoint(run.folder_of(recipe) / BEST).model)
    return list(zip(run.recipes, models, strict=True))


def compensation_left(run: Run, recipe: Recipe) -> dict[str, Any] | None:
    """What the step ``compensate`` says of a training; None where it was not asked for.

    Where its ``placement`` is empty there is no compensation, and ``reason`` says why.
    """
    path = run.folder_of(recipe) / COMPENSATED
    return read_json(path) if recipe.compensation.enabled and path.exists() else None


def origin(run: Run, recipe: Recipe) -> dict[str, Any]:
    """What the results of one training come from."""
    choices = HydraConfig.get().runtime.choices
    config: Any = OmegaConf.to_container(recipe.config, resolve=True)
    return {
        "training": recipe.name,
        **{group: choices[group] for group in ("data", "model", "rram")},
        "data_fingerprint": run.data.fingerprint,
        "command": run.command,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("cnet_aihw", "aihwkit", "torch", "numpy")},
        },
        "config": config,
    }
