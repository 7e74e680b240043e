"""The step chip: the correctors of one chip, fitted and saved, with their cost."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnet_aihw.jobs.artifacts import (
    COMPENSATED,
    compensation_folder,
    compensation_of,
    required,
    trained,
    write_artifact,
)
from cnet_aihw.jobs.measuring import calibration_with, is_per_chip, prepare
from cnet_aihw.runtime.errors import bad_value

if TYPE_CHECKING:
    from torch import nn

    from cnet_aihw.jobs.context import JobContext
    from cnet_aihw.jobs.variants import Variant
    from cnet_aihw.runtime.parts import Part
    from cnet_aihw.tasks import Task

log = logging.getLogger(__name__)


def chip(job: JobContext) -> None:
    """Program a chip of the evaluation for each network, fit its correctors, and save them.

    ``chip`` is its number. The file is TRAINING/chip-NUMBER.safetensors; beside it stand score and
    cost in a JSON file.

    Raises:
        CnetError: if the compensation is not fitted per chip, or nothing is placed.
    """
    from cnet_aihw.evaluation import measured_chips
    from cnet_aihw.evaluation.settings import times_of
    from cnet_aihw.runtime.torch_device import moved_to, resolve_device

    for variant in job.variants:
        described = _described(job, variant)
        model, settings = prepare(job, variant, trained(job, variant)), variant.evaluation
        number = job.config.chip
        path = job.folder_of(variant) / f"chip-{number}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        with moved_to(model, resolve_device(variant.config.device)):
            (found,) = measured_chips(
                model,
                job.data.test,
                _Saving(job.task, path),
                [(number, times_of(settings.t_inference)[0])],
                seed=settings.seed,
                batch_size=settings.batch_size,
                calibration=calibration_with(job, variant, described, settings.calibration),
            )
        record = {"metric": job.task.metric, "file": path.name, **found.as_record()}
        write_artifact(job, variant, path.with_suffix(".json"), record)
        log.info(
            "chip %d of %s: %s %s, correctors in %s",
            *(number, variant.name, job.task.metric, job.task.format(found.values["score"]), path),
        )


class _Saving:
    """The score of a task, measured once the correctors of the chip are saved."""

    name = "score"

    def __init__(self, task: Task, path: Path) -> None:
        self.task, self.path = task, path

    def __call__(self, model: nn.Module, part: Part, batch_size: int) -> dict[str, float]:
        """Save the correctors, then measure."""
        from cnet_aihw.compensation import save_chip_correctors
        from cnet_aihw.evaluation.measurement import Score

        save_chip_correctors(model, self.path)
        return Score(self.task)(model, part, batch_size)

    def describe(self) -> dict[str, Any]:
        """Return the task's settings."""
        from cnet_aihw.tasks import describe_task

        return describe_task(self.task)


def _described(job: JobContext, variant: Variant) -> dict[str, Any]:
    if job.config.chip < 0:
        raise bad_value("chip", job.config.chip, "the number of a chip, from 0")
    if variant.per_chip:
        required(compensation_folder(job, variant) / COMPENSATED, "compensate", "compensation")
    described = compensation_of(job, variant)
    if described is None or not is_per_chip(described) or not described["placement"]:
        found = "none" if described is None else described.get("fit")
        expected = "per_chip, with a layer that is compensated, as correctors of a chip are saved"
        raise bad_value("compensation.fit", found, expected)
    return described
