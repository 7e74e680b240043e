"""The job: check everything that can be checked, then do the steps in order."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from cnet_aihw.jobs.recipes import Recipe, command_of_job, recipes_of
from cnet_aihw.runtime.errors import CnetError

if TYPE_CHECKING:
    from cnet_aihw.zoo import Dataset

log = logging.getLogger(__name__)


@dataclass
class Run:
    """What the steps of one job share."""

    config: DictConfig
    """What Hydra composed."""

    recipes: list[Recipe]
    """The trainings asked for."""

    folder: Path
    """Where everything is written."""

    command: str
    """The command line that makes these results."""

    objectives: dict[str, float] = field(default_factory=dict)
    """Of each training done, on the validation part: its mean accuracy on chips, or the reward of
    the best placement where the search was the last that was done."""

    @cached_property
    def data(self) -> Dataset:
        """The data set, loaded when first asked for."""
        from cnet_aihw.jobs.build import build_data

        data = build_data(self.config)
        log.info(
            "data %s: %d training, %d validation, %d test samples",
            *(data.name, len(data.train), len(data.val), len(data.test)),
        )
        return data

    def folder_of(self, recipe: Recipe) -> Path:
        """Where the results of one training are."""
        return self.folder / recipe.name

    def source_of(self, recipe: Recipe) -> Path:
        """Where its trained network and its scan are: there too, or in the run of ``source``."""
        source = self.config.source
        return self.folder_of(recipe) if source is None else Path(source) / recipe.name


def run_job(config: DictConfig) -> float | None:
    """Do the steps that ``job`` names.

    Args:
        config: what Hydra composed for the running job.

    Returns:
        For a sweeper to maximize, of the last training, on the validation part (the test part is
        not looked at): the mean accuracy on chips, or, where a search was the last that was done,
        the reward of the best placement; None where nothing was trained or searched.

    Raises:
        CnetError: for what the user can mend; impossible values before any work.
    """
    recipes = recipes_of(config)
    steps = [_function(name) for name in config.job.steps]
    run = Run(config, recipes, Path(HydraConfig.get().runtime.output_dir), command_of_job())
    log.info("results in %s", run.folder)
    for step in steps:
        step(run)
    return run.objectives.get(recipes[-1].name)


def _function(name: str) -> Callable[[Run], None]:
    module, _, attribute = name.rpartition(".")
    try:
        function: Callable[[Run], None] = vars(import_module(module))[attribute]
    except (ImportError, KeyError, ValueError) as error:
        raise CnetError(
            f"job.steps names {name!r}, which is no function that can be imported; "
            "choose a file of conf/job, or give the dotted name of a function."
        ) from error
    return function
