"""Parts of the steps `evaluate` and `select`: one network, measured on chips as configured."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from cnet_aihw.compensation.settings import AUTO
from cnet_aihw.evaluation.settings import times_of
from cnet_aihw.jobs.artifacts import COMPENSATION, TARGETED, required, write_artifact
from cnet_aihw.jobs.loading import compensation_folder, compensation_of
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import read_json

if TYPE_CHECKING:
    from torch import nn

    from cnet_aihw.compensation import Placement, WithCompensation
    from cnet_aihw.evaluation import ChipCalibration
    from cnet_aihw.jobs.context import JobContext
    from cnet_aihw.jobs.variants import Variant

log = logging.getLogger(__name__)

_ADC_SAMPLES = 1000


def prepare(job: JobContext, variant: Variant, model: nn.Module) -> nn.Module:
    """Return a trained network on the crossbars it is measured on, with ADC ranges calibrated."""
    from cnet_aihw.evaluation import adc_use, calibrate_adc
    from cnet_aihw.jobs.build import needs_adc_calibration, on_crossbars
    from cnet_aihw.runtime.parts import gathered

    model = on_crossbars(variant.config, model)
    if needs_adc_calibration(variant.config) and adc_use(model, job.example):
        inputs = gathered(job.data.train, _ADC_SAMPLES).x
        device = variant.config.device
        ranges = calibrate_adc(model, inputs, variant.evaluation.batch_size, device)
        shown = ", ".join(f"{name} {reach:g}" for name, reach in ranges.items())
        log.info("ADC ranges of %s: %s", variant.name, shown)
    return model


def put_compensation(job: JobContext, variant: Variant, model: nn.Module) -> dict[str, Any] | None:
    """Put the compensation of a network on it, unless it is fitted to each chip.

    Returns:
        The content of compensation.json; None where the network has no compensation.
    """
    from cnet_aihw.compensation import load_compensation

    described = compensation_of(job, variant)
    if described is None or not described["placement"]:
        return None
    if is_per_chip(described):
        return described
    path = compensation_folder(job, variant) / COMPENSATION
    load_compensation(model, required(path, "compensate", "compensation"))
    return described


def calibration_of(job: JobContext, variant: Variant, kind: str) -> ChipCalibration | None:
    """Return the calibration of a name of ``evaluation.calibration``; None for none."""
    from cnet_aihw.evaluation import make_calibration

    return make_calibration(kind, job.data.train, variant.evaluation.calibration_samples)


def is_per_chip(described: Mapping[str, Any]) -> bool:
    """Say whether compensation.json is of a fit to each chip."""
    return described.get("fit") == "per_chip"


def compensating(
    job: JobContext,
    variant: Variant,
    placement: Placement,
    batchnorm: bool = False,
    described: Mapping[str, Any] | None = None,
    target: str | None = None,
) -> WithCompensation:
    """Return the calibration that puts a placement's correctors on and fits them to each chip.

    Args:
        job: the job.
        variant: the training, with its corrector and the settings of the fit.
        placement: layer -> ratio or "digital".
        batchnorm: whether BatchNorm is re-estimated, even if the settings do not say so.
        described: the content of compensation.json, whose corrector and settings hold then.
        target: what the correctors aim at; None: as the settings say.
    """
    from cnet_aihw.compensation import (
        PerChipFit,
        PerChipSettings,
        WithCompensation,
        corrector_from,
    )
    from cnet_aihw.runtime.parts import gathered

    settings, corrector = variant.compensation.per_chip, variant.corrector
    if described is not None:  # perhaps of a source
        settings = PerChipSettings(**described["per_chip"])
        corrector = corrector_from(described["corrector"])
    settings = replace(
        settings,
        batchnorm=settings.batchnorm or batchnorm,
        target=target or settings.target,
    )
    x = gathered(job.data.train, settings.samples).x
    return WithCompensation(placement, corrector, PerChipFit.of(settings, x, job.task))


def calibration_in_use(job: JobContext, variant: Variant, model: nn.Module) -> Any:
    """Return the calibration with which the job is going to use a network that is trained.

    With a fit per chip it compensates: the placement given, or the uniform one within the limits,
    since none is searched yet. A training whose epoch is chosen by the clean score, a baseline, has
    that of ``evaluation.calibration``, as without compensation.
    """
    kind, settings = variant.evaluation.calibration, variant.compensation
    filled = settings.fill == "uniform" or variant.searches
    if not variant.per_chip or variant.training.select == "clean":
        return calibration_of(job, variant, kind)
    if variant.placement is None and not filled:  # the most sensitive layers are not known yet
        return calibration_of(job, variant, kind)
    target = settings.per_chip.target
    if target == AUTO:
        target = "mean_over_chips" if variant.training.variation.enabled else "clean"
    placement = _placement_in_use(job, variant, model)
    return compensating(job, variant, placement, kind == "batchnorm", target=target)


def _placement_in_use(job: JobContext, variant: Variant, model: nn.Module) -> Placement:
    """Return the placement given, or the uniform one within the limits."""
    from cnet_aihw.compensation import network_cost
    from cnet_aihw.jobs.build import uniform

    if variant.placement is not None:
        return variant.placement
    network = network_cost(model, job.example)
    return uniform(variant, network, network.correctable)


def target_of(
    job: JobContext, variant: Variant, model: nn.Module, placement: Placement | None = None
) -> str:
    """Return what the correctors of a trained network aim at; ``auto`` is measured once.

    Args:
        job: the job.
        variant: its training; one without variation aims at clean outputs.
        model: the network, without correctors.
        placement: of the correctors; None: the one given, or the uniform one within the limits.
    """
    from cnet_aihw.compensation import DIGITAL, choose_target
    from cnet_aihw.jobs.build import drift_time
    from cnet_aihw.report.tables import Metric
    from cnet_aihw.runtime.random_state import derive_seed

    training, target = variant.training, variant.compensation.per_chip.target
    if target != AUTO:
        return target
    if not (training.variation.enabled and training.validation_chips):
        return "mean_over_chips" if training.variation.enabled else "clean"
    path = job.folder_of(variant) / TARGETED
    if path.exists():
        return str(read_json(path)["target"])
    try:
        placement = placement or _placement_in_use(job, variant, model)
    except CnetError:  # not all layers within the limits: the search finds some of them
        return "mean_over_chips"
    if all(ratio == DIGITAL for ratio in placement.values()):
        return "clean"
    batchnorm = variant.evaluation.calibration == "batchnorm"
    found = choose_target(
        model,
        job.data.val,
        compensating(job, variant, placement, batchnorm, target="clean"),
        task=job.task,
        chips=training.validation_chips,
        seed=derive_seed(training.seed, "validation"),
        t_inference=drift_time(variant.config),
        records=path.parent,
        device=variant.config.device,
        progress=variant.config.progress,
    )
    metric = Metric(job.task.metric, job.task.higher_is_better)
    shown = ", ".join(f"{name} {metric.text(score)}" for name, score in found.scores.items())
    log.info("correctors of %s aim at %s (%s)", variant.name, found.target, shown)
    write_artifact(job, variant, path, {"target": found.target, "scores": dict(found.scores)})
    return found.target


def calibration_with(
    job: JobContext, variant: Variant, described: Mapping[str, Any], kind: str
) -> ChipCalibration | None:
    """Return the calibration of a network with its compensation.

    Args:
        job: the job.
        variant: its training.
        described: the content of compensation.json.
        kind: name of a calibration, which is part of the fit where that is of each chip.
    """
    if is_per_chip(described):
        from cnet_aihw.compensation import Placement

        placement = Placement(described["placement"])
        return compensating(job, variant, placement, kind == "batchnorm", described)
    return shared_calibration(job, variant, kind, described["calibration_samples"])


def shared_calibration(
    job: JobContext, variant: Variant, kind: str, samples: int | None
) -> ChipCalibration | None:
    """Return the calibration that goes with a shared fit: the one asked for, or the fit's own.

    Args:
        job: the job.
        variant: its training.
        kind: name of the calibration that is asked for.
        samples: inputs of a fit with BatchNorm per chip, on which that is re-estimated; None for
            other fits.
    """
    from cnet_aihw.evaluation import make_calibration

    own = "none" if samples is None else "batchnorm"
    asked = calibration_of(job, variant, kind)
    return asked or make_calibration(own, job.data.train, samples or 0)


def measure(
    job: JobContext,
    variant: Variant,
    model: nn.Module,
    name: str,
    calibration: ChipCalibration | None,
    described: Mapping[str, Any] | None = None,
    records: str | None = None,
) -> None:
    """Measure one network on the chips of the evaluation, and write the artifact.

    The statistics are of the test part; the growth of the error is on the validation part, against
    the network without compensation.

    Args:
        job: the job.
        variant: its training.
        model: the network as it is measured.
        name: name of the artifact.
        calibration: what is calibrated on each chip.
        described: the content of compensation.json, where the network has compensation.
        records: name of the chips' records; None: that of the artifact with the suffix .jsonl.
    """
    from cnet_aihw.compensation import compensation_disabled, overheads
    from cnet_aihw.evaluation import network_record

    config = variant.config
    path = job.folder_of(variant) / name
    found = network_record(
        model,
        job.data.test,
        job.data.val,
        variant.evaluation,
        task=job.task,
        calibration=calibration,
        reference=compensation_disabled,
        records=path.with_name(records or path.with_suffix(".jsonl").name),
        device=config.device,
        progress=config.progress,
        ray=variant.ray,
    )
    mean = job.task.format(found["statistics"][0]["mean"])
    log.info("%s of %s: mean %s %s", Path(name).stem, variant.name, job.task.metric, mean)
    costs = overheads(model, job.example, calibration, described)
    costs["calibration"]["cost"] = found.pop("calibration_cost")
    levels = OmegaConf.select(config, "rram.levels", default=None) or None
    content = {"crossbar": {"levels": levels, **found.pop("adc")}, **costs, **found}
    if described is not None:
        names = ("label", "fit", "placement", "overhead_weights", "overhead_macs")
        content["compensation"] = {
            **{key: described.get(key) for key in (*names, "calibration_samples")},
            "search": (described.get("search") or {}).get("searcher"),
        }
    write_artifact(job, variant, path, content)


def notes_on_time(job: JobContext) -> list[str]:
    """Return a note for a table whose chips have one time, where several are asked for."""
    times = times_of(job.variants[0].evaluation.t_inference)
    if len(times) == 1:
        return []
    return [
        f"chips are seen {times[0]:g} s after programming here, the first of {len(times)} times in "
        "evaluation.t_inference"
    ]
