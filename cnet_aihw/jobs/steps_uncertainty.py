"""The step uncertainty: predictions of each network on chips, and digital baselines beside them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from cnet_aihw.evaluation.settings import times_of
from cnet_aihw.jobs.artifacts import UNCERTAINTIES, job_record, write_artifact
from cnet_aihw.jobs.config_checks import check_uncalibrated
from cnet_aihw.jobs.earlier import check_records
from cnet_aihw.jobs.loading import checked_records, trained
from cnet_aihw.jobs.measuring import prepare
from cnet_aihw.jobs.nodes import make
from cnet_aihw.jobs.ray_checks import check_measuring
from cnet_aihw.report.rows import write_table
from cnet_aihw.report.uncertainty_tables import uncertainty_columns, uncertainty_rows
from cnet_aihw.runtime.errors import bad_value

if TYPE_CHECKING:
    from torch import Tensor, nn

    from cnet_aihw.jobs.context import JobContext
    from cnet_aihw.jobs.variants import Variant
    from cnet_aihw.runtime.parts import TensorPart

log = logging.getLogger(__name__)

_TABLE = "uncertainty-*.json"


def check_uncertainty(job: JobContext) -> None:
    """Check before the first step what the step needs, and what is in the folder.

    Raises:
        CnetError: for another task than classification, a calibration beside corrections, data
            of another kind of another shape, and samples that the devices, or a baseline that the
            network, cannot give.
    """
    from cnet_aihw.bayes.baselines import dropouts_of
    from cnet_aihw.bayes.sampling import check_source
    from cnet_aihw.jobs.build import check_our_tiles, on_crossbars

    check_measuring(job, lambda one: one.bayes.chips * len(times_of(one.evaluation.t_inference)))
    if job.task.name != "classification":
        raise bad_value("task", job.task.name, "classification, as probabilities are of classes")
    check_our_tiles(job.config, "job=uncertainty", "choose another rram, such as rram=lognormal")
    _ood(job)
    for variant in job.variants:
        check_uncalibrated(variant.evaluation.calibration, "uncertainty", "bayes.correction")
        model = job.networks[variant.name]
        check_source(
            on_crossbars(variant.config, model), variant.bayes.source, None, "bayes.source"
        )
        if "mc_dropout" in variant.bayes.baselines:
            dropouts_of(model)
        checked_records(job, variant, _TABLE)
        asked = {"evaluation.seed": ("seed", variant.evaluation.seed)}
        for kind in variant.bayes.correction:
            name = f"uncertainty-{variant.bayes.source}-{kind}.jsonl"
            check_records(variant, job.folder_of(variant) / name, asked)


def uncertainty(job: JobContext) -> None:
    """Measure each network's predictions on chips of the evaluation, without and with correction.

    Records are TRAINING/uncertainty-SOURCE-CORRECTION.jsonl, the statistics lie beside them;
    uncertainties.json is the table of all in the folder, also those of earlier commands.
    """
    ood = _ood(job)
    for variant in job.variants:
        model = prepare(job, variant, trained(job, variant))
        for kind in variant.bayes.correction:
            _measure(job, variant, model, kind, ood)
        if variant.bayes.baselines:
            _baselines(job, variant, model, ood)
    found = [record for variant in job.variants for record in checked_records(job, variant, _TABLE)]
    title = f"uncertainty of predictions: {found[0]['provenance']['noise_model']}"
    record = {**job_record(job), "rows": uncertainty_rows(found)}
    notes = (
        ["chips have no correctors here: bayes.correction says what is done on each chip"]
        if any(variant.compensation.enabled for variant in job.variants)
        else []
    )
    write_table(job.folder / UNCERTAINTIES, record, title, lambda _: uncertainty_columns(), notes)


def _measure(
    job: JobContext, variant: Variant, model: nn.Module, kind: str, ood: TensorPart | None
) -> None:
    from cnet_aihw.bayes import LogitCorrection, evaluate_uncertainty
    from cnet_aihw.runtime.parts import gathered

    settings, evaluation = variant.bayes, variant.evaluation
    name = f"uncertainty-{settings.source}-{kind}"
    path = job.folder_of(variant) / f"{name}.json"
    correction, counts = None, settings.samples
    if kind != "none":
        held = gathered(job.data.val.first(settings.fit_inputs))
        fitted = min(settings.fit_samples, max(counts))
        correction = LogitCorrection(held.x, held.y, kind, fitted, evaluation.batch_size)
        if settings.source != "chips":  # it is fitted to means of so many samples
            counts = [count for count in counts if count >= fitted]
    found = evaluate_uncertainty(
        model,
        job.data.test,
        source=settings.source,
        samples=counts,
        chips=settings.chips,
        seed=evaluation.seed,
        ood=ood,
        t_inference=evaluation.t_inference,
        calibration=correction,
        batch_size=evaluation.batch_size,
        records=path.with_suffix(".jsonl"),
        device=variant.config.device,
        progress=variant.config.progress,
        ray=variant.ray,
    )
    content = {
        "method": settings.source,
        "records": path.with_suffix(".jsonl").name,
        **found.as_record(),
        "correction": kind,
    }
    write_artifact(job, variant, path, content)
    last = found.rows[-1]
    log.info(
        "%s of %s, correction %s: %d samples, accuracy %.1f %%, nll %.3f, ece %.3f",
        *(settings.source, variant.name, kind, last.samples, 100.0 * last.mean["accuracy"]),
        *(last.mean["nll"], last.mean["ece"]),
    )


def _baselines(job: JobContext, variant: Variant, model: nn.Module, ood: TensorPart | None) -> None:
    from cnet_aihw.bayes import fit_logits, reliability, uncertainty_scores
    from cnet_aihw.runtime.parts import gathered

    settings, test = variant.bayes, gathered(job.data.test)
    held = gathered(job.data.val.first(settings.fit_inputs))
    for method in settings.baselines:
        parts = [test.x, held.x, *([] if ood is None else [ood.x])]
        logits = _logits(job, variant, model, method, parts)
        if method == "temperature":
            scales = fit_logits(logits[1], held.y)
            logits = [scales(some) for some in logits]
        p = [some.double().softmax(-1) for some in logits]
        other = None if ood is None else p[2]
        rows = [
            {
                "samples": n,
                "t_inference": None,
                "mean": uncertainty_scores(p[0][:n], test.y, None if other is None else other[:n]),
                "std": None,
            }
            for n in settings.samples
            if n <= len(p[0])
        ]
        if not rows:
            whole = uncertainty_scores(p[0], test.y, other)
            rows = [{"samples": len(p[0]), "t_inference": None, "mean": whole, "std": None}]
        content = {
            "method": method,
            "source": None,
            "correction": "temperature" if method == "temperature" else "none",
            "chips": None,
            "inputs": len(test),
            "rows": rows,
            "reliability": reliability(p[0], test.y),
        }
        path = job.folder_of(variant) / f"uncertainty-digital-{method}.json"
        write_artifact(job, variant, path, content)


def _logits(
    job: JobContext, variant: Variant, model: nn.Module, method: str, parts: list[Any]
) -> list[Tensor]:
    """Return the logits [T, N, C] of a digital baseline for each part, on the CPU."""
    from cnet_aihw.bayes import LastLayerLaplace, deterministic, mc_dropout

    most, seed = max(variant.bayes.samples), variant.evaluation.seed
    size = variant.evaluation.batch_size
    if method == "mc_dropout":
        return [mc_dropout(model, x, most, seed, size) for x in parts]
    if method == "laplace":
        laplace = LastLayerLaplace(model, job.data.train, job.data.val, size)
        return [laplace.sample(x, most, seed) for x in parts]
    return [deterministic(model, x, size) for x in parts]


def _ood(job: JobContext) -> TensorPart | None:
    """Return the data of another kind, if any."""
    from cnet_aihw.runtime.parts import gathered
    from cnet_aihw.zoo import Dataset

    settings = job.variants[0].bayes
    if job.config.bayes.ood is None:
        return None
    made = make(job.config.bayes.ood, "bayes.ood")
    if not isinstance(made, Dataset):
        raise bad_value("bayes.ood", type(made).__name__, "a target that gives a zoo.Dataset")
    if made.input_shape != job.data.input_shape:
        expected = f"inputs of shape {job.data.input_shape}, as the data"
        raise bad_value("bayes.ood", made.input_shape, expected)
    return gathered(made.test.first(settings.ood_inputs))
