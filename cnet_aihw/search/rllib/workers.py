"""Worker processes of Ray that evaluate placements in parallel."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Self

from cnet_aihw.cluster.machine import check_share
from cnet_aihw.cluster.settings import RaySettings
from cnet_aihw.cluster.workers import Workers
from cnet_aihw.compensation import Placement
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.waiting import Patience
from cnet_aihw.search.evaluators.protocol import PlacementEvaluator
from cnet_aihw.search.scores import Evaluation, scores_of
from cnet_aihw.search.store import EvaluationStore

_POLL = 0.1  # seconds between looks at placements that another process evaluates


class EvaluationWorkers:
    """Processes that evaluate placements, each with its own copy of the evaluator.

    The store is read and written here alone, so that workers may run on other machines. A worker
    that dies is started again and repeats its evaluation. To be used in a ``with`` block, at whose
    end the workers are gone.

    Args:
        evaluator: measures placements; it can be pickled by cloudpickle.
        store: where values are kept.
        settings: where Ray runs, and how many workers.
        name: name of the search, with which the workers' names on the dashboard begin.

    Raises:
        CnetError: for an evaluator on CUDA without ``gpus_per_worker``; on entering, as
            :class:`~cnet_aihw.cluster.Workers` does, and for an evaluator that does not work in
            another process.
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
        self._workers = Workers(_Evaluate(evaluator), settings, name, "evaluator")

    def __enter__(self) -> Self:
        self._store.check_evaluator(self._evaluator)
        with ExitStack() as stack:
            stack.enter_context(self._workers)
            self._workers.wait()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return self._workers.pids

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
        batch = _Batch(placements)
        try:
            for placement in placements:
                while placement not in batch.values:
                    self._submit(batch)
                    if placement not in batch.values:
                        self._collect(batch)
                self._submit(batch)  # workers go on while the caller has the value
                yield batch.values[placement]
        finally:
            with suppress(CnetError):  # a store that is closed already; the claims lapse
                self._store.release(self._workers.running)
            self._workers.abandon()

    def _submit(self, batch: _Batch) -> None:
        """Give free workers placements that nobody has evaluated or claimed."""
        for _ in range(len(batch.waiting)):
            if not self._workers.free:
                return
            placement = batch.waiting.popleft()
            found = self._store.get(placement)
            if found is not None:
                batch.values[placement] = found, True
            elif self._store.claim(placement, take_over=self._waits_for_others(batch)):
                self._workers.submit(placement)
            else:
                batch.waiting.append(placement)  # another process is evaluating it

    def _collect(self, batch: _Batch) -> None:
        """Wait for a running task, or a little for other processes, and keep its value."""
        if not self._workers.running:
            time.sleep(_POLL)
            return
        others = _POLL if batch.waiting and self._workers.free else None
        for placement, (scores, seconds) in self._workers.collect(others):
            value = Evaluation(scores, seconds)
            self._store.put(placement, value, self._evaluator)
            batch.values[placement] = value, False
            batch.patience = None

    def _waits_for_others(self, batch: _Batch) -> bool:
        """Return whether other processes have taken too long for what is left."""
        if self._workers.running:
            return False
        batch.patience = batch.patience or self._store.patience()
        return batch.patience.is_over()


class _Batch:
    """State of placements that are asked for together."""

    def __init__(self, placements: Sequence[Placement]) -> None:
        self.waiting = deque(dict.fromkeys(placements))
        self.values: dict[Placement, tuple[Evaluation, bool]] = {}
        self.patience: Patience | None = None
        """With evaluations of other processes, where nothing else is left."""


@dataclass(frozen=True)
class _Evaluate:
    """Work of a worker: the score of each chip, and the seconds that it took."""

    evaluator: PlacementEvaluator

    def __call__(self, placement: Placement) -> tuple[tuple[float | None, ...], float]:
        start = time.perf_counter()
        scores = scores_of(self.evaluator, placement)
        return scores, time.perf_counter() - start
