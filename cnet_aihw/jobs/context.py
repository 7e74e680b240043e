"""The job: check the configuration, then do the steps in order."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from cnet_aihw.jobs.composing import typed_words
from cnet_aihw.jobs.config_checks import check_added_rram
from cnet_aihw.jobs.targets import located
from cnet_aihw.jobs.variants import Variant, command_of_job, variants_of
from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.locks import alone

if TYPE_CHECKING:
    from torch import nn

    from cnet_aihw.tasks import Task
    from cnet_aihw.zoo import Dataset

_READ_ALONE = {"cnet_aihw.jobs.steps.report"}
"""Steps that another job in the same folder does not disturb."""

log = logging.getLogger(__name__)

_PACKAGE = Path(__file__).parents[1]


@dataclass
class JobContext:
    """Everything that the steps of one job share."""

    config: DictConfig
    """The composed configuration."""

    variants: list[Variant]
    """The trainings asked for."""

    folder: Path
    """Folder of all results."""

    command: str
    """The command line that makes these results."""

    objectives: dict[str, float] = field(default_factory=dict)
    """Of each training, on the validation part: its mean score on chips, or the reward of the best
    placement where a search was the last step."""

    checked: list[Any] = field(default_factory=list)
    """Demands on Ray that were found to be met."""

    @cached_property
    def task(self) -> Task:
        """Return the task, built when first used."""
        from cnet_aihw.jobs.build import build_task

        return build_task(self.config)

    @cached_property
    def data(self) -> Dataset:
        """Return the data set, loaded when first used; of its test part, the samples asked for."""
        from cnet_aihw.jobs.build import build_data, fill_inputs

        data = build_data(self.config)
        data = replace(data, test=data.test.first(self.config.evaluation.samples))
        for variant in self.variants:
            fill_inputs(variant.config, data)
        log.info(
            "data %s: %d training, %d validation, %d test samples",
            *(data.name, len(data.train), len(data.val), len(data.test)),
        )
        return data

    @cached_property
    def example(self) -> Any:
        """Return one input of the validation part, for costs."""
        from cnet_aihw.runtime.parts import gathered

        return gathered(self.data.val, 1).x

    @cached_property
    def networks(self) -> dict[str, nn.Module]:
        """Return the converted network of each training: built once, and checked before any use."""
        from cnet_aihw.jobs.build import build_analog, check_variant

        models = {}
        for variant in self.variants:
            model = build_analog(variant.config, self.data, self.task)
            check_variant(variant, model, self.example, self.task)
            models[variant.name] = model
        return models

    def set_objective(self, variant: Variant, score: float | None) -> None:
        """Keep a score on validation chips for a sweeper, which maximizes."""
        if score is not None:
            self.objectives[variant.name] = score if self.task.higher_is_better else -score

    def folder_of(self, variant: Variant) -> Path:
        """Return the folder of the results of one training."""
        return self.folder / variant.name

    def source_of(self, variant: Variant) -> Path:
        """Return the folder of its trained network and its scan: here, or in the run of source."""
        source = self.config.source
        return self.folder_of(variant) if source is None else Path(source) / variant.name


def run_job(config: DictConfig) -> float | None:
    """Do the steps that ``job`` names.

    Args:
        config: the composed configuration of the running job.

    Returns:
        The objective of a sweeper for the last training, on the validation part (never the test
        part): the mean score on chips, or the reward of the best placement where a search was the
        last step; None where nothing was trained or searched.

    Raises:
        CnetError: for errors of the user; impossible values before any work; where another job
            runs in the folder.
    """
    check_added_rram(config, typed_words())
    variants = variants_of(config)
    steps = [_function(name) for name in config.job.steps]
    folder = Path(HydraConfig.get().runtime.output_dir)
    job = JobContext(config, variants, folder, command_of_job())
    log.info("results in %s", job.folder)
    for name in config.job.steps:
        _check_of(name)(job)
    reads_alone = set(config.job.steps) <= _READ_ALONE
    with _warnings_logged(), nullcontext() if reads_alone else alone(folder, "job", "a job"):
        for step in steps:
            step(job)
    return job.objectives.get(variants[-1].name)


@contextmanager
def _warnings_logged() -> Iterator[None]:
    """Have warnings of this package be lines of the log, where Python adds a line of code."""
    shown = warnings.showwarning

    def show(message: Any, category: type[Warning], filename: str, *rest: Any, **more: Any) -> None:
        if _PACKAGE in Path(filename).parents:
            log.warning("%s", message)
        else:
            shown(message, category, filename, *rest, **more)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _check_of(name: str) -> Callable[[JobContext], None]:
    """Return what a step checks before the first one: the function ``check_STEP`` beside it."""
    module, _, attribute = name.rpartition(".")
    check: Callable[[JobContext], None] = vars(import_module(module)).get(
        f"check_{attribute}", lambda job: None
    )
    return check


def _function(name: str) -> Callable[[JobContext], None]:
    function: Any = located(name, "job.steps")
    if not callable(function):
        expected = "the dotted name of a function that takes the job"
        raise bad_value("job.steps", name, expected, "or choose a file of conf/job")
    return cast(Callable[[JobContext], None], function)
