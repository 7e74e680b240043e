"""Wanted outputs of layers in a per-chip fit, computed once where memory allows."""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from cnet_aihw.compensation.closed_form import rows_of
from cnet_aihw.compensation.layer_passes import call_outputs, unpaired
from cnet_aihw.compensation.settings import PerChipSettings
from cnet_aihw.compensation.wrapping import (
    CompensatedLayer,
    base_snapshot,
    compensation_disabled,
)
from cnet_aihw.evaluation.chip_identity import describe_noise_models, describe_periphery
from cnet_aihw.rram import nominal_inside, programmed
from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.fingerprint import tensors_fingerprint, text_fingerprint
from cnet_aihw.runtime.inputs import Inputs, call, samples_in, select
from cnet_aihw.runtime.memory import free_bytes
from cnet_aihw.runtime.random_state import derive_seed, forked_random_state, seed_random_state
from cnet_aihw.runtime.torch_device import device_of
from cnet_aihw.tasks import Task

KEPT_BYTES = 2**30
"""Wanted outputs up to this size are kept for the next chips, or more where memory is free."""


def kept_bytes(device: torch.device) -> int:
    """Return the size up to which wanted outputs are kept.

    Of the main memory that is free, a process takes half of its share of the cores, so that workers
    side by side have room; of a GPU's, a quarter.
    """
    share = 0.25
    if device.type == "cpu":
        share = 0.5 * min(1.0, torch.get_num_threads() / (os.cpu_count() or 1))
    return max(KEPT_BYTES, int(share * free_bytes(device)))


class Targets:
    """Wanted outputs of a network's layers on given inputs, and how much the loss minds each error.

    They do not depend on the chip that is programmed, nor on the correctors; it is still there
    afterwards, untouched. They are kept for the same model and weights, as far as they take no more
    than :func:`kept_bytes` together; the others are computed batch by batch when they are needed.

    Args:
        settings: of these the targets, their chips, the weighting and the seed.
        task: says which outputs have a gradient.
    """

    def __init__(self, settings: PerChipSettings, task: Task) -> None:
        self.settings, self.task = settings, task
        self.passes = 0.0
        """Forward passes over all inputs, of the clean network or simulated chips, so far."""
        self._forget()

    def _forget(self) -> None:
        self._model: Any = lambda: None
        self._key: tuple[str, list[int]] = "", []
        self._batches: Sequence[Inputs] = ()
        self._kept: list[dict[str, list[Tensor]]] = []  # batch by batch: layer -> wanted outputs
        self._not_kept: set[str] = set()  # layers that do not fit in, or are not run
        self._calls: dict[str, int] = {}  # layer -> its calls in a forward
        self._outputs: list[Any] = []  # the network's own, batch by batch
        self._weights: dict[str, Tensor] = {}

    def begin(
        self, model: nn.Module, layers: Mapping[str, CompensatedLayer], batches: Sequence[Inputs]
    ) -> None:
        """Compute what can be kept for these layers, unless it is there already.

        Args:
            model: a compensated model.
            layers: its layers that are to be fitted.
            batches: the inputs, on the model's device.
        """
        key = _identity(model), [samples_in(batch) for batch in batches]
        if self._model() is not model or key != self._key:
            self._forget()
            self._model, self._key = weakref.ref(model), key
        self._batches = batches
        known = {*self._not_kept, *(self._kept[0] if self._kept else ())}
        missing = {name: layer for name, layer in layers.items() if name not in known}
        if missing or not self._outputs:
            self._keep(model, missing)
        if self.settings.weighting == "loss":
            unknown = {n: layer for n, layer in layers.items() if n not in self._weights}
            if unknown:
                self._weights |= self._sensitivities(model, unknown)

    def _keep(self, model: nn.Module, layers: Mapping[str, CompensatedLayer]) -> None:
        first, outputs = self._mean_outputs(model, layers, 0)
        self._calls |= {name: len(calls) for name, calls in first.items()}
        room, kept = kept_bytes(device_of(model)) - sum(map(_bytes, self._kept)), {}
        for name, calls in first.items():
            size = _bytes({name: calls}) * len(self._batches)
            if size <= room:
                room, kept[name] = room - size, calls
        self._not_kept |= set(layers) - set(kept)
        found = [(kept, outputs)]
        if kept or not self._outputs:
            wanted = {name: layers[name] for name in kept}
            more = range(1, len(self._batches))
            found += [self._mean_outputs(model, wanted, number) for number in more]
        if not self._kept:
            self._kept = [{} for _ in self._batches]
        self._outputs = self._outputs or [output for _, output in found]
        for old, (new, _) in zip(self._kept, found, strict=False):
            old |= new

    def of(self, model: nn.Module, name: str, layer: CompensatedLayer, y: Tensor) -> Tensor:
        """Return the wanted output of a layer's only call with the only batch.

        Args:
            model: the model.
            name: name of the layer.
            layer: the layer.
            y: its output on the chip.

        Raises:
            CnetError: if the wanted output has another shape, or there is none.
        """
        wanted = self._kept[0].get(name) or self._computed(model, name, layer, 0, 1)
        if y.shape != wanted[0].shape:
            raise unpaired(name)
        return wanted[0]

    def of_calls(
        self, model: nn.Module, name: str, layer: CompensatedLayer, number: int
    ) -> list[Tensor]:
        """Return the wanted outputs of all calls of a layer for a batch."""
        if name in self._kept[number]:
            return self._kept[number][name]
        return self._computed(model, name, layer, number, self.calls(name))

    def _computed(
        self, model: nn.Module, name: str, layer: CompensatedLayer, number: int, calls: int
    ) -> list[Tensor]:
        found = self._mean_outputs(model, {name: layer}, number, calls)[0]
        if name not in found:
            raise unpaired(name)
        return found[name]

    def order(self, model: nn.Module, layers: Mapping[str, CompensatedLayer]) -> list[str]:
        """Return the layers that are called, in the order of execution.

        Raises:
            CnetError: if few samples do not call one of them that more samples call.
        """
        order, _ = call_outputs(model, layers, select(self._batches[0], slice(2)))
        for name in self._calls:
            if name in layers and name not in order:
                raise unpaired(name)
        return list(order)

    def calls(self, name: str) -> int:
        """Return how often a forward calls a layer."""
        return self._calls.get(name, 1)

    def all_outputs(self) -> Tensor:
        """Return the wanted outputs of the whole network.

        Raises:
            CnetError: if these are not a tensor.
        """
        return torch.cat([_one_tensor(outputs) for outputs in self._outputs])

    def weights(self, name: str) -> Tensor | None:
        """Return the weights of a layer's channels, [C]; None: the same for all."""
        return self._weights.get(name)

    def _mean_outputs(
        self,
        model: nn.Module,
        layers: Mapping[str, nn.Module],
        number: int,
        stop_after: int | None = None,
    ) -> tuple[dict[str, list[Tensor]], Any]:
        """Return wanted outputs of layers and network for a batch."""
        s, x = self.settings, self._batches[number]
        seeds: list[int | None] = [None]
        if s.target == "mean_over_chips":
            seeds = [derive_seed(s.seed, "target chip", chip) for chip in range(s.target_chips)]
        sums: dict[str, list[Tensor]] = {}
        total: Any = None
        device = device_of(model)
        for seed in seeds:
            with ExitStack() as stack:
                stack.enter_context(forked_random_state(device))
                stack.enter_context(compensation_disabled(model))  # digital layers are analog now
                stack.enter_context(
                    nominal_inside(model) if seed is None else programmed(model, seed)
                )
                seed_random_state(derive_seed(seed or s.seed, "target", number), device)
                found, output = call_outputs(model, layers, x, stop_after)
                if not s.refine_steps:  # then the network's own outputs do not count
                    output = None
            self.passes += 1 / len(self._batches)
            if not sums and total is None:
                sums, total = found, output
            else:
                for name, calls in found.items():
                    if [y.shape for y in calls] != [y.shape for y in sums.get(name, [])]:
                        raise unpaired(name)
                    for total_of_call, y in zip(sums[name], calls, strict=True):
                        total_of_call += y
                total = None if output is None else _one_tensor(total) + output
        if len(seeds) > 1:
            sums = {name: [y / len(seeds) for y in calls] for name, calls in sums.items()}
            total = None if total is None else total / len(seeds)
        return sums, total

    def _sensitivities(
        self, model: nn.Module, layers: Mapping[str, CompensatedLayer]
    ) -> dict[str, Tensor]:
        """Return the squared gradient of the loss at each channel, of all calls, summed."""
        squares: dict[str, Tensor] = {}
        device = device_of(model)
        with forked_random_state(device), compensation_disabled(model), nominal_inside(model):
            for number, x in enumerate(self._batches):
                seed_random_state(derive_seed(self.settings.seed, "loss", number), device)
                for name, gradient in self._gradients(model, layers, x).items():
                    squares[name] = squares.get(name, torch.zeros_like(gradient)) + gradient
        self.passes += 1
        return squares

    @torch.enable_grad()
    def _gradients(
        self, model: nn.Module, layers: Mapping[str, CompensatedLayer], x: Inputs
    ) -> dict[str, Tensor]:
        probes: list[tuple[str, Tensor]] = []  # zeros added to outputs, whose gradients are taken
        with ExitStack() as stack:
            for name, layer in layers.items():

                def add(_: nn.Module, __: Any, y: Tensor, name: str = name) -> Tensor:
                    probes.append((name, torch.zeros_like(y, requires_grad=True)))
                    return y + probes[-1][1]

                stack.callback(layer.register_forward_hook(add).remove)
            loss = _expected_loss(self.task, _one_tensor(call(model, x)))
        gradients = torch.autograd.grad(loss, [one for _, one in probes], allow_unused=True)
        sums: dict[str, Tensor] = {}
        for (name, probe), gradient in zip(probes, gradients, strict=True):
            module: Any = layers[name].corrector_module
            rows = rows_of(probe if gradient is None else gradient, module.dims)
            sums[name] = sums.get(name, 0.0) + rows.detach().double().square().sum(0)
        return sums

    def __getstate__(self) -> dict[str, Any]:
        """Leave what is kept out of copies."""
        return {"settings": self.settings, "task": self.task, "passes": 0.0}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()


def _one_tensor(outputs: Any) -> Tensor:
    if isinstance(outputs, Tensor):
        return outputs
    raise bad_value(
        "model", type(outputs).__name__,
        "a network that returns one tensor, or one named logits or out, where its outputs count",
        "leave refine_steps and weighting as they are by default",
    )  # fmt: skip


def _expected_loss(task: Task, outputs: Tensor) -> Tensor:
    """Return a loss whose squared gradient is, in the mean, the Fisher information of the outputs.

    Targets are drawn from what the outputs say of them, as a chip's owner has no labels; outputs
    of a task without ``drawn_loss`` count as normally distributed.
    """
    drawn = getattr(task, "drawn_loss", None)
    if drawn is not None:
        loss: Tensor = drawn(outputs)
        return loss
    return (outputs * torch.randn_like(outputs)).sum()


def _identity(model: nn.Module) -> str:
    """Return a fingerprint of the network without its correctors and chip."""
    hardware = [*describe_periphery(model), *describe_noise_models(model, None)]
    network = tensors_fingerprint(base_snapshot(model))
    return network + text_fingerprint([*hardware, str(device_of(model))])


def _bytes(outputs: Mapping[str, list[Tensor]]) -> int:
    return sum(y.numel() * y.element_size() for calls in outputs.values() for y in calls)
