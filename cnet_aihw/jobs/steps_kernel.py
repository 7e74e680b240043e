"""The step kernel: random features of kernels on chips, and baselines without any."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnet_aihw.jobs.artifacts import KERNELS, job_record, provenance
from cnet_aihw.jobs.config_checks import check_uncalibrated
from cnet_aihw.jobs.earlier import check_records
from cnet_aihw.jobs.ray_checks import check_measuring
from cnet_aihw.report.kernel_tables import kernel_columns, kernel_rows
from cnet_aihw.report.rows import write_table
from cnet_aihw.runtime.errors import bad_value

if TYPE_CHECKING:
    from cnet_aihw.jobs.context import JobContext

_RECORDS = "kernel"


def check_kernel(job: JobContext) -> None:
    """Check before the first step what the step needs, and what is in the folder.

    Raises:
        CnetError: for another task than classification, a calibration, and more times than one.
    """
    from cnet_aihw.evaluation.settings import times_of

    if job.task.name != "classification":
        raise bad_value("task", job.task.name, "classification, as read-outs are fitted to classes")
    check_measuring(job, lambda _: 0)  # workers get kernels, not the network
    variant = job.variants[0]
    check_uncalibrated(variant.evaluation.calibration, "kernel", "kernel.match")
    times = times_of(variant.evaluation.t_inference)
    if len(times) > 1:
        fix = "-m evaluation.t_inference=1,3600 measures several, one after the other"
        raise bad_value("evaluation.t_inference", times, "one time with job=kernel", fix)
    for path in sorted((job.folder / _RECORDS).glob("*.jsonl")):
        check_records(variant, path, {"evaluation.seed": ("seed", variant.evaluation.seed)})


def kernel(job: JobContext) -> None:
    """Measure kernels, features and sizes on the chips of the evaluation, and baselines.

    Records are kernel/*.jsonl, kernels.json is the table.
    """
    from cnet_aihw.evaluation.settings import times_of
    from cnet_aihw.jobs.build import network_rpu_config
    from cnet_aihw.kernels import measure_kernels

    variant, data = job.variants[0], job.data
    evaluation, config = variant.evaluation, variant.config
    found = measure_kernels(
        data.train,
        data.test,
        data.classes,
        variant.kernel,
        network_rpu_config(config),
        job.folder / _RECORDS,
        chips=evaluation.chips,
        chips_seed=evaluation.seed,
        batch_size=evaluation.batch_size,
        t_inference=times_of(evaluation.t_inference)[0],
        exclude=list(config.rram.exclude),
        device=config.device,
        progress=config.progress,
        ray=variant.ray,
    )
    record = {
        **job_record(job),
        "provenance": provenance(job, variant),
        "records": _RECORDS,
        **found,
        "measured": found["rows"],
        "rows": kernel_rows(found),
    }
    title = f"kernel features on chips: {found['device']}"
    write_table(job.folder / KERNELS, record, title, kernel_columns)
