"""The step tune: each network is tuned on single chips, beside its compensation there."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cnet_aihw.evaluation.settings import times_of
from cnet_aihw.jobs.artifacts import TUNINGS, job_record, write_artifact
from cnet_aihw.jobs.earlier import check_records
from cnet_aihw.jobs.fits import keys_of_job
from cnet_aihw.jobs.loading import checked_records, trained
from cnet_aihw.jobs.measuring import (
    calibration_of,
    calibration_with,
    notes_on_time,
    prepare,
    put_compensation,
)
from cnet_aihw.report.rows import write_table
from cnet_aihw.report.tuning_tables import tuning_columns, tuning_rows
from cnet_aihw.runtime.errors import bad_value

if TYPE_CHECKING:
    from cnet_aihw.jobs.context import JobContext
    from cnet_aihw.jobs.variants import Variant

log = logging.getLogger(__name__)


_TABLE = ("tuning-*.json", "config.evaluation.t_inference")
"""Values that say what a table is of, and that its rows share beside their chips."""


def check_tune(job: JobContext) -> None:
    """Check before the first step what is in the folder, and whether the task has classes.

    Raises:
        CnetError: names the first value that cannot be.
    """
    from cnet_aihw.jobs.build import check_our_tiles

    check_our_tiles(job.config, "job=tune", "choose another rram, such as rram=lognormal")
    for variant in job.variants:
        if variant.tuning.backward == "random_target" and job.task.name != "classification":
            expected = f"another rule with task={job.task.name}, as it projects classes"
            raise bad_value("tuning.backward", "random_target", expected)
        checked_records(job, variant, *_TABLE)
        settings, time = variant.tuning, times_of(variant.evaluation.t_inference)[0]
        asked = {
            "evaluation.seed": ("seed", variant.evaluation.seed),
            "evaluation.t_inference": ("t_inference", time),
            "tuning.others": ("others", settings.others),
            **{f"tuning.{n}": (f"settings.{n}", v) for n, v in asdict(settings).items()},
        }
        check_records(variant, job.folder_of(variant) / _name(variant) / "chips.jsonl", asked)


def tune(job: JobContext) -> None:
    """Tune each network on the first chips of the evaluation.

    Records are TRAINING/tuning-WAY/chips.jsonl, the statistics TRAINING/tuning-WAY.json;
    tunings.json is the table of all ways in the folder, also those of earlier commands.
    """
    for variant in job.variants:
        _tune(job, variant)
    found = [
        record for variant in job.variants for record in checked_records(job, variant, *_TABLE)
    ]
    title = f"tuning on single chips: {found[0]['provenance']['noise_model']}"
    record = {**job_record(job), "rows": tuning_rows(found)}
    write_table(job.folder / TUNINGS, record, title, tuning_columns, notes_on_time(job))


def _name(variant: Variant) -> str:
    """Return the name of a way of tuning, of which a folder has one each."""
    settings = variant.tuning
    name = f"tuning-{settings.tune}-{settings.backward}"
    return f"{name}-rewrite{settings.rewrite_sigma:g}" if settings.rewrite_sigma else name


def _tune(job: JobContext, variant: Variant) -> None:
    from cnet_aihw.tuning import tune_chips

    settings, evaluation = variant.tuning, variant.evaluation
    model = prepare(job, variant, trained(job, variant))
    described: dict[str, Any] | None = put_compensation(job, variant, model)
    kind = evaluation.calibration
    calibration = (
        calibration_of(job, variant, kind)
        if described is None
        else calibration_with(job, variant, described, kind)
    )
    name = _name(variant)
    folder = job.folder_of(variant) / name
    with keys_of_job("tuning", asdict(settings)):
        found = tune_chips(
            model,
            job.data,
            settings,
            folder,
            test=job.data.test,
            chips=settings.chips,
            seed=evaluation.seed,
            rewrite_sigma=settings.rewrite_sigma,
            others=settings.others,
            t_inference=times_of(evaluation.t_inference)[0],
            calibration=calibration,
            task=job.task,
            batch_size=evaluation.batch_size,
            device=variant.config.device,
            progress=variant.config.progress,
        )
    content = {
        "records": f"{name}/chips.jsonl",
        "compensation": None if described is None else described.get("label"),
        "calibration": None if calibration is None else calibration.label(),
        **found.as_record(),
    }
    write_artifact(job, variant, job.folder_of(variant) / f"{name}.json", content)
    log.info(
        "%s of %s: mean %s %s before, %s after, %d writes of a cell",
        *(name, variant.name, job.task.metric, job.task.format(found.before)),
        *(job.task.format(found.score), found.writes_most),
    )
