"""Worker processes of Ray that evaluate placements in parallel."""

from __future__ import annotations

import logging
import pickle
import secrets
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Self

from cnet_aihw.compensation import Placement
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.memory import available_bytes
from cnet_aihw.runtime.waiting import Patience
from cnet_aihw.search.evaluators.protocol import PlacementEvaluator
from cnet_aihw.search.rllib.machine import check_share
from cnet_aihw.search.rllib.session import NAMESPACE, check_cpus, check_gpus, start_ray
from cnet_aihw.search.scores import Evaluation
from cnet_aihw.search.settings import RaySettings
from cnet_aihw.search.store import EvaluationStore

RETRIES = 3
"""Number of times that an evaluation is repeated when its worker dies."""

_POLL = 0.1  # seconds between looks at placements that another process evaluates
_LOOK = 10.0  # seconds between looks at whether workers are alive
_START_SECONDS = {True: 180.0, False: 900.0}  # for one more worker, by whether Ray is private
_LOST_SECONDS = 120.0  # for a worker that died to come back

log = logging.getLogger(__name__)


class EvaluationWorkers:
    """Processes that evaluate placements, each with its own copy of the evaluator.

    The store is read and written here alone, so that workers may run on other machines. A worker
    that dies is started again and repeats its evaluation. To be used in a ``with`` block, at whose
    end the workers are gone. (``ray.util.ActorPool`` does not say which placement killed its
    worker; a dictionary of running tasks does.)

    Args:
        evaluator: measures placements; it can be pickled by cloudpickle.
        store: where values are kept.
        settings: where Ray runs, and how many workers.
        name: name of the search, with which the workers' names on the dashboard begin.

    Raises:
        CnetError: for an evaluator on CUDA without ``gpus_per_worker``; on entering, as
            :func:`start_ray` does, if the private Ray has too few CPUs, and for an evaluator that
            cannot be pickled or does not work in another process.
    """

    def __init__(
        self,
        evaluator: PlacementEvaluator,
        store: EvaluationStore,
        settings: RaySettings,
        name: str,
    ) -> None:
        if str(getattr(evaluator, "device", "cpu")).startswith("cuda"):
            check_share(settings)
        self._evaluator, self._store = evaluator, store
        self._settings, self._name = settings, f"{name}-{secrets.token_hex(2)}"
        self._actors: list[Any] = []
        self._evaluator_ref: list[Any] = []  # kept: workers that restart read it again

    def __enter__(self) -> Self:
        settings = self._settings
        self._store.check_evaluator(self._evaluator)
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

    def measure(self, placements: Sequence[Placement]) -> Iterator[tuple[Evaluation, bool]]:
        """Evaluate placements that the store does not have.

        Args:
            placements: the placements, repetitions allowed.

        Yields:
            In their order, as soon as each is available: the value, and whether the store had it.

        Raises:
            CnetError: if a worker dies again and again with a placement, or does not come back,
                and as the evaluator does.
        """
        batch = _Batch(self._store, placements, self._actors)
        try:
            for placement in placements:
                while placement not in batch.values:
                    self._submit(batch)
                    if placement not in batch.values:
                        self._collect(batch)
                self._submit(batch)  # workers go on while the caller has the value
                yield batch.values[placement]
        finally:
            batch.release()

    def _submit(self, batch: _Batch) -> None:
        """Give free workers placements that nobody has evaluated or claimed."""
        for _ in range(len(batch.waiting)):
            if not batch.free:
                return
            placement = batch.waiting.popleft()
            found = self._store.get(placement)
            if found is not None:
                batch.values[placement] = found, True
            elif self._store.claim(placement, take_over=batch.waits_for_others()):
                actor = batch.free.pop()
                task = actor.evaluate.remote(placement, self._evaluator_ref)
                batch.running[task] = actor, placement
            else:
                batch.waiting.append(placement)  # another process is evaluating it

    def _collect(self, batch: _Batch) -> None:
        """Wait for a running task, or a little for other processes, and keep its value."""
        import ray

        if not batch.running:
            time.sleep(_POLL)
            return
        others = _POLL if batch.waiting and batch.free else _LOOK
        ready, _ = ray.wait(list(batch.running), num_returns=1, timeout=others)
        for task in ready:
            actor, placement = batch.running[task]
            value = Evaluation(*_result(task, placement))
            self._store.put(placement, value, self._evaluator)
            batch.values[placement] = value, False
            del batch.running[task]
            batch.free.append(actor)
            batch.patience = None
        if ready or not batch.lost_all():
            batch.lost = None
        else:
            batch.lost = batch.lost or Patience("workers that died to start again", _LOST_SECONDS)
            if batch.lost.is_over():
                raise _no_workers("workers died and did not start again")

    def _start(self) -> None:
        import ray

        settings = self._settings
        try:
            self._evaluator_ref = [ray.put(self._evaluator)]
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            raise CnetError(
                f"the evaluator cannot be sent to worker processes ({error.__cause__ or error}); "
                "make all that it holds picklable, or give ray.workers=0.",
                key="evaluator",
                value=type(self._evaluator).__name__,
                expected="an object that cloudpickle can pickle",
            ) from error
        options = {
            "num_cpus": settings.cpus_per_worker,
            "num_gpus": settings.gpus_per_worker,
            "max_restarts": -1,
            "max_task_retries": RETRIES,
            "namespace": NAMESPACE,
        }
        for number in range(settings.workers):
            actor_options = {**options, "name": f"{self._name}-worker-{number}"}
            actor = ray.remote(EvaluationWorker).options(**actor_options).remote()
            self._actors.append(actor)
        self._wait()

    def _wait(self) -> None:
        """Wait until all workers have their evaluator."""
        import ray

        waiting = [actor.prepare.remote(self._evaluator_ref) for actor in self._actors]
        seconds = _START_SECONDS[self._settings.address is None]
        patience = Patience(f"{len(waiting)} workers to start", seconds)
        while waiting:
            ready, waiting = ray.wait(waiting, timeout=_LOOK)
            try:
                ray.get(ready)
            except ray.exceptions.RayError as error:
                reason = str(error).strip().splitlines()[-1]
                if isinstance(
                    error, ray.exceptions.RayActorError | ray.exceptions.OutOfMemoryError
                ):
                    raise _no_workers(f"workers cannot start ({reason})") from error
                raise CnetError(
                    f"a worker process cannot take the evaluator: {reason}",
                    key="evaluator",
                    value=type(self._evaluator).__name__,
                ) from error
            if ready:
                patience = Patience(f"{len(waiting)} workers to start", seconds)
            elif patience.is_over():
                here = len(self._actors) - len(waiting)
                raise _no_workers(f"after {seconds:g} seconds {here} workers have started")

    def _kill(self) -> None:
        import ray

        for actor in self._actors:
            with suppress(ray.exceptions.RayError, ValueError):
                ray.kill(actor)


class _Batch:
    """State of placements that are asked for together."""

    def __init__(
        self, store: EvaluationStore, placements: Sequence[Placement], actors: Sequence[Any]
    ) -> None:
        self.waiting = deque(dict.fromkeys(placements))
        self.free = list(actors)
        self.running: dict[Any, tuple[Any, Placement]] = {}
        self.values: dict[Placement, tuple[Evaluation, bool]] = {}
        self.patience: Patience | None = None
        """With evaluations of other processes, where nothing else is left."""
        self.lost: Patience | None = None
        """With workers that died."""
        self._store = store

    def waits_for_others(self) -> bool:
        """Return whether other processes have taken too long for what is left."""
        if self.running:
            return False
        self.patience = self.patience or self._store.patience()
        return self.patience.is_over()

    def lost_all(self) -> bool:
        """Return whether none of the workers that should evaluate is alive."""
        from ray._private.state import actors

        states = [actors(actor._actor_id.hex()).get("State") for actor, _ in self.running.values()]
        return "ALIVE" not in states

    def release(self) -> None:
        """Give up what is still running."""
        with suppress(CnetError):  # a store that is closed already; the claims lapse
            self._store.release([placement for _, placement in self.running.values()])


class EvaluationWorker:
    """Actor in a worker process.

    The evaluator comes with each call, as a reference in a list, since Ray warns of a worker that
    would not survive the arguments it is made with; it is fetched once.
    """

    def __init__(self) -> None:
        self._evaluator: PlacementEvaluator | None = None

    def prepare(self, evaluator_ref: list[Any]) -> None:
        """Fetch the evaluator."""
        self._fetched(evaluator_ref)

    def pid(self) -> int:
        """Return the process id."""
        import os

        return os.getpid()

    def evaluate(
        self, placement: Placement, evaluator_ref: list[Any]
    ) -> tuple[tuple[float | None, ...], float]:
        """Return the score of each chip, and the seconds that it took."""
        evaluator, start = self._fetched(evaluator_ref), time.perf_counter()
        scores = tuple(evaluator.evaluate(placement))
        return scores, time.perf_counter() - start

    def _fetched(self, evaluator_ref: list[Any]) -> PlacementEvaluator:
        import ray

        if self._evaluator is None:
            self._evaluator = ray.get(evaluator_ref[0])
        return self._evaluator


def _no_workers(what: str) -> CnetError:
    free = available_bytes()
    memory = "" if free is None else f", and {free / 2**30:.1f} GiB of memory are free here"
    fix = "give fewer ray.workers, each with the memory, CPUs and GPUs that it asks for"
    return CnetError(f"{what}{memory}; {fix}.", key="ray.workers", value=free, fix=fix)


def _result(task: Any, placement: Placement) -> tuple[tuple[float | None, ...], float]:
    """The result of a worker's evaluation."""
    import ray

    try:
        result: tuple[tuple[float | None, ...], float] = ray.get(task)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, CnetError):
            fields = {n: getattr(cause, n, None) for n in ("key", "value", "expected", "fix")}
            raise CnetError(str(cause), **fields) from error
        raise
    except (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError) as error:
        raise CnetError(
            f"the worker that evaluates {placement} died {RETRIES + 1} times; it may need more "
            "memory than there is, so give fewer ray.workers.",
            key="ray.workers",
            value=dict(placement),
            fix="give fewer ray.workers",
        ) from error
    return result
