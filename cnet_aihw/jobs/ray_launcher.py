"""Launcher of sweeps on Ray: each job is a task, on one machine or on those of a cluster."""

from __future__ import annotations

import logging
import os
import sys
import types
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import (
    JobReturn,
    JobStatus,
    configure_log,
    filter_overrides,
    setup_globals,
)
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from cnet_aihw.jobs.folders import typed_folder
from cnet_aihw.jobs.ray_job import Job, JobStates, run_in_worker
from cnet_aihw.jobs.sweep_screen import DONE, FAILED, sweep_screen
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.stopping import Stop
from cnet_aihw.runtime.values import check_count, is_number

_LOOK = 1.0  # seconds between looks at the jobs
_PREFIX = "hydra.launcher."

log = logging.getLogger(__name__)


class RayJobs(Launcher):
    """Runs the jobs of a sweep side by side; ``ray`` of the configuration says where.

    A job whose process or machine dies is run again, and resumes in its folder; folders must lie
    where all machines see them.

    Args:
        cpus_per_job: CPUs of each job, above 0.
        gpus_per_job: GPUs of each job, at least 0; shares such as 0.5 put several jobs on one GPU.
        retries: how often a job is run again when its process or machine dies.
    """

    __module__ = "hydra_plugins.cnet_aihw"

    stop: ClassVar[Stop] = Stop()
    """State of the command, whose message says how to resume."""

    def __init__(
        self, cpus_per_job: float = 1.0, gpus_per_job: float = 0.0, retries: int = 3
    ) -> None:
        self.cpus_per_job, self.gpus_per_job = cpus_per_job, gpus_per_job
        self.retries = retries
        self.config: DictConfig
        self.hydra_context: HydraContext
        self.task_function: TaskFunction

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what the jobs need."""
        self.hydra_context, self.task_function = hydra_context, task_function
        self.config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run jobs; return what each returned, or its error, in their order.

        Args:
            job_overrides: the command line of each job.
            initial_job_idx: number of the first one.

        Raises:
            CnetError: for impossible values, and where Ray cannot do what is asked of it.
        """
        self._check()
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        folder = str(self.config.hydra.sweep.dir)
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.stop.message = f"stopped; the same command with {typed_folder(folder)} resumes it."
        jobs = [
            self._job(initial_job_idx + number, overrides, name)
            for number, (overrides, name) in enumerate(
                zip(job_overrides, job_names(job_overrides), strict=True)
            )
        ]
        return _run(jobs, self) if jobs else []

    def _check(self) -> None:
        if not (is_number(self.cpus_per_job) and self.cpus_per_job > 0):
            raise bad_value(f"{_PREFIX}cpus_per_job", self.cpus_per_job, "a number above 0")
        if not (is_number(self.gpus_per_job) and self.gpus_per_job >= 0):
            raise bad_value(f"{_PREFIX}gpus_per_job", self.gpus_per_job, "0 or more")
        check_count(f"{_PREFIX}retries", self.retries, 0)

    def _job(self, number: int, overrides: Sequence[str], name: str) -> Job:
        words = list(overrides)
        config = self.hydra_context.config_loader.load_sweep_config(self.config, words)
        workers = OmegaConf.select(config, "ray.workers")
        if workers:
            fix = "or leave hydra/launcher out, so that each job has all workers in turn"
            expected = "0 with hydra/launcher=ray_jobs, whose jobs would wait for each other"
            raise bad_value("ray.workers", workers, expected, fix)
        with open_dict(config):
            config.hydra.job.id = number
            config.hydra.job.num = number
        return Job(number, name, config)


def job_names(job_overrides: Sequence[Sequence[str]]) -> list[str]:
    """Return the name of each job: the words that not all jobs have, joined by commas."""
    listed = [filter_overrides(list(words)) for words in job_overrides]
    shared = set(listed[0]).intersection(*listed) if len(listed) > 1 else set()
    return [",".join(word for word in words if word not in shared) or "job" for words in listed]


@dataclass
class _Running:
    """A job and the reference to its result."""

    job: Job
    ref: Any


def _run(jobs: Sequence[Job], launcher: RayJobs) -> list[JobReturn]:
    """Start Ray, run all jobs, and show how far they are."""
    from cnet_aihw.cluster.session import NAMESPACE, check_cpus, check_gpus, start_ray

    settings: Any = OmegaConf.to_object(launcher.config.ray)
    if settings.address is not None:
        settings.num_cpus = None
    start_ray(settings)
    check_cpus(launcher.cpus_per_job, "a job")
    check_gpus(launcher.gpus_per_job)
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    states: Any = ray.remote(JobStates).options(
        num_cpus=0, namespace=NAMESPACE, scheduling_strategy=here
    )
    states = states.remote()
    options = {
        "num_cpus": launcher.cpus_per_job,
        "num_gpus": launcher.gpus_per_job,
        "max_retries": launcher.retries,
        "scheduling_strategy": "SPREAD",
    }
    shared = ray.put(
        (launcher.hydra_context, launcher.task_function, Singleton.get_state(), os.getcwd())
    )
    remote = ray.remote(run_in_worker)
    log.info("Launching %d jobs on Ray", len(jobs))
    running = [
        _Running(job, remote.options(name=job.name, **options).remote(job, shared, states))
        for job in jobs
    ]
    try:
        return _gather(running, states)
    finally:
        for one in running:
            with suppress(Exception):
                ray.cancel(one.ref, force=True)
        ray.kill(states)


def _gather(running: Sequence[_Running], states: Any) -> list[JobReturn]:
    import ray

    returned: dict[int, JobReturn] = {}
    left = {one.ref: one.job for one in running}
    with sweep_screen([one.job.name for one in running]) as show:
        first = running[0].job.number
        while left:
            ready, _ = ray.wait(list(left), num_returns=1, timeout=_LOOK)
            for ref in ready:
                job = left.pop(ref)
                found = returned[job.number] = _returned(ref, job)
                done = found.status == JobStatus.COMPLETED
                show({job.number - first: {"state": DONE if done else FAILED}})
            with suppress(ray.exceptions.RayError):
                news = ray.get(states.news.remote(), timeout=_LOOK)
                show({number - first: state for number, state in news.items()})
    return [returned[one.job.number] for one in running]


def _returned(ref: Any, job: Job) -> JobReturn:
    """Return what a job returned; an error where its process died again and again."""
    import ray

    try:
        found: JobReturn = ray.get(ref)
        return found
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1][:300]
        failed = JobReturn(overrides=list(job.config.hydra.overrides.task), cfg=job.config)
        failed.status = JobStatus.FAILED
        failed.return_value = CnetError(
            f"the process of job {job.number} ({job.name}) died ({reason}); give fewer jobs at "
            "once, each with more hydra.launcher.cpus_per_job, or run the command again.",
            key="hydra.launcher",
            value=job.name,
        )
        return failed


def _register() -> None:
    """Register the launcher where Hydra looks for plugins.

    Hydra takes them from the package ``hydra_plugins`` alone; a module of ours in it on the disk
    would be loaded by every application of the installation, so it is there in this process only.
    """
    try:
        package: Any = import_module("hydra_plugins")  # of launchers that are installed
    except ImportError:
        package = types.ModuleType("hydra_plugins")
        package.__path__ = []
        sys.modules["hydra_plugins"] = package
    module: Any = types.ModuleType(RayJobs.__module__)
    module.RayJobs = RayJobs
    package.cnet_aihw = sys.modules[RayJobs.__module__] = module
    Plugins.instance().register(RayJobs)


_register()
