"""Records of earlier steps in a folder or a source, checked against what is asked for now."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnet_aihw.jobs.artifacts import (
    BEST,
    COMPENSATED,
    MEASURED_COMPENSATED,
    NETWORK,
    SCANNED,
    SEARCHED,
    check,
    required,
)
from cnet_aihw.jobs.variants import Variant
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import read_json

if TYPE_CHECKING:
    from torch import Tensor, nn

    from cnet_aihw.jobs.context import JobContext

_TRAINED = ("data", "task", "config.training", "config.seed", "config.pretrained")
_SCAN = ("data", "config.model", "config.rram")
_MEASURED = (
    *("data", "task", "device", "config.data", "config.model", "config.rram"),
    *("config.training", "config.evaluation", "config.seed", "config.pretrained"),
)
_OF_CHIPS = (
    *("data", "task", "device", "config.data", "config.model", "config.rram"),
    *("config.training", "config.evaluation.seed", "config.seed", "config.pretrained"),
)


def refuse_source(job: JobContext, step: str) -> None:
    """Refuse to repeat a step that the run of ``source`` has done.

    Raises:
        CnetError: if ``source`` names another run.
    """
    if job.config.source is not None:
        fix = "choose a job that uses them, such as job=search or job=evaluate, or leave source out"
        raise CnetError(
            f"source={job.config.source} names a run whose trained networks and scans are used, "
            f"but this job would {step}; {fix}.",
            key="source",
            value=job.config.source,
            fix=fix,
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
    keys = (*_TRAINED, "config.model", "config.rram") if job.config.source is None else ("data",)
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
    """Return the result of the step ``search``; None where nothing is to be searched, or could be.

    Raises:
        CnetError: where nothing was searched yet, or something else was.
    """
    if not variant.searches:
        return None
    path = required(
        job.folder_of(variant) / SEARCHED,
        "search",
        "search for its placement, and search.searcher is given",
    )
    names = ("limit", "limit_macs", "corrector")
    keys = (*(f"config.compensation.{name}" for name in names), "config.search", "config.rram")
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
        check_compensation(job, variant, path)
    elif variant.placement is not None:
        check(job, variant, path, ("compensation.placement",))
    return read_json(path)


def measured(job: JobContext, variant: Variant, name: str) -> dict[str, Any]:
    """Return measurements on chips that the step ``evaluate`` left.

    Raises:
        CnetError: where there are none, or they are of another network or other chips.
    """
    check_measured(job, variant, name)
    path = job.folder_of(variant) / name
    record = read_json(path)
    if name == MEASURED_COMPENSATED:
        placed = (compensation_of(job, variant) or {}).get("placement")
        if record["compensation"]["placement"] != placed:
            fix = f"delete it and {path.with_suffix('.jsonl').name}, and run job=evaluate"
            raise CnetError(
                f"{path} was measured with another placement than {COMPENSATED} has; {fix}.",
                key="placement",
                value=record["compensation"]["placement"],
                expected=placed,
                fix=fix,
            )
    return record


def check_measured(job: JobContext, variant: Variant, name: str) -> None:
    """Check measurements on chips that the step ``evaluate`` left.

    Raises:
        CnetError: where there are none, or they are of another network or other chips.
    """
    path = required(job.folder_of(variant) / name, "evaluate", "measurements on chips")
    check(job, variant, path, _MEASURED)


def check_compensation(
    job: JobContext, variant: Variant, path: Path, but: Collection[str] = ()
) -> None:
    """Check that an artifact is of the compensation asked for now, and of the search for it.

    Args:
        job: the job.
        variant: the training.
        path: the artifact.
        but: dotted names in the provenance that may differ.

    Raises:
        CnetError: names the first difference.
    """
    check(job, variant, path, ("compensation",))
    searched = read_json(path)["provenance"]["config"].get("search", {}).get("searcher")
    if variant.placement is None and (variant.searches or searched is not None):
        check(job, variant, path, ("config.search",), but=but)


def checked_records(
    job: JobContext, variant: Variant, pattern: str, *more: str
) -> list[dict[str, Any]]:
    """Return the artifacts of a table that several commands make, all of the same chips.

    Args:
        job: the job.
        variant: the training.
        pattern: names of the artifacts.
        more: further dotted names in the provenance that must agree.

    Raises:
        CnetError: names the first difference of one of them.
    """
    paths = sorted(job.folder_of(variant).glob(pattern), key=lambda path: path.stem)
    found = [read_json(path) for path in paths]
    for path, record in zip(paths, found, strict=True):
        check(job, variant, path, (*_OF_CHIPS, *more))
        if record.get("compensation") is not None:
            check(job, variant, path, ("compensation",))
    return found


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
