"""Steps of the choice among trained networks: select, evaluate_selected."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cnet_aihw.jobs.artifacts import (
    MEASURED,
    MEASURED_SELECTED,
    SELECTED,
    job_record,
    provenance,
    required,
)
from cnet_aihw.jobs.config_checks import check_chips_differ
from cnet_aihw.jobs.earlier import check_selections
from cnet_aihw.jobs.loading import trained
from cnet_aihw.jobs.measuring import (
    calibration_of,
    calibration_with,
    is_per_chip,
    measure,
    notes_on_time,
    prepare,
    put_compensation,
)
from cnet_aihw.jobs.ray_checks import check_measuring
from cnet_aihw.report.rows import selection_columns, write_table
from cnet_aihw.runtime.records import read_json

if TYPE_CHECKING:
    from torch import nn

    from cnet_aihw.evaluation import ChipCalibration
    from cnet_aihw.jobs.context import JobContext
    from cnet_aihw.jobs.variants import Variant

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Candidate:
    """A network with a calibration."""

    variant: Variant
    model: nn.Module
    compensation: Mapping[str, Any] | None
    kind: str
    calibration: ChipCalibration | None

    @property
    def label(self) -> str:
        compensated = "plain" if self.compensation is None else "compensated"
        return f"{compensated}-{self.kind}"


def check_select(job: JobContext) -> None:
    """Check before the first step what the step needs, and what is in the folder.

    Raises:
        CnetError: also where the same chips would choose and judge.
    """
    check_measuring(job, lambda variant: variant.select.chips)
    for variant in job.variants:
        check_chips_differ(
            "select.seed", variant.select.seed, {"evaluation.seed": variant.evaluation.seed}
        )
    check_selections(job)


def select(job: JobContext) -> None:
    """Measure all networks with all calibrations on validation chips, and write the best one.

    Candidates are the trained networks without and with compensation. The best mean score among
    those within ``select.limit`` (weights) and ``select.limit_macs`` is chosen. The test part is
    not used.
    """
    from cnet_aihw.compensation import overheads
    from cnet_aihw.compensation.cost import is_within
    from cnet_aihw.evaluation import evaluate_chips
    from cnet_aihw.tasks import is_better

    settings = job.variants[0].select
    rows: list[dict[str, Any]] = []
    chosen: dict[str, Any] | None = None
    for candidate in _candidates(job):
        variant = candidate.variant
        cost = overheads(
            candidate.model, job.example, candidate.calibration, candidate.compensation
        )
        weights, macs = cost["overhead_weights"] or 0.0, cost["overhead_macs"] or 0.0
        unknown = cost["digital"]["unknown_macs"]  # no limit holds what is not known
        row = {
            "training": variant.name,
            "compensation": (candidate.compensation or {}).get("label"),
            "calibration": cost["calibration"]["label"],
            "calibration_kind": candidate.kind,
            "overhead_weights": weights,
            "overhead_macs": macs,
            "allowed": is_within(weights, settings.limit)
            and (settings.limit_macs is None or not unknown)
            and is_within(macs, settings.limit_macs),
        }
        if row["allowed"]:
            found = evaluate_chips(
                candidate.model,
                job.data.val.first(settings.samples),
                task=job.task,
                chips=settings.chips,
                seed=settings.seed,
                batch_size=variant.evaluation.batch_size,
                t_inference=_first_time(variant),
                calibration=candidate.calibration,
                records=job.folder_of(variant) / f"select-{candidate.label}.jsonl",
                device=variant.config.device,
                progress=variant.config.progress,
                ray=variant.ray,
            )
            row |= {name: getattr(found, name) for name in ("mean", "std", "q05", "chips")}
            if chosen is None or is_better(job.task, found.mean, chosen["mean"]):
                chosen = row
        rows.append(row)
    record = {
        **job_record(job),
        "provenance": {v.name: provenance(job, v) for v in job.variants},
        "chosen": chosen,
        "rows": rows,
    }
    title = "candidates, on validation chips of their own"
    write_table(job.folder / SELECTED, record, title, selection_columns, notes_on_time(job))
    if chosen is not None:
        words = (chosen[name] for name in ("training", "compensation", "calibration"))
        log.info("selected: %s", ", ".join(filter(None, words)))


def evaluate_selected(job: JobContext) -> None:
    """Measure the selected network with its calibration on the test part, and the plain one."""
    chosen = read_json(required(job.folder / SELECTED, "select", "selection"))["chosen"]
    for old in job.folder.glob(f"*/{MEASURED_SELECTED}"):
        old.unlink()
    for variant in job.variants:
        if variant.name == "plain":  # what the recovery refers to
            model = prepare(job, variant, trained(job, variant))
            asked = calibration_of(job, variant, variant.evaluation.calibration)
            measure(job, variant, model, MEASURED, asked)
    for candidate in _candidates(job):
        row = {
            "training": candidate.variant.name,
            "compensation": (candidate.compensation or {}).get("label"),
            "calibration_kind": candidate.kind,
        }
        if chosen is not None and all(chosen[name] == value for name, value in row.items()):
            measure(
                job,
                candidate.variant,
                candidate.model,
                MEASURED_SELECTED,
                candidate.calibration,
                candidate.compensation,
                records=f"chips-selected-{candidate.label}.jsonl",
            )


def _candidates(job: JobContext) -> Iterator[_Candidate]:
    """Yield each network without, then with compensation, with each calibration it can have."""
    from cnet_aihw.evaluation.calibration import running_batchnorms

    for variant in job.variants:
        model = prepare(job, variant, trained(job, variant))
        kinds = [
            kind
            for kind in variant.select.calibrations
            if kind != "batchnorm" or running_batchnorms(model)
        ]
        for kind in kinds:
            yield _Candidate(variant, model, None, kind, calibration_of(job, variant, kind))
        described = put_compensation(job, variant, model)
        if described is None:
            continue
        for kind in kinds:
            if kind != "none" and (  # fitted for one calibration alone, or it is part of the fit
                described["calibration_samples"] is not None
                or (is_per_chip(described) and kind != "batchnorm")
            ):
                continue
            calibration = calibration_with(job, variant, described, kind)
            yield _Candidate(variant, model, described, kind, calibration)


def _first_time(variant: Variant) -> float | None:
    from cnet_aihw.evaluation.settings import times_of

    return times_of(variant.evaluation.t_inference)[0]
