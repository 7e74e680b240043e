"""Activations and moments of each chip, reused between placements that begin alike."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn

from cnet_aihw.compensation import (
    CompensatedLayer,
    PerChipFit,
    PerChipSettings,
    compensated_layers,
    compensation_parameters,
)
from cnet_aihw.compensation.layer_passes import Enough, add_rows, layers_seen, run
from cnet_aihw.evaluation.activation_cache import forward_replaced, trace_calls
from cnet_aihw.rram import analog_layers
from cnet_aihw.rram.tile_chips import is_read_with_noise
from cnet_aihw.runtime.inputs import Inputs, call, inputs_on, select
from cnet_aihw.runtime.torch_device import device_of
from cnet_aihw.search.evaluators.bounded_memory import BoundedMemory
from cnet_aihw.tasks import Task

Prefix = tuple[Any, ...]
"""Chip, and the choices of the first layers in the order of execution."""


@dataclass
class _Node:
    """Outputs of one layer: in the fit's pass, and batch by batch in the measurement."""

    outputs: list[Tensor] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        return sum(output.nbytes for output in self.outputs)


class ReusingFit(PerChipFit):
    """Per-chip fit and measurement of placements that agree in their first layers.

    Kept for each chip, by the choices of the layers before: the moments of a layer, from which it
    is fitted with any size; and its output, corrected, in the pass of the fit and in those of the
    measurement that follows in the block. A placement begins where the kept outputs end; results
    are the same, bit for bit. An output is kept from the second time on that it is computed.

    Nothing is reused where passes draw random numbers (a noisy periphery, read noise), where a
    layer is called several times, where the inputs are not one batch, and in fits that do more than
    the closed form; outputs only at layers through which all passes (not inside a branch).

    Args:
        x: as all others, in :class:`~cnet_aihw.compensation.PerChipFit`.
        memory: bytes that may be kept, on the model's device; 0: nothing is.
        settings: as in :class:`~cnet_aihw.compensation.PerChipFit`.
    """

    def __init__(self, x: Inputs, *, memory: int = 2**30, **settings: Any) -> None:
        super().__init__(x, **settings)
        self._limit = memory
        self._forget()

    @classmethod
    def of(
        cls,
        settings: PerChipSettings,
        x: Inputs,
        task: Task | None = None,
        memory: int = 2**30,
    ) -> ReusingFit:
        """Return the fit that settings describe, on inputs of which the first ones are taken."""
        named = {f.name: getattr(settings, f.name) for f in fields(PerChipSettings)}
        first = select(x, slice(named.pop("samples")))
        return cls(first, task=task, memory=memory, **named)

    def _forget(self) -> None:
        self.memory = BoundedMemory(self._limit)
        self._order: list[str] | None = None  # layers in the order of execution
        self._cuts: set[str] = set()  # layers through which all passes
        self._work: dict[str, float] = {}  # multiplications up to and with the layer, per pass
        self._shapes: dict[tuple[str, int], torch.Size] = {}  # of outputs, by layer and pass
        self._seen: set[Hashable] = set()
        self._chip: int | None = None
        self._run: _Run | None = None

    def begin(self, model: nn.Module) -> None:
        """Start over with chip 0.

        Args:
            model: the network without compensation, in evaluation mode.
        """
        self._chip = 0
        if self._order is None:
            self._look_at(model)

    def end(self) -> None:
        """Fit further chips by themselves, whichever they are."""
        self._chip = None

    def __call__(self, model: nn.Module) -> AbstractContextManager[None]:
        """Fit the next chip inside a block, in which it is to be measured once."""
        if not compensation_parameters(model):
            return nullcontext()
        if self._chip is None or not self._order or is_read_with_noise(model):
            return super().__call__(model)
        return self._reused(model)

    def _look_at(self, model: nn.Module) -> None:
        """Find the order of layers, and those through which all passes."""
        self._order = []
        s = self.settings
        if not self._limit or s.samples > s.batch_size or s.batchnorm or s.refine_steps:
            return
        x = select(inputs_on(device_of(model), self.x), slice(2))
        calls = trace_calls(model, x)
        names = [one.layer for one in calls]
        if len(set(names)) < len(names) or not all(one.repeats for one in calls):
            return
        kept: dict[str, Tensor] = {}
        with torch.no_grad():

            def keep(name: str, compute: Callable[[], Tensor]) -> Tensor:
                kept[name] = compute().clone()
                return kept[name].clone()

            slots: dict[str, Any] = dict(analog_layers(model))
            with forward_replaced({name: slots[name] for name in names}, keep):
                clean = call(model, x)
            for number, name in enumerate(names):
                before = set(names[:number])

                def answer(
                    now: str, compute: Callable[[], Tensor],
                    name: str = name, before: set[str] = before,
                ) -> Tensor:  # fmt: skip
                    if now in before:
                        return torch.full_like(kept[now], torch.nan)
                    return kept[now].clone() if now == name else compute()

                with forward_replaced({name: slots[name] for name in names}, answer):
                    if _same(call(model, x), clean):
                        self._cuts.add(name)
        work = 0.0
        for one in calls:
            work += kept[one.layer][0].numel() * one.weight_row
            self._work[one.layer] = work
        self._order = names

    @contextmanager
    def _reused(self, model: nn.Module) -> Iterator[None]:
        assert self._order is not None and self._chip is not None
        corrected = compensated_layers(model)
        slots: dict[str, Any] = {**analog_layers(model), **corrected}
        slots = {name: slots[name] for name in self._order}
        choices = [corrected[n].ratio if n in corrected else 0.0 for n in self._order]
        self._run = _Run(self, self._chip, choices, slots)
        try:
            with super().__call__(model), self._run.skipped(model):
                yield
            self._run.keep()
        finally:
            self._run = None
        self._chip += 1

    def _fit_in_one_pass(
        self, model: nn.Module, layers: dict[str, CompensatedLayer], x: Inputs
    ) -> None:
        placed = self._run
        if placed is None:
            super()._fit_in_one_pass(model, layers, x)
            return
        todo = placed.left(layers)
        if not todo:
            placed.passed = 0
            return
        seen, last = dict(todo), list(todo)[-1]

        def fit(name: str, layer: CompensatedLayer, x_in: Tensor, y: Tensor) -> None:
            if todo.pop(name, None) is not None:
                key = placed.key_before(name, bool(layer.corrector_module.filters))
                moments = self.memory.get(key)
                if moments is None:
                    moments = self._moments(layer)
                    with placed.aside():  # a pass of its own, where it is not kept
                        wanted = self._targets.of(model, name, layer, y)
                    add_rows(moments, layer, x_in, y, wanted)
                    work = float(moments.count) * moments.size
                    self.memory.put(key, moments, 8 * moments.size, work)
                self._fit_layer(name, layer, moments)

        with layers_seen(seen, fit), placed.skipped(model, last):
            run(model, x)

    def __getstate__(self) -> dict[str, Any]:
        """Leave what is kept out of copies."""
        names = ("memory", "_order", "_cuts", "_work", "_shapes", "_seen", "_chip", "_run")
        return {name: value for name, value in self.__dict__.items() if name not in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()


class _Run:
    """One placement on one chip: where it begins, and what may be kept of it."""

    def __init__(
        self, fit: ReusingFit, chip: int, choices: list[Any], slots: Mapping[str, nn.Module]
    ) -> None:
        self._fit, self._slots, self._order = fit, slots, list(slots)
        self._prefixes = {
            name: (chip, *choices[: number + 1]) for number, name in enumerate(self._order)
        }
        self.passed = -1
        self._aside = False
        self._from: str | None = None
        self._node: _Node | None = None
        for name in reversed(self._order):
            if name in fit._cuts and self._prefixes[name] in fit.memory:
                self._from, self._node = name, fit.memory.get(self._prefixes[name])
                break
        skipped = 0 if self._from is None else self._order.index(self._from)
        self._before = set(self._order[:skipped])
        # no output is of use behind the last corrector: the fit's pass ends there
        corrected = [n for n in self._order if isinstance(slots[n], CompensatedLayer)]
        end = self._order.index(corrected[-1])
        self._kept: dict[str, _Node] = {}
        for name in self._order[:end]:
            prefix = self._prefixes[name]
            if name in fit._cuts and prefix not in fit.memory:
                if prefix in fit._seen:
                    self._kept[name] = _Node()
                fit._seen.add(prefix)

    def left(self, layers: Mapping[str, CompensatedLayer]) -> dict[str, CompensatedLayer]:
        """Return the layers that are behind where the placement begins, in their order."""
        known = {*self._before, self._from}
        return {name: layers[name] for name in self._order if name in layers and name not in known}

    def key_before(self, name: str, filters: bool) -> Hashable:
        """Return the key of a layer's moments: the choices before it."""
        return ("moments", name, filters, self._prefixes[name][:-1])

    @contextmanager
    def skipped(self, model: nn.Module, last: str | None = None) -> Iterator[None]:
        """Begin passes where the kept outputs end, and take in those to be kept.

        Args:
            model: the network.
            last: layer behind which a pass ends; None: the end of the network.
        """
        shapes = self._fit._shapes

        def count(*_: Any) -> None:
            self.passed += not self._aside

        def answer(name: str, compute: Callable[[], Tensor]) -> Tensor:
            if self._aside:
                return compute()
            if name in self._before:
                assert self._node is not None
                like = self._node.outputs[self.passed]
                return like.new_zeros(shapes[name, self.passed])  # nothing depends on it
            if name == self._from:
                assert self._node is not None
                return self._node.outputs[self.passed].clone()
            output = compute()
            shapes[name, self.passed] = output.shape
            if name in self._kept:
                self._kept[name].outputs.append(output.clone())
            if name == last:
                raise Enough
            return output

        with ExitStack() as stack:
            stack.callback(model.register_forward_pre_hook(count).remove)
            stack.enter_context(forward_replaced(self._slots, answer))
            yield

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Let passes inside the block, in the middle of another one, be whole and leave nothing."""
        self._aside = True
        try:
            yield
        finally:
            self._aside = False

    def keep(self) -> None:
        """Keep the outputs of all passes."""
        for name, node in self._kept.items():
            if len(node.outputs) == self.passed + 1:
                samples = sum(len(output) for output in node.outputs)
                cost = self._fit._work[name] * samples
                self._fit.memory.put(self._prefixes[name], node, node.bytes, cost)


def _same(outputs: Any, expected: Any) -> bool:
    return (
        isinstance(outputs, Tensor)
        and isinstance(expected, Tensor)
        and torch.equal(outputs, expected)
    )
