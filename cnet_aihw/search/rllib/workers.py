"""Worker processes of Ray that evaluate placements side by side."""

from __future__ import annotations

import logging
import pickle
import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Self

from cnet_aihw.compensation import Placement
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.search.evaluators.protocol import PlacementEvaluator
from cnet_aihw.search.problem import Evaluation
from cnet_aihw.search.rllib.session import NAMESPACE, check_cpus, start_ray
from cnet_aihw.search.settings import RaySettings
from cnet_aihw.search.store import EvaluationStore

RETRIES = 3
"""How often an evaluation is done again when its worker dies."""

_PATIENCE = 30.0  # seconds without the workers after which the log says what is waited for

log = logging.getLogger(__name__)


class EvaluationWorkers:
    """Processes that evaluate placements, each with its own copy of the evaluator.

    The store is read and written here alone, so that workers may run on other machines. A worker
    that dies is started again and does its evaluation again. To be used in a ``with`` block, at
    whose end the workers are gone.

    Args:
        evaluator: values placements; it can be pickled by cloudpickle.
        store: where values are kept.
        settings: where Ray runs, and how many workers.
        name: name of the search, which the workers' names on the dashboard begin with.

    Raises:
        CnetError: on entering, as :func:`start_ray` does, if the private Ray has too few CPUs, and
            for an evaluator that cannot be pickled or does not work in another process.
    """

    def __init__(
        self,
        evaluator: PlacementEvaluator,
        store: EvaluationStore,
        settings: RaySettings,
        name: str,
    ) -> None:
        self._evaluator, self._store = evaluator, store
        self._settings, self._name = settings, f"{name}-{secrets.token_hex(2)}"
        self._actors: list[Any] = []
        self._evaluator_ref: list[Any] = []  # kept: workers that restart read it again
        self._free: SimpleQueue[tuple[EvaluationStore, _RemoteEvaluator]] = SimpleQueue()

    def __enter__(self) -> Self:
        settings = self._settings
        start_ray(settings)
        check_cpus(settings.workers * settings.cpus_per_worker, f"{settings.workers} workers")
        try:
            self._start()
        except BaseException:
            self._kill()
            raise
        self._threads = ThreadPoolExecutor(settings.workers, "evaluation")
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()
        self._threads.shutdown(cancel_futures=True)

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        import ray

        return ray.get([actor.pid.remote() for actor in self._actors])

    def measure(self, placements: Sequence[Placement]) -> Iterator[tuple[Evaluation, bool]]:
        """Return values of placements, from the store where it has them.

        Args:
            placements: what to evaluate.

        Yields:
            In their order, as soon as each is there: the value, and whether the store had it.

        Raises:
            CnetError: if a worker dies again and again with a placement, and as the evaluator does.
        """
        asked: dict[Placement, Future[tuple[Evaluation, bool]]] = {}
        for placement in placements:
            if placement not in asked:
                asked[placement] = self._threads.submit(self._measure, placement)
        try:
            for placement in placements:
                yield asked[placement].result()
        finally:
            for future in asked.values():
                future.cancel()

    def _start(self) -> None:
        import ray

        settings = self._settings
        try:
            self._evaluator_ref = [ray.put(self._evaluator)]
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            raise CnetError(
                f"the evaluator cannot be sent to worker processes ({error.__cause__ or error}); "
                "make all that it holds picklable, or give ray.workers=0."
            ) from error
        options = {
            "num_cpus": settings.cpus_per_worker,
            "num_gpus": settings.gpus_per_worker,
            "max_restarts": -1,
            "max_task_retries": RETRIES,
            "namespace": NAMESPACE,
        }
        key = self._evaluator.key()
        for number in range(settings.workers):
            actor_options = {**options, "name": f"{self._name}-worker-{number}"}
            actor = ray.remote(EvaluationWorker).options(**actor_options).remote()
            self._actors.append(actor)
            # Each thread has its own view of the store, which is no object to share.
            store = EvaluationStore(self._store.folder, self._store.key)
            remote = _RemoteEvaluator(self._evaluator, key, actor, self._evaluator_ref)
            self._free.put((store, remote))
        self._wait()

    def _wait(self) -> None:
        """Wait until all workers have their evaluator."""
        import ray

        waiting = [actor.prepare.remote(self._evaluator_ref) for actor in self._actors]
        while waiting:
            ready, waiting = ray.wait(waiting, timeout=_PATIENCE)
            try:
                ray.get(ready)
            except ray.exceptions.RayError as error:
                raise CnetError(
                    f"a worker process cannot take the evaluator: {_last_line(error)}"
                ) from error
            if not ready:
                log.warning("Waiting for %d of %d workers.", len(waiting), len(self._actors))

    def _measure(self, placement: Placement) -> tuple[Evaluation, bool]:
        store, evaluator = self._free.get()
        try:
            return store.measure(placement, evaluator)
        finally:
            self._free.put((store, evaluator))

    def _kill(self) -> None:
        import ray

        for actor in self._actors:
            with suppress(ray.exceptions.RayError, ValueError):
                ray.kill(actor)


class EvaluationWorker:
    """What runs in a worker process.

    The evaluator comes with each call, as a reference in a list, since Ray warns of a worker that
    would not survive the arguments it is made with; it is fetched once.
    """

    def __init__(self) -> None:
        self._evaluator: PlacementEvaluator | None = None

    def prepare(self, evaluator_ref: list[Any]) -> None:
        """Fetch the evaluator."""
        self._fetched(evaluator_ref)

    def pid(self) -> int:
        """Process id."""
        import os

        return os.getpid()

    def evaluate(self, placement: Placement, evaluator_ref: list[Any]) -> tuple[float, ...]:
        """Return the accuracy of each chip."""
        return self._fetched(evaluator_ref).evaluate(placement)

    def _fetched(self, evaluator_ref: list[Any]) -> PlacementEvaluator:
        import ray

        if self._evaluator is None:
            self._evaluator = ray.get(evaluator_ref[0])
        return self._evaluator


class _RemoteEvaluator:
    """An evaluator whose work a worker process does."""

    def __init__(
        self, evaluator: PlacementEvaluator, key: str, actor: Any, evaluator_ref: list[Any]
    ) -> None:
        self._evaluator, self._key, self._actor = evaluator, key, actor
        self._evaluator_ref = evaluator_ref

    def key(self) -> str:
        return self._key

    def describe(self) -> dict[str, Any]:
        return self._evaluator.describe()

    def evaluate(self, placement: Placement) -> tuple[float, ...]:
        import ray

        try:
            accuracies: tuple[float, ...] = ray.get(
                self._actor.evaluate.remote(placement, self._evaluator_ref)
            )
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, CnetError):
                raise CnetError(str(error.cause)) from error
            raise
        except ray.exceptions.RayActorError as error:
            raise CnetError(
                f"the worker that evaluates {placement} died {RETRIES + 1} times; it may need more "
                "memory than there is, so give fewer ray.workers."
            ) from error
        return accuracies


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]
