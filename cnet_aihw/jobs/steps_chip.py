"""The step chip: the correctors of one chip, fitted and saved, with their cost."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from cnet_aihw.jobs.artifacts import COMPENSATED, required, write_artifact
from cnet_aihw.jobs.loading import compensation_folder, compensation_of, trained
from cnet_aihw.jobs.measuring import calibration_with, is_per_chip, prepare
from cnet_aihw.runtime.errors import bad_value

if TYPE_CHECKING:
    from cnet_aihw.jobs.context import JobContext
    from cnet_aihw.jobs.variants import Variant

log = logging.getLogger(__name__)


def chip(job: JobContext) -> None:
    """Program a chip of the evaluation for each network, fit its correctors, and save them.

    ``chip`` is its number. The file is TRAINING/chip-NUMBER.safetensors; beside it stand score and
    cost in a JSON file.

    Raises:
        CnetError: if the compensation is not fitted per chip, or nothing is placed.
    """
    from cnet_aihw.compensation import save_one_chip

    for variant in job.variants:
        described = _described(job, variant)
        model, settings = prepare(job, variant, trained(job, variant)), variant.evaluation
        number = job.config.chip
        path = job.folder_of(variant) / f"chip-{number}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        found = save_one_chip(
            model,
            job.data.test,
            number,
            path,
            settings,
            task=job.task,
            calibration=calibration_with(job, variant, described, settings.calibration),
            device=variant.config.device,
        )
        record = {"metric": job.task.metric, "file": path.name, **found.as_record()}
        write_artifact(job, variant, path.with_suffix(".json"), record)
        log.info(
            "chip %d of %s: %s %s, correctors in %s",
            *(number, variant.name, job.task.metric, job.task.format(found.values["score"]), path),
        )


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
