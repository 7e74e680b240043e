"""Worker processes of Ray, each with its own copy of the work; one that dies repeats its task."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, Self

from cnet_aihw.cluster.sending import cannot_be_sent
from cnet_aihw.cluster.session import NAMESPACE, check_cpus, check_gpus, start_ray
from cnet_aihw.cluster.settings import RaySettings
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.memory import available_bytes, keep_freed_memory
from cnet_aihw.runtime.waiting import Patience

RETRIES = 3
"""Number of times that a task is repeated when its worker dies."""

_LOOK = 10.0  # seconds between looks at whether workers are alive
_START_SECONDS = {True: 180.0, False: 900.0}  # for one more worker, by whether Ray is private
_LOST_SECONDS = 120.0  # for a worker that died to come back
_RAY_ENDED = "owner has died"  # in the error of workers whose Ray is gone


class Workers:
    """Worker processes that do tasks, in any order; to be used in a ``with`` block.

    A worker that dies is started again and repeats its task. At the end of the block the workers
    are gone. (``ray.util.ActorPool`` does not say which task killed its worker, and waits for a
    worker that never starts; a dictionary of running tasks does neither.)

    Args:
        work: does one task and returns its result; it is sent to each worker once.
        settings: where Ray runs, and how many workers.
        name: what the workers' names on the dashboard begin with.
        key: name of the work in messages.

    Raises:
        CnetError: on entering, as :func:`start_ray` does, if the private Ray has too few CPUs or
            GPUs, and for work that cannot be pickled; later, if no worker starts, and as the work.
    """

    def __init__(
        self, work: Callable[[Any], Any], settings: RaySettings, name: str, key: str = "work"
    ) -> None:
        self._work, self._settings, self._key = work, settings, key
        self._name = f"{name}-{secrets.token_hex(2)}"
        self._work_ref: list[Any] = []  # kept: workers that restart read it again
        self._actors: list[Any] = []
        self._starting: dict[Any, Any] = {}
        self._free: list[Any] = []
        self._running: dict[Any, tuple[Any, Any]] = {}
        self._patience: Patience | None = None

    def __enter__(self) -> Self:
        settings = self._settings
        start_ray(settings)
        check_cpus(settings.workers * settings.cpus_per_worker, f"{settings.workers} workers")
        check_gpus(settings.workers * settings.gpus_per_worker)
        try:
            self._start()
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        import ray

        return ray.get([actor.pid.remote() for actor in self._actors])

    @property
    def free(self) -> int:
        """Number of workers that have started and do nothing."""
        return len(self._free)

    @property
    def running(self) -> list[Any]:
        """Tasks that are being done."""
        return [task for _, task in self._running.values()]

    def wait(self) -> None:
        """Wait until all workers have started.

        Raises:
            CnetError: if one takes too long, or does not take the work.
        """
        while self._starting:
            self.collect()

    def submit(self, task: Any) -> None:
        """Give a free worker a task."""
        actor = self._free.pop()
        self._running[actor.do.remote(task, self._work_ref)] = actor, task

    def collect(self, seconds: float | None = None) -> list[tuple[Any, Any]]:
        """Wait until a task is done or a worker has started.

        Args:
            seconds: longest wait; None: until it is time to look after the workers.

        Returns:
            The tasks that are done with their results, perhaps none.

        Raises:
            CnetError: if a worker dies again and again with a task, or none starts or comes back,
                and as the work does.
        """
        import ray

        refs = [*self._running, *self._starting]
        seconds = _LOOK if seconds is None else seconds
        ready, _ = ray.wait(refs, num_returns=1, timeout=seconds)
        done = []
        for ref in ready:
            if ref in self._starting:
                self._take_in(ref)
            else:
                actor, task = self._running.pop(ref)
                self._free.append(actor)
                done.append((task, _result(ref, task)))
        self._look_after(bool(ready))
        return done

    def results(self, tasks: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        """Do tasks; yield each with its result as soon as it is done, in any order.

        Raises:
            CnetError: as :meth:`collect`.
        """
        waiting = deque(tasks)
        while waiting or self._running:
            while waiting and self._free:
                self.submit(waiting.popleft())
            yield from self.collect()

    def abandon(self) -> None:
        """Forget the running tasks, whose results are no longer wanted."""
        self._free += [actor for actor, _ in self._running.values()]
        self._running.clear()

    def _start(self) -> None:
        import ray

        settings = self._settings
        try:
            self._work_ref = [ray.put(self._work)]
        except ray.exceptions.RayError:
            raise
        except Exception as error:  # of any kind: parametrized modules raise a RuntimeError
            raise cannot_be_sent(self._key, self._work, error, "ray.workers=0") from error
        options = {
            "num_cpus": settings.cpus_per_worker,
            "num_gpus": settings.gpus_per_worker,
            "max_restarts": -1,
            "max_task_retries": RETRIES,
            "namespace": NAMESPACE,
        }
        for number in range(settings.workers):
            actor_options = {**options, "name": f"{self._name}-worker-{number}"}
            actor: Any = ray.remote(WorkerProcess).options(**actor_options).remote()
            self._actors.append(actor)
            self._starting[actor.prepare.remote(self._work_ref)] = actor

    def _take_in(self, ref: Any) -> None:
        """Take in a worker that has started, with its work."""
        import ray

        try:
            ray.get(ref)
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[-1]
            if isinstance(error, ray.exceptions.RayActorError | ray.exceptions.OutOfMemoryError):
                raise _no_workers(f"workers cannot start ({reason})") from error
            raise CnetError(
                f"a worker process cannot take the {self._key}: {reason}",
                key=self._key,
                value=type(self._work).__name__,
            ) from error
        self._free.append(self._starting.pop(ref))

    def _look_after(self, moved: bool) -> None:
        """End a wait in which no worker starts or comes back; others take over its task."""
        if moved:
            self._patience = None
            return
        lost = [ref for ref, (actor, _) in self._running.items() if not _is_alive(actor)]
        for ref in lost[: len(self._free)]:
            actor, task = self._running.pop(ref)
            self._starting[actor.prepare.remote(self._work_ref)] = actor
            self.submit(task)
        if len(lost) < len(self._running):
            return
        if self._running:
            what, seconds = "workers that died to start again", _LOST_SECONDS
            reason = "workers died and did not start again"
        else:
            what = f"{len(self._starting)} workers to start"
            seconds = _START_SECONDS[self._settings.address is None]
            here = len(self._actors) - len(self._starting)
            reason = f"after {seconds:g} seconds {here} workers have started"
        self._patience = self._patience or Patience(what, seconds)
        if self._patience.is_over():
            raise _no_workers(reason)

    def _kill(self) -> None:
        import ray

        for ref in self._starting:  # else Ray says that it will try again
            with suppress(ray.exceptions.RayError, ValueError):
                ray.cancel(ref)
        for actor in self._actors:
            with suppress(ray.exceptions.RayError, ValueError):
                ray.kill(actor)


def _is_alive(actor: Any) -> bool:
    from ray._private.state import actors

    return bool(actors(actor._actor_id.hex()).get("State") == "ALIVE")


class WorkerProcess:
    """Actor in a worker process.

    The work comes with each call, as a reference in a list, since Ray warns of a worker that would
    not survive the arguments it is made with; it is fetched once.
    """

    def __init__(self) -> None:
        keep_freed_memory()
        self._work: Callable[[Any], Any] | None = None

    def prepare(self, work_ref: list[Any]) -> None:
        """Fetch the work."""
        self._fetched(work_ref)

    def pid(self) -> int:
        """Return the process id."""
        import os

        return os.getpid()

    def do(self, task: Any, work_ref: list[Any]) -> Any:
        """Do a task."""
        return self._fetched(work_ref)(task)

    def _fetched(self, work_ref: list[Any]) -> Callable[[Any], Any]:
        import ray

        if self._work is None:
            self._work = ray.get(work_ref[0])
        return self._work


def _no_workers(what: str) -> CnetError:
    free = available_bytes()
    memory = "" if free is None else f", and {free / 2**30:.1f} GiB of memory are free here"
    fix = "give fewer ray.workers, each with the memory, CPUs and GPUs that it asks for"
    return CnetError(f"{what}{memory}; {fix}.", key="ray.workers", value=free, fix=fix)


def _result(ref: Any, task: Any) -> Any:
    import ray

    try:
        return ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        if not isinstance(error.cause, Exception):
            raise
        failure = error.cause
        if not isinstance(failure, CnetError):  # whose sentence says all
            failure.add_note(f"In the worker:\n{error}")
    except (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError) as error:
        if _RAY_ENDED in str(error):
            raise CnetError(
                "Ray itself ended in the middle of the work, as where one of its own processes is "
                "killed; give the same command again, which resumes.",
                key="ray",
                value=task,
                fix="give the same command again",
            ) from error
        raise CnetError(
            f"the worker with {task} died {RETRIES + 1} times; it may need more memory than there "
            "is, so give fewer ray.workers.",
            key="ray.workers",
            value=task,
            fix="give fewer ray.workers",
        ) from error
    try:
        raise failure  # as it would be without workers
    finally:
        # Without a cycle of error and frames, which would keep handles of workers, and let go of
        # workers of a later session, whose ids are the same.
        del failure
