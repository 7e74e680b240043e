"""The step attack: each network is attacked on chips, without and with compensation."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnet_aihw.evaluation.settings import times_of
from cnet_aihw.jobs.artifacts import ATTACKS, job_record, write_artifact
from cnet_aihw.jobs.earlier import check_records
from cnet_aihw.jobs.loading import checked_records, trained
from cnet_aihw.jobs.measuring import (
    calibration_of,
    calibration_with,
    notes_on_time,
    prepare,
    put_compensation,
)
from cnet_aihw.jobs.nodes import make
from cnet_aihw.jobs.ray_checks import check_measuring
from cnet_aihw.report.attack_tables import attack_columns, attack_rows
from cnet_aihw.report.rows import write_table
from cnet_aihw.runtime.errors import bad_value

if TYPE_CHECKING:
    from torch import nn

    from cnet_aihw.attacks import Attack
    from cnet_aihw.evaluation import ChipCalibration
    from cnet_aihw.jobs.context import JobContext
    from cnet_aihw.jobs.variants import Variant

log = logging.getLogger(__name__)

_TABLE = ("attack-*.json", "config.evaluation.t_inference")
"""Values that say what a table is of, and that its rows share beside their chips."""


def check_attack(job: JobContext) -> None:
    """Check before the first step what the step needs, and what is in the folder.

    Raises:
        CnetError: without an attack, for another task than classification, and for budgets and data
            that are not in pixel units.
    """
    from cnet_aihw.attacks import eps_of, pixel_data
    from cnet_aihw.attacks.base import evasion
    from cnet_aihw.attacks.pixels import check_budget
    from cnet_aihw.jobs.build import check_our_tiles

    method = _method(job)
    check_measuring(job, lambda variant: _attacks(variant, method))
    if job.task.name != "classification":
        raise bad_value("task", job.task.name, "classification, as attacks change classes")
    evasion()
    check_our_tiles(job.config, "job=attack", "choose another rram, such as rram=lognormal")
    settings = job.variants[0].attack
    pixels = pixel_data(job.data, settings.samples)
    for eps in eps_of(settings.eps):
        check_budget(pixels, eps, method.norm, "attack.eps")
    for variant in job.variants:
        checked_records(job, variant, *_TABLE)
        settings = variant.attack
        time = times_of(variant.evaluation.t_inference)[0]
        asked = {
            "evaluation.seed": ("seed", variant.evaluation.seed),
            "evaluation.t_inference": ("t_inference", time),
            "attack.samples": ("data", pixels.part.fingerprint),
            "attack.seed": ("attack_seed", settings.seed),
            "attack.readings": ("readings", settings.readings),
            "attack.eot_chips": ("eot.chips", settings.eot_chips),
            "attack.eot_readings": ("eot.readings", settings.eot_readings),
            **{f"attack.method.{n}": (f"attack.{n}", v) for n, v in asdict(method).items()},
        }
        for suffix in ("", "-compensated"):
            path = _path(job, variant, method, suffix)
            check_records(variant, path.with_suffix(".jsonl"), asked)


def _attacks(variant: Variant, method: Attack) -> int:
    """Return how many attacks the threats and budgets need."""
    from cnet_aihw.attacks import eps_of
    from cnet_aihw.attacks.run import pairs_of, shared_attacks
    from cnet_aihw.attacks.settings import threats_of

    settings = variant.attack
    sources = settings.sources or max(settings.chips, 2)
    pairs = pairs_of(threats_of(settings.threat), eps_of(settings.eps), settings.chips, sources)
    return len(shared_attacks(list(pairs), method.one_run))


def attack(job: JobContext) -> None:
    """Attack each network on the first chips of the evaluation, without and with compensation.

    Records are TRAINING/attack-NAME-NORM.jsonl, the statistics lie beside them; attacks.json is the
    table of all attacks in the folder, also those of earlier commands.
    """
    from cnet_aihw.attacks import compare_attacks, statistics_of

    method = _method(job)
    for variant in job.variants:
        model = prepare(job, variant, trained(job, variant))
        kind = variant.evaluation.calibration
        _attack(job, variant, model, method, calibration_of(job, variant, kind), None)
        described = put_compensation(job, variant, model)
        if described is not None:
            calibration = calibration_with(job, variant, described, kind)
            _attack(job, variant, model, method, calibration, described)
    found = [
        record for variant in job.variants for record in checked_records(job, variant, *_TABLE)
    ]
    title = f"attacks on chips: {found[0]['provenance']['noise_model']}"
    notes = [
        f"{result['training']}, {result['attack']['name']}: {check['sentence']}"
        for result in found
        for check in result["checks"]
        if not check["passed"]
    ]
    for variant in job.variants:
        for compensated in (False, True):
            same = [
                statistics_of(result)
                for result in found
                if result["training"] == variant.name
                and (result["compensation"] is not None) == compensated
            ]
            notes += [
                f"{variant.name}: {c.sentence}" for c in compare_attacks(same) if not c.passed
            ]
    record = {**job_record(job), "rows": attack_rows(found)}
    write_table(
        job.folder / ATTACKS,
        record,
        title,
        attack_columns,
        [*(f"check not passed: {note}" for note in notes), *notes_on_time(job)],
    )


def _method(job: JobContext) -> Attack:
    from cnet_aihw.attacks import Attack

    method = make(job.config.attack.method, "attack.method")
    if not isinstance(method, Attack):
        raise bad_value("attack.method", method, "an attack, such as attack=pgd")
    return method


def _path(job: JobContext, variant: Variant, method: Attack, suffix: str) -> Path:
    """Return the file of an attack's statistics, beside which its records lie."""
    return job.folder_of(variant) / f"attack-{method.name}-{method.norm}{suffix}.json"


def _attack(
    job: JobContext,
    variant: Variant,
    model: nn.Module,
    method: Attack,
    calibration: ChipCalibration | None,
    described: dict[str, Any] | None,
) -> None:
    from cnet_aihw.attacks import attack_chips

    settings, evaluation = variant.attack, variant.evaluation
    path = _path(job, variant, method, "" if described is None else "-compensated")
    found = attack_chips(
        model,
        job.data,
        method,
        settings.threat,
        settings.eps,
        settings.chips,
        evaluation.seed,
        path.with_suffix(".jsonl"),
        samples=settings.samples,
        sources=settings.sources,
        readings=settings.readings,
        eot_chips=settings.eot_chips,
        eot_readings=settings.eot_readings,
        attack_seed=settings.seed,
        checks=settings.checks,
        t_inference=times_of(evaluation.t_inference)[0],
        calibration=calibration,
        device=variant.config.device,
        progress=variant.config.progress,
        ray=variant.ray,
    )
    content = {
        "records": path.with_suffix(".jsonl").name,
        "compensation": None if described is None else described.get("label"),
        "calibration": None if calibration is None else calibration.label(),
        **found.as_record(),
    }
    write_artifact(job, variant, path, content)
    passed = sum(check.passed for check in found.checks)
    log.info(
        "%s of %s%s: %s; %d of %d checks passed",
        *(method.name, variant.name, "" if described is None else " with compensation"),
        ", ".join(
            f"{one.threat} {one.eps:.3g}: {one.mean:.1%}"
            for one in found.successes
            if one.mean is not None
        ),
        *(passed, len(found.checks)),
    )
