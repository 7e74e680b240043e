"""A job of a sweep in a process of Ray, and the actor that knows how far the jobs are."""

from __future__ import annotations

import os
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from omegaconf import DictConfig, OmegaConf

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.locks import locked
from cnet_aihw.runtime.progress import reported_to

_EVERY = 0.5  # seconds between two reports of a job
_LOCK_SECONDS = 30.0  # for the process of a machine that died to be gone


@dataclass
class Job:
    """One job of a sweep."""

    number: int
    """Its number."""

    name: str
    """Its name: the words of its command line that differ from the others'."""

    config: DictConfig
    """Its configuration, with Hydra's own part."""


class JobStates:
    """Actor that holds how far each job is."""

    def __init__(self) -> None:
        self._news: dict[int, dict[str, Any]] = {}

    def report(self, number: int, state: dict[str, Any]) -> None:
        """Take in how far a job is."""
        self._news[number] = {**self._news.get(number, {}), **state}

    def news(self) -> dict[int, dict[str, Any]]:
        """Return what has changed since the last call."""
        found, self._news = self._news, {}
        return found


def run_in_worker(job: Job, shared: Any, states: Any) -> JobReturn:
    """Run a job of a sweep in this process, as Hydra's basic launcher would.

    Args:
        job: the job.
        shared: Hydra's context, the task, Hydra's singletons and the folder of the command.
        states: the actor that holds how far the jobs are.

    Returns:
        What the job returned, or its error.

    Raises:
        CnetError: if the folder of the command is not on this machine.
    """
    from hydra.core.singleton import Singleton

    import cnet_aihw.jobs.sweep  # noqa: F401  registers the names of a sweep's folders
    from cnet_aihw.jobs.schema import register_schema

    context, task_function, singletons, folder = shared
    _enter(folder)
    register_schema()
    setup_globals()
    Singleton.set_state(singletons)
    states.report.remote(job.number, {"state": "running", "started": time.time()})
    results = Path(str(job.config.hydra.sweep.dir)) / str(
        OmegaConf.select(job.config, "hydra.sweep.subdir")
    )
    with locked(results, "job", _LOCK_SECONDS):  # until an earlier process of this job is gone
        pass
    reporter = _Reporter(job.number, states)
    with reported_to(reporter):
        found = run_job(
            hydra_context=context,
            task_function=task_function,
            config=job.config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
    return _sendable(found)


class _Reporter:
    """Reports a job's progress, a few times a second at most."""

    def __init__(self, number: int, states: Any) -> None:
        self._number, self._states, self._last = number, states, 0.0

    def __call__(self, what: str, done: float, total: float, text: str) -> None:
        now = time.monotonic()
        if now - self._last >= _EVERY:
            self._last = now
            state = {"what": what, "done": done, "total": total, "text": text}
            self._states.report.remote(self._number, state)


def _enter(folder: str) -> None:
    """Work in the folder of the command, where its networks and data are."""
    try:
        os.chdir(folder)
    except OSError as error:
        raise CnetError(
            f"{folder} is not on this machine of the cluster ({error.strerror}); sweep in a folder "
            "that all machines share.",
            key="run",
            value=folder,
            expected="a folder that all machines share",
        ) from error
    if folder not in sys.path:
        sys.path.append(folder)


def _sendable(found: JobReturn) -> JobReturn:
    """Return a job's result with an error that can be sent."""
    from ray import cloudpickle

    if found.status == JobStatus.FAILED:
        error = found._return_value
        where = "In its process:\n" + "".join(traceback.format_exception(error))
        try:
            cloudpickle.loads(cloudpickle.dumps(error))
        except Exception:  # whatever a library's exception does when it is copied
            error = found.return_value = RuntimeError(f"{type(error).__name__}: {error}")
        if not isinstance(error, CnetError):  # whose sentence says all
            error.add_note(where)  # traces are not sent
    return found
