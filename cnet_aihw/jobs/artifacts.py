"""Artifacts of a run: their names and provenance, and the check against what is asked for now."""

from __future__ import annotations

import platform
from collections.abc import Collection, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig

from cnet_aihw.jobs.schema import Config
from cnet_aihw.jobs.variants import Variant
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.provenance import check_provenance, default_values, only, without
from cnet_aihw.runtime.records import read_json, write_json_atomic

if TYPE_CHECKING:
    from cnet_aihw.jobs.context import JobContext

FORMAT = 2
NETWORK = "network.json"
BEST = "best.safetensors"
RESULT = "result.json"
SCANNED = "scan.json"
SEARCHED = "search.json"
TARGETED = "target.json"
COMPENSATION = "compensation.safetensors"
COMPENSATED = "compensation.json"
FIT = "compensation"  # the folder of a shared fit
MEASURED = "chips.json"
MEASURED_COMPENSATED = "chips-compensated.json"
MEASURED_SELECTED = "chips-selected.json"
SELECTED = "select.json"
TABLE, SEARCHES, DEVICE = "table.json", "searches.json", "device.json"
ATTACKS = "attacks.json"
TUNINGS = "tunings.json"
UNCERTAINTIES = "uncertainties.json"
KERNELS = "kernels.json"

_UNTOLD = (  # where data lie, how fast it goes, and what a table's rows say themselves
    *("config.data.path", "config.data.root", "config.data.download"),
    *("config.training.compare", "config.training.checkpoint_seconds"),
    *("config.evaluation.chips", "config.evaluation.batch_size", "config.search.store"),
)


def provenance(job: JobContext, variant: Variant) -> dict[str, Any]:
    """Return what the artifacts of one training are made from, as one nested record."""
    from cnet_aihw.jobs.nodes import make, plain_values
    from cnet_aihw.rram import label_of
    from cnet_aihw.runtime.torch_device import resolve_device
    from cnet_aihw.tasks import describe_task

    choices = HydraConfig.get().runtime.choices
    fingerprint = job.data.fingerprint  # loads the data, which fill the node inputs
    config = plain_values(variant.config)
    if not config["rram"].get("per_layer", True):  # none: as in runs from before there was the key
        del config["rram"]["per_layer"]
    return {
        "training": variant.name,
        "task": describe_task(job.task),
        "data": {"fingerprint": fingerprint},
        "device": resolve_device(variant.config.device).type,
        "choices": {group: choices[group] for group in ("data", "model", "rram")},
        "noise_model": label_of(
            make(variant.config.rram.rpu_config, "rram.rpu_config").noise_model
        ),
        "compensation": _compensation(variant),
        "config": config,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("cnet_aihw", "aihwkit", "torch", "numpy")},
        },
    }


def job_record(job: JobContext) -> dict[str, Any]:
    """Return how a record about all trainings of a job begins: format, command, task, metric."""
    from cnet_aihw.jobs.nodes import plain_values

    return {
        "format": FORMAT,
        "command": job.command,
        "task": plain_values(job.config.task),
        "metric": job.task.metric,
        "higher_is_better": job.task.higher_is_better,
    }


def write_artifact(
    job: JobContext, variant: Variant, path: Path, content: Mapping[str, Any]
) -> None:
    """Write one artifact of a training with its provenance and command."""
    head = {
        "format": FORMAT,
        "training": variant.name,
        "command": job.command,
        "provenance": provenance(job, variant),
    }
    write_json_atomic(path, {**head, **content})


def required(path: Path, step: str, what: str) -> Path:
    """Return the path of a file that an earlier step wrote.

    Raises:
        CnetError: if it is missing; names the step that writes it.
    """
    if not path.exists():
        fix = f"run job={step} first, or name the folder of an earlier run with run=FOLDER"
        raise CnetError(
            f"{path.parent} has no {what} ({path.name}); {fix}.",
            key=path.name,
            expected=what,
            fix=fix,
        )
    return path


def check(
    job: JobContext,
    variant: Variant,
    path: Path,
    keys: Collection[str],
    fix: str = "give the values of its own command, or take another folder",
    but: Collection[str] = (),
) -> None:
    """Check that an artifact was made from what is asked for now.

    Args:
        job: the job.
        variant: the training.
        path: the artifact.
        keys: dotted names in the provenance that must agree.
        fix: what to do otherwise, as a clause.
        but: dotted names in the provenance that may differ all the same.

    Raises:
        CnetError: names the first difference.
    """
    record = read_json(path)
    if "provenance" not in record:
        raise CnetError(
            f"{path} is of an earlier version, of which reports can be made but no results; train "
            "in another folder.",
            key=str(path),
        )
    made, asked = (
        only(without(of, (*_UNTOLD, *but)), keys)
        for of in (record["provenance"], provenance(job, variant))
    )
    defaults = default_values(Config)
    absent = {"config": defaults, "compensation": defaults["compensation"]}
    check_provenance(made, asked, path, f"{fix}: {record['command']}", absent)


def _compensation(variant: Variant) -> dict[str, Any] | None:
    """Return what determines a compensation: its placement, or what led to one."""
    from cnet_aihw.jobs.nodes import plain_values

    settings, config = variant.compensation, variant.config.compensation
    if not settings.enabled:
        return None
    placement = variant.placement
    found: dict[str, Any] = {
        "corrector": plain_values(config.corrector),
        "fit": settings.fit,
        settings.fit: plain_values(config[settings.fit]),
        "placement": None if placement is None else {n: r for n, r in placement.items() if r},
    }
    if placement is None:
        found |= {name: getattr(settings, name) for name in ("limit", "limit_macs", "fill")}
    if not variant.per_chip and settings.shared.batchnorm == "per_chip":
        found["calibration_samples"] = settings.calibration_samples
    return found
