"""Measurements with variation in some layers only, which share what is computed before these."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from cnet_aihw.evaluation.activation_cache import ActivationCache, trace_calls
from cnet_aihw.evaluation.chip_run import MeasuredChip, measure_clean, measuring, walk_chips
from cnet_aihw.evaluation.measurement import Measurement
from cnet_aihw.evaluation.spread import OnDevice
from cnet_aihw.runtime.parts import Part

Task = tuple[str, int]
"""A layer, and the number of a chip."""


class LayerWork(OnDevice):
    """Measures one chip with variation from one layer on, or in that layer alone.

    Args:
        model: converted model, on the device.
        part: the data, wherever it lies.
        device: where it is measured.
        measurement: what is done on each chip.
        suffix: whether all layers behind vary too.
        seed: seed of the chips' seeds.
        batch_size: samples a forward pass takes at once.
        t_inference: seconds between programming and measuring; None: just programmed.
        cache_bytes: memory on the device for outputs to take again, in each process.
        options: other arguments of ``walk_chips``.
    """

    def __init__(
        self,
        model: nn.Module,
        part: Part,
        device: torch.device,
        measurement: Measurement,
        *,
        suffix: bool,
        seed: int,
        batch_size: int,
        t_inference: float | None,
        cache_bytes: int,
        **options: Any,
    ) -> None:
        super().__init__(model, part, device)
        self._measurement, self._suffix = measurement, suffix
        self._seed, self._batch_size, self._time = seed, batch_size, t_inference
        self._cache_bytes, self._options = cache_bytes, options
        self.todo: Sequence[Task] = ()
        """Everything that is to be measured, here or elsewhere."""
        self._cache: ActivationCache | None = None
        self.order: list[str] = []
        """Layers in the order of their first call; known once :meth:`trace` was called."""

    def trace(self) -> None:
        """Find the order of the layers with the first batch; inside ``measuring``."""
        inputs = next(iter(self.part().batches(self._batch_size)))[0]
        self._calls = trace_calls(self.model, inputs)
        self.order = list(dict.fromkeys(call.layer for call in self._calls))

    def prepare(self, keep: bool) -> float:
        """Return the clean score; the outputs are kept, if asked, for what is to be measured."""
        if not keep:
            return self._clean()
        first = {name: self._first_call(name) for name in self.order}
        begins = Counter(first[name] for name, _ in self.todo)  # first call that varies -> passes
        uses = {
            call: sum(count for begin, count in begins.items() if begin > call)
            for call in range(len(self._calls))
        }
        batches = -(-len(self.part()) // self._batch_size)
        self._cache = ActivationCache(self._calls, uses, batches, self._cache_bytes)
        with self._cache.recorded(self.model):
            return self._clean()

    def __call__(self, task: Task) -> MeasuredChip:
        """Measure a chip."""
        name, chip = task
        part = self.part()
        if self._cache is None:  # in a worker, which has its own
            with measuring(self.model, self.device):
                self.trace()
                self.prepare(keep=True)
        assert self._cache is not None
        index = self.order.index(name)
        varied = self.order[index:] if self._suffix else [name]
        with self._cache.replayed(self.model, varied):
            (found,) = walk_chips(
                *(self.model, part, self._measurement, [(chip, self._time)]),
                seed=self._seed,
                batch_size=self._batch_size,
                layers=varied,
                **self._options,
            )
        return found

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the outputs that are kept, which workers compute for themselves."""
        return {**super().__getstate__(), "_cache": None}

    def _clean(self) -> float:
        part = self.part()
        found = measure_clean(self.model, part, self._measurement, self._seed, self._batch_size)
        return found["score"]

    def _first_call(self, name: str) -> int:
        return next(i for i, call in enumerate(self._calls) if call.layer == name)
