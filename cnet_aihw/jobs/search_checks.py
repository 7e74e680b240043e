"""Checks before the first training of what a search will need at its end: Ray, and its store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from cnet_aihw.jobs.artifacts import SEARCHED
from cnet_aihw.runtime.errors import CnetError

if TYPE_CHECKING:
    from cnet_aihw.jobs.context import JobContext


def check_search(job: JobContext) -> None:
    """Check that the searches of a job will be able to run on this machine.

    A search that is done is only read, so that nothing is asked of the machine.

    Raises:
        CnetError: where Ray cannot do what is asked of it, or the store cannot be written to.
    """
    from cnet_aihw.jobs.build import build_searcher
    from cnet_aihw.runtime.torch_device import resolve_device

    for variant in job.variants:
        if not variant.searches or (job.folder_of(variant) / SEARCHED).exists():
            continue
        _check_store(Path(variant.search.store))
        searcher = build_searcher(variant.config)
        if variant.ray.workers or getattr(searcher, "needs_ray", False):
            from cnet_aihw.search.rllib.machine import check_ray

            runners = int(getattr(searcher, "num_env_runners", 0))
            on_cuda = resolve_device(variant.config.device).type == "cuda"
            check_ray(variant.ray, runners, on_cuda)


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
