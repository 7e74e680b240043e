"""Artifacts of a run: file names, provenance, and loading what earlier steps wrote."""

from __future__ import annotations

import platform
from collections.abc import Collection, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig

from cnet_aihw.jobs.variants import Variant
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.provenance import check_provenance, only, without
from cnet_aihw.runtime.records import read_json, write_json_atomic

if TYPE_CHECKING:
    from torch import Tensor, nn

    from cnet_aihw.jobs.context import JobContext

FORMAT = 2
NETWORK = "network.json"
BEST = "best.safetensors"
RESULT = "result.json"
SCANNED = "scan.json"
SEARCHED = "search.json"
COMPENSATION = "compensation.safetensors"
COMPENSATED = "compensation.json"
MEASURED = "chips.json"
MEASURED_COMPENSATED = "chips-compensated.json"
MEASURED_SELECTED = "chips-selected.json"
SELECTED = "select.json"
TABLE, SEARCHES, DEVICE = "table.json", "searches.json", "device.json"
ATTACKS = "attacks.json"
TUNINGS = "tunings.json"
UNCERTAINTIES = "uncertainties.json"
KERNELS = "kernels.json"

_TRAINED = ("data", "task", "config.training", "config.seed", "config.pretrained")
_SCAN = ("data", "config.model", "config.rram")
_MEASURED = (
    *("data", "task", "device", "config.data", "config.model", "config.rram"),
    *("config.training", "config.evaluation", "config.seed", "config.pretrained"),
)
_UNTOLD = (  # where data lie, how fast it goes, and what a table's rows say themselves
    *("config.data.path", "config.data.root", "config.data.download"),
    *("config.training.compare", "config.training.checkpoint_seconds"),
    *("config.evaluation.chips", "config.evaluation.batch_size"),
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


def refuse_source(job: JobContext, step: str) -> None:
    """Refuse to repeat a step that the run of ``source`` has done.

    Raises:
        CnetError: if ``source`` names another run.
    """
    if job.config.source is not None:
        raise CnetError(
            f"source={job.config.source} names a run whose trained networks and scans are used, "
            f"but this job would {step}; choose job=search, or leave source out.",
            key="source",
            value=job.config.source,
            fix="choose job=search, or leave source out",
        )


def trained_weights(job: JobContext, variant: Variant) -> dict[str, Tensor]:
    """Return the best weights that the step ``train`` left.

    Raises:
        CnetError: where there are none, or they are of other settings; from a source, only of other
            data or another split of them, whose test samples would have been trained on.
    """
    from cnet_aihw.training import load_checkpoint

    folder = job.source_of(variant)
    _check_source(job, variant)
    required(folder / BEST, "train", "trained weights")
    required(folder / NETWORK, "train", "record of a finished training")
    keys = _TRAINED if job.config.source is None else ("data",)
    check(job, variant, folder / NETWORK, keys)
    return load_checkpoint(folder / BEST).model


def trained(job: JobContext, variant: Variant) -> nn.Module:
    """Return a training's network with its best weights, without compensation.

    Raises:
        CnetError: where it was not trained, or on other data or another split of them.
    """
    from cnet_aihw.compensation import remove_compensation
    from cnet_aihw.rram import load_snapshot

    weights = trained_weights(job, variant)
    model = remove_compensation(job.networks[variant.name])
    load_snapshot(model, weights)
    return model


def scan_of(job: JobContext, variant: Variant) -> dict[str, Any] | None:
    """Return the result of the step ``scan``; None where it is missing and not needed.

    Raises:
        CnetError: where the scan decides on the placement, and is missing, or is of another
            network, threshold or mode.
    """
    _check_source(job, variant)
    path = job.source_of(variant) / SCANNED
    if not variant.needs_scan and not path.exists():
        return None
    what = "scan of its layers, and compensation.placement is not given"
    found = read_json(required(path, "scan", what))
    if variant.needs_scan:
        keys = ("config.compensation.threshold", "config.compensation.scan.mode")
        fix = "run job=scan first, which keeps its measurements"
        check(job, variant, path, (*_SCAN, *keys), fix)
    return found


def search_of(job: JobContext, variant: Variant) -> dict[str, Any] | None:
    """Return the result of the step ``search``; None where nothing was, or is to be, searched.

    Raises:
        CnetError: where another limit or corrector was searched.
    """
    path = job.folder_of(variant) / SEARCHED
    if not variant.searches or not path.exists():
        return None
    names = ("limit", "limit_macs", "corrector")
    keys = tuple(f"config.compensation.{name}" for name in names)
    check(job, variant, path, keys, "run job=search first, or give the earlier value")
    result: dict[str, Any] | None = read_json(path)["result"]
    return result


def compensation_folder(job: JobContext, variant: Variant) -> Path:
    """Return the folder of a training's compensation: this run, or its source if only there.

    Where this run searched, its source's is another one.
    """
    here = job.folder_of(variant)
    own = (here / COMPENSATED).exists() or (here / SEARCHED).exists()
    return here if own else job.source_of(variant)


def compensation_of(job: JobContext, variant: Variant) -> dict[str, Any] | None:
    """Return the result of the step ``compensate``; None where it was not asked for.

    With an empty ``placement`` nothing is compensated, and ``reason`` says why. That of a
    source is taken as it is, unless another placement is given.

    Raises:
        CnetError: where another compensation is asked for now.
    """
    folder = compensation_folder(job, variant)
    path = folder / COMPENSATED
    if not (variant.compensation.enabled and path.exists()):
        return None
    if folder == job.folder_of(variant):
        check(job, variant, path, ("compensation",))
    elif variant.placement is not None:
        check(job, variant, path, ("compensation.placement",))
    return read_json(path)


def measured(job: JobContext, variant: Variant, name: str) -> dict[str, Any]:
    """Return measurements on chips that the step ``evaluate`` left.

    Raises:
        CnetError: where there are none, or they are of another network or other chips.
    """
    path = required(job.folder_of(variant) / name, "evaluate", "measurements on chips")
    check(job, variant, path, _MEASURED)
    return read_json(path)


def check(
    job: JobContext,
    variant: Variant,
    path: Path,
    keys: Collection[str],
    fix: str = "give the values of its own command, or take another folder",
) -> None:
    """Check that an artifact was made from what is asked for now.

    Args:
        job: the job.
        variant: the training.
        path: the artifact.
        keys: dotted names in the provenance that must agree.
        fix: what to do otherwise, as a clause.

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
        only(without(of, _UNTOLD), keys) for of in (record["provenance"], provenance(job, variant))
    )
    check_provenance(made, asked, path, f"{fix}: {record['command']}")


def _check_source(job: JobContext, variant: Variant) -> None:
    path, source = job.source_of(variant) / BEST, job.config.source
    if source is not None and not path.exists():
        there = ", ".join(sorted(p.parent.name for p in Path(source).glob(f"*/{BEST}")))
        fix = (
            f"it has {there}, so choose one of them with training=NAME"
            if there
            else "name the folder of an earlier run, in which networks were trained"
        )
        raise CnetError(
            f"source={source} has no training {variant.name!r}; {fix}.",
            key="source",
            value=source,
            expected=there.split(", ") if there else None,
            fix=fix,
        )


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
