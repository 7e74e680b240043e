"""Steps of a job: train, evaluate, table, report, inspect; each takes a `JobContext`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig

from cnet_aihw.evaluation.settings import times_of
from cnet_aihw.jobs.artifacts import (
    BEST,
    DEVICE,
    FORMAT,
    MEASURED,
    MEASURED_COMPENSATED,
    MEASURED_SELECTED,
    NETWORK,
    SELECTED,
    TABLE,
    job_record,
    write_artifact,
)
from cnet_aihw.jobs.earlier import (
    check_chips,
    check_tables,
    check_trainings,
    network_by_name,
    training_of,
)
from cnet_aihw.jobs.loading import (
    compensation_of,
    measured,
    refuse_source,
    trained,
)
from cnet_aihw.jobs.measuring import (
    calibration_of,
    calibration_with,
    measure,
    prepare,
    put_compensation,
)
from cnet_aihw.jobs.ray_checks import check_measuring
from cnet_aihw.report.rows import device_table, results_rows, write_table
from cnet_aihw.report.run_tables import results_columns, worse_with_correctors
from cnet_aihw.report.tables import Metric
from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.records import write_json_atomic

if TYPE_CHECKING:
    from cnet_aihw.jobs.context import JobContext

log = logging.getLogger(__name__)


def check_evaluate(job: JobContext) -> None:
    """Check before the first step what the step needs, and what is in the folder."""
    check_measuring(
        job, lambda one: one.evaluation.chips * len(times_of(one.evaluation.t_inference))
    )
    check_chips(job)


def check_table(job: JobContext) -> None:
    """Check before the first step what is in the folder."""
    check_tables(job)


def train(job: JobContext) -> None:
    """Train each network, or resume where an earlier run of the same folder stopped."""
    from cnet_aihw.rram import load_snapshot
    from cnet_aihw.training import load_checkpoint
    from cnet_aihw.training import train as train_network

    refuse_source(job, "train")
    _check_starts(job)
    check_trainings(job)
    models = job.networks
    report = models[job.variants[0].name].conversion_report
    log.info("network, layer by layer:\n%s", report)
    for variant in job.variants:
        log.info("training %s", variant.name)
        if variant.training.epochs == 0 and variant.config.pretrained is None:
            log.warning(
                "%s has no training and pretrained is null: the first weights of the network are "
                "measured as they are",
                variant.name,
            )
        model, folder = models[variant.name], job.folder_of(variant)
        if variant.start_from is not None:
            load_snapshot(model, load_checkpoint(job.folder / variant.start_from / BEST).model)
        with network_by_name(job, variant):
            result = train_network(**training_of(job, variant), progress=variant.config.progress)
        write_artifact(job, variant, folder / NETWORK, {})
        job.set_objective(variant, result.chip_score)
        log.info(
            "training %s: validation %s %s clean, %s on chips (epoch %d)",
            *(variant.name, job.task.metric, job.task.format(result.clean_score)),
            "none" if result.chip_score is None else job.task.format(result.chip_score),
            result.best_epoch,
        )


def evaluate(job: JobContext) -> None:
    """Measure each trained network, without and with compensation, on the same test chips."""
    networks = [(variant, trained(job, variant)) for variant in job.variants]
    for variant, model in networks:
        model = prepare(job, variant, model)
        kind = variant.evaluation.calibration
        measure(job, variant, model, MEASURED, calibration_of(job, variant, kind))
        described = put_compensation(job, variant, model)
        if described is not None:
            calibration = calibration_with(job, variant, described, kind)
            measure(job, variant, model, MEASURED_COMPENSATED, calibration, described)


def table(job: JobContext) -> None:
    """Write the table of all measurements: table.json, table.txt and on the screen."""
    results, notes = [], []
    selected_alone = (job.folder / SELECTED).exists()
    for variant in job.variants:
        names, folder = [MEASURED], job.folder_of(variant)
        described = compensation_of(job, variant)
        if described is not None and described["placement"]:
            names.append(MEASURED_COMPENSATED)
        elif described is not None:
            notes.append(f"{variant.name} has no compensation: {described['reason']}.")
        if selected_alone:  # only the selected network, and what it is compared with
            names = [name for name in (*names, MEASURED_SELECTED) if (folder / name).exists()]
        results += [measured(job, variant, name) for name in names]
    made = results[0]["provenance"]
    metric = job.task.metric, getattr(job.task, "unit", "")
    score = " in ".join(part for part in metric if part)
    better = "" if job.task.higher_is_better else ", better where it is lower"
    shown = {**made["choices"], "score": score + better}
    title = "  ".join(f"{name}: {value}" for name, value in shown.items())
    record = {
        **job_record(job),
        **made["choices"],
        "noise_model": made["noise_model"],
        "rows": results_rows(results, job.task.recovery),
    }
    rated = Metric(job.task.metric, job.task.higher_is_better)
    notes += worse_with_correctors(record["rows"], rated)
    notes.append(f"device: {made['noise_model']}")
    write_table(job.folder / TABLE, record, title, results_columns, notes)


def report(job: JobContext) -> None:
    """Write report.html from the records in the folder, of a run or of a sweep."""
    from cnet_aihw.jobs.sweep import gather_sweep
    from cnet_aihw.report import write_report

    if (job.folder / "multirun.yaml").exists():  # jobs may have been added to the sweep
        gather_sweep(job.folder)
    print(f"report: {write_report(job.folder).resolve()}", flush=True)


def inspect(job: JobContext) -> None:
    """Program a layer of random weights onto chips, and show weights and outputs.

    It takes ``rram``, and the chips, their seed and times from ``evaluation``, but neither network
    nor data.
    """
    from cnet_aihw.evaluation import inspect_device
    from cnet_aihw.jobs.nodes import make, plain_values
    from cnet_aihw.report.device import save_device_figure

    variant = job.variants[0]
    settings, config = variant.evaluation, variant.config.rram
    found = inspect_device(
        make(config.rpu_config, "rram.rpu_config"),
        chips=settings.chips,
        seed=settings.seed,
        t_inference=settings.t_inference,
    )
    rram = HydraConfig.get().runtime.choices["rram"]
    head = {"format": FORMAT, "command": job.command, "rram": rram, "config": plain_values(config)}
    record = {**head, **found.as_record()}
    write_json_atomic(job.folder / DEVICE, record)
    save_device_figure(record, job.folder)
    title = f"rram: {rram}  device: {found.device}  chips: {found.chips}"
    print(f"\n{device_table(record['rows']).as_text(title)}", flush=True)
    for sentence in found.warnings:
        log.warning(sentence)


def _check_starts(job: JobContext) -> None:
    """Check that trainings that need others come after these."""
    names: list[str] = []
    for variant in job.variants:
        needed = {
            "start_from": variant.start_from,
            "distillation.teacher": variant.distillation.teacher,
        }
        for key, other in needed.items():
            if other is None or other in names or (job.folder / other / BEST).exists():
                continue
            expected = f"a training before {variant.name} in training.compare, or in the folder"
            raise bad_value(f"training.{key}", other, expected)
        names.append(variant.name)
