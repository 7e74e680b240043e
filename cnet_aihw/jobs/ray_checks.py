"""Checks before the first training of what later steps will need: Ray, and a search's store."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cnet_aihw.jobs.artifacts import SEARCHED
from cnet_aihw.jobs.nodes import plain_values
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.provenance import without
from cnet_aihw.runtime.records import read_json

if TYPE_CHECKING:
    from cnet_aihw.jobs.context import JobContext
    from cnet_aihw.jobs.variants import Variant


def check_measuring(job: JobContext, tasks: Callable[[Variant], int]) -> None:
    """Check that the workers that a job measures chips with will be able to start.

    Args:
        job: the job.
        tasks: how many tasks workers get with the network of a training, at most; a single one is
            done without them.

    Raises:
        CnetError: where Ray cannot do what is asked of it, or workers cannot be given a network.
    """
    for variant in job.variants:
        if variant.ray.workers:
            _check_ray(job, variant, 0)
            if tasks(variant) > 1:
                _check_sent(job, variant)


def check_searching(job: JobContext) -> None:
    """Check that the searches of a job will be able to run on this machine.

    A search that is done is only read, so that nothing is asked of the machine.

    Raises:
        CnetError: where Ray cannot do what is asked of it, workers cannot be given a network, or
            the store cannot be written to.
    """
    from cnet_aihw.jobs.build import build_searcher

    for variant in job.variants:
        if not variant.searches or _is_searched(job, variant):
            continue
        _check_store(Path(variant.search.store))
        searcher = build_searcher(variant.config)
        if variant.ray.workers or getattr(searcher, "needs_ray", False):
            _check_ray(job, variant, int(getattr(searcher, "num_env_runners", 0)))
        if variant.ray.workers:
            _check_sent(job, variant)


def _is_searched(job: JobContext, variant: Variant) -> bool:
    """Say whether the search that is asked for is done; not so one with a smaller budget."""
    path = job.folder_of(variant) / SEARCHED
    if not path.exists():
        return False
    made = read_json(path).get("provenance", {}).get("config", {}).get("search")
    asked = plain_values(variant.config.search)
    return made is not None and without(made, ["store"]) == without(asked, ["store"])


def _check_sent(job: JobContext, variant: Variant) -> None:
    """Check that workers can be given the network."""
    from cnet_aihw.cluster.sending import check_sendable

    check_sendable("model", job.networks[variant.name], "ray.workers=0")


def _check_ray(job: JobContext, variant: Variant, runners: int) -> None:
    from cnet_aihw.cluster.machine import check_ray
    from cnet_aihw.runtime.torch_device import resolve_device

    asked = variant.ray, runners, resolve_device(variant.config.device).type == "cuda"
    if asked not in job.checked:
        check_ray(*asked)
        job.checked.append(asked)


def _check_store(folder: Path) -> None:
    """Check that the folder can be written to, or made."""
    nearest = folder.absolute()
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not (nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK, effective_ids=True)):
        raise CnetError(
            f"search.store={folder} cannot be written to ({nearest}); give another folder.",
            key="search.store",
            value=str(folder),
            expected="a folder on a local disk that can be written to",
            fix="give another folder",
        )
