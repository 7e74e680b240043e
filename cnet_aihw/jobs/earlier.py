"""Records of earlier commands in a folder, checked before any work for the values asked for now.

Each step refuses records of other values when it comes to them; these checks refuse them before the
first step, by what is known without a trained network.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from cnet_aihw.jobs.artifacts import (
    COMPENSATED,
    FIT,
    MEASURED,
    MEASURED_COMPENSATED,
    MEASURED_SELECTED,
    NETWORK,
    SEARCHED,
    TARGETED,
    check,
)
from cnet_aihw.jobs.loading import check_compensation, check_measured
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.provenance import check_provenance
from cnet_aihw.runtime.records import read_header, read_json

if TYPE_CHECKING:
    from cnet_aihw.jobs.context import JobContext
    from cnet_aihw.jobs.variants import Variant
    from cnet_aihw.training import Distillation

_FIX = "give the earlier value, or another folder"


def training_of(job: JobContext, variant: Variant) -> dict[str, Any]:
    """Return what a training is made from, as arguments of the function that trains."""
    from cnet_aihw.jobs.build import with_noise_model
    from cnet_aihw.jobs.measuring import calibration_in_use

    model = job.networks[variant.name]
    return {
        "model": model,
        "data": job.data,
        "settings": with_noise_model(variant.training, variant.config.training),
        "folder": job.folder_of(variant),
        "task": job.task,
        "calibration": calibration_in_use(job, variant, model),
        "objective": _objective(job, variant),
        "device": variant.config.device,
        "processes": variant.config.processes,
    }


def _objective(job: JobContext, variant: Variant) -> Distillation | None:
    """Return the loss of a training that has a teacher."""
    from cnet_aihw.rram import load_snapshot
    from cnet_aihw.training import Distillation, load_checkpoint
    from cnet_aihw.training.trainer import BEST

    asked = variant.distillation
    if asked.teacher is None:
        return None
    teacher = deepcopy(job.networks[variant.name])
    load_snapshot(teacher, load_checkpoint(job.folder / asked.teacher / BEST).model)
    smoothing = variant.training.label_smoothing
    return Distillation(teacher, asked.share, asked.temperature, job.task, smoothing)


def check_trainings(job: JobContext) -> None:
    """Check that the trainings that were begun in a folder are those asked for, all of them.

    Raises:
        CnetError: names the first value that differs.
    """
    from cnet_aihw.training.begun import RUN, check_begun

    for variant in job.variants:
        if (job.folder_of(variant) / RUN).exists():
            with network_by_name(job, variant):
                check_begun(**training_of(job, variant), initial=variant.start_from is None)


@contextmanager
def network_by_name(job: JobContext, variant: Variant) -> Iterator[None]:
    """Name the value of the configuration that made a network another one inside the block.

    Raises:
        CnetError: names the first value that differs.
    """
    path = job.folder_of(variant) / NETWORK
    try:
        yield
    except CnetError as error:
        key = str(error.key)
        if (key.startswith("model.") or key == "initial_weights") and path.exists():
            check(job, variant, path, ("config.model", "config.rram"))
        raise


def check_scans(job: JobContext) -> None:
    """Check the records of scans that a job is going to extend.

    Raises:
        CnetError: names the first value that differs.
    """
    for variant in job.variants:
        _check_data(job, variant)
        settings = variant.compensation.scan
        for path in sorted(job.folder_of(variant).glob("scan-*.jsonl")):
            asked = {
                "compensation.scan.seed": ("seed", settings.seed),
                "compensation.scan.samples": (
                    "data",
                    job.data.val.first(settings.samples).fingerprint,
                ),
            }
            check_records(variant, path, asked)


def check_searches(job: JobContext) -> None:
    """Check the searches that a job is going to resume or to read.

    Raises:
        CnetError: names the first value that differs.
    """
    from cnet_aihw.jobs.build import build_searcher, drift_time

    for variant in job.variants:
        if not variant.searches:
            continue
        _check_target(job, variant)
        settings, searcher = variant.search, build_searcher(variant.config)
        folder = job.folder_of(variant)
        path = folder / "search" / f"{searcher.name}-seed{settings.seed}" / SEARCHED
        if not path.exists():
            continue
        stored = read_json(path)
        least = stored.get("budget", 0)
        if settings.budget < least:
            expected = f"at least {least}, as the search in {path.parent} had"
            raise bad_value("search.budget", settings.budget, expected, "or give another folder")
        asked = {
            **{
                f"search.searcher.{n}": (f"searcher.{n}", v)
                for n, v in asdict(cast(Any, searcher)).items()
            },
            "search.chips": ("evaluator.measurement.chips", settings.chips),
            "search.chips_seed": ("evaluator.measurement.seed", settings.chips_seed),
            "rram.t_inference": ("evaluator.measurement.t_inference", drift_time(variant.config)),
        }
        _check_values(path, stored.get("search", {}), asked)
        if (folder / SEARCHED).exists():
            made = read_json(folder / SEARCHED)
            found, earlier = made.get("result") or {}, made.get("provenance", {}).get("config", {})
            same_search = (found.get("searcher"), found.get("seed")) == (
                searcher.name,
                settings.seed,
            )
            if same_search and earlier:
                names = ("corrector", "limit", "limit_macs", variant.compensation.fit)
                keys = [f"config.compensation.{name}" for name in names]
                check(
                    *(job, variant, folder / SEARCHED, [*keys, "config.search"], _FIX),
                    but=["config.search.budget"],
                )


def check_compensations(job: JobContext) -> None:
    """Check the compensations that a job is going to resume, and what was measured with them.

    Raises:
        CnetError: names the first value that differs.
    """
    from cnet_aihw.jobs.build import with_noise_model
    from cnet_aihw.training.begun import RUN
    from cnet_aihw.training.run_identity import describe_settings

    larger = ("config.search.budget",)  # a smaller one is refused by the search
    for variant in job.variants:
        if not variant.compensation.enabled:
            continue
        folder = job.folder_of(variant)
        left = folder / COMPENSATED
        if left.exists() and read_json(left)["placement"]:
            check_compensation(job, variant, left, larger)
        _check_target(job, variant)
        if (folder / MEASURED_COMPENSATED).exists():
            check_compensation(job, variant, folder / MEASURED_COMPENSATED, larger)
        run = folder / FIT / RUN
        if variant.compensation.fit == "shared" and run.exists():
            fit = with_noise_model(variant.compensation.shared, variant.config.compensation.shared)
            asked = describe_settings(fit)
            del asked["freeze_batchnorm"]  # set by the fit
            made = read_json(run).get("provenance", {}).get("training", {})
            _check_values(
                run, made, {f"compensation.shared.{n}": (n, asked[n]) for n in asked if n in made}
            )


def _check_target(job: JobContext, variant: Variant) -> None:
    """Check the choice of what correctors aim at, which searches and fits read."""
    path = job.folder_of(variant) / TARGETED
    if path.exists():
        check(job, variant, path, ("compensation", "config.rram"), _FIX)


def check_chips(job: JobContext) -> None:
    """Check the records of chips that a job is going to extend.

    Raises:
        CnetError: names the first value that differs.
    """
    from cnet_aihw.jobs.measuring import calibration_of

    for variant in job.variants:
        _check_data(job, variant)
        folder, evaluation = job.folder_of(variant), variant.evaluation
        asked: dict[str, tuple[str, Any]] = {
            "evaluation.seed": ("seed", evaluation.seed),
            "evaluation.samples": ("data", job.data.test.fingerprint),
        }
        for name in (MEASURED, MEASURED_COMPENSATED):
            records = (folder / name).with_suffix(".jsonl")
            if records.exists():
                check_records(variant, records, asked)
                if (folder / name).exists():
                    keys = ["config.rram"]
                    check(job, variant, folder / name, keys, _FIX, but=["config.rram.t_inference"])
        records = (folder / MEASURED).with_suffix(".jsonl")
        if records.exists():
            calibration = calibration_of(job, variant, evaluation.calibration)
            mark = None if calibration is None else calibration.fingerprint()
            check_records(variant, records, {"evaluation.calibration": ("calibration", mark)})


def check_selections(job: JobContext) -> None:
    """Check the records of candidates that a job is going to extend.

    Raises:
        CnetError: names the first value that differs.
    """
    from cnet_aihw.jobs.measuring import calibration_of

    for variant in job.variants:
        _check_data(job, variant)
        folder, settings = job.folder_of(variant), variant.select
        for path in sorted(folder.glob("select-*.jsonl")):
            asked = {
                "select.seed": ("seed", settings.seed),
                "select.samples": ("data", job.data.val.first(settings.samples).fingerprint),
            }
            check_records(variant, path, asked)
        for kind in settings.calibrations:
            path = folder / f"select-plain-{kind}.jsonl"
            if kind != "none" and path.exists():
                calibration = calibration_of(job, variant, kind)
                assert calibration is not None
                mark = calibration.fingerprint()
                check_records(
                    variant, path, {"evaluation.calibration_samples": ("calibration", mark)}
                )
        for path in sorted(folder.glob("chips-selected-*.jsonl")):
            check_records(variant, path, {"evaluation.seed": ("seed", variant.evaluation.seed)})


def check_tables(job: JobContext) -> None:
    """Check the measurements of a table that the job does not make again before.

    Raises:
        CnetError: names the first value that differs.
    """
    for variant in job.variants:
        names = {MEASURED, MEASURED_COMPENSATED, MEASURED_SELECTED}
        if _has_step(job, "steps.evaluate"):
            names -= {MEASURED, MEASURED_COMPENSATED}
        if _has_step(job, "steps_select.evaluate_selected"):
            names -= {MEASURED_SELECTED, *([MEASURED] if variant.name == "plain" else [])}
        for name in sorted(names):
            if (job.folder_of(variant) / name).exists():
                check_measured(job, variant, name)


def _check_data(job: JobContext, variant: Variant) -> None:
    """Check the data of a folder's training, before samples of other data seem another number."""
    path = job.folder_of(variant) / NETWORK
    if path.exists():
        check(job, variant, path, ["config.data", "data"], _FIX)


def check_records(variant: Variant, path: Path, asked: Mapping[str, tuple[str, Any]]) -> None:
    """Check that records were made from the values asked for now, by their header alone.

    The batch size and the device count wherever they are in the header.

    Args:
        variant: the training.
        path: the records; nothing is checked where there are none.
        asked: key of the configuration -> dotted name in the header's provenance, and the value.

    Raises:
        CnetError: names the first value that differs.
    """
    from cnet_aihw.runtime.torch_device import resolve_device

    made = read_header(path)
    if made is None:
        return
    device = resolve_device(variant.config.device).type
    more: dict[str, tuple[str, Any]] = {"device": ("device", device)}
    if made.get("batch_size") is not None:
        more["evaluation.batch_size"] = ("batch_size", variant.evaluation.batch_size)
    _check_values(path, made, {**asked, **more})


def _check_values(
    path: Path, made: Mapping[str, Any], asked: Mapping[str, tuple[str, Any]]
) -> None:
    """Compare values with those of a nested record that has them, under the names of the job."""
    found = {key: value for key, (name, _) in asked.items() for value in _values(made, name)}
    wanted = {key: _as_read(value) for key, (_, value) in asked.items() if key in found}
    check_provenance(found, wanted, path, _FIX)


def _as_read(value: Any) -> Any:
    """Return a value as a file gives it back."""
    return json.loads(json.dumps(value))


def _values(made: Any, name: str) -> list[Any]:
    """Return the value of a dotted name in a nested record; nothing where there is none."""
    for part in name.split("."):
        if not isinstance(made, Mapping) or part not in made:
            return []
        made = made[part]
    return [made]


def _has_step(job: JobContext, name: str) -> bool:
    return f"cnet_aihw.jobs.{name}" in job.config.job.steps
