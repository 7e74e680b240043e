"""Weights and multiply-accumulates (MACs) of a network, counted in one forward pass."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.utils.flop_counter import FlopCounterMode

from cnet_aihw.compensation.corrector import LayerShape
from cnet_aihw.compensation.wrapping import (
    compensated_layers,
    compensation_disabled,
    compensation_parameters,
)
from cnet_aihw.evaluation.first_batch import checked_call
from cnet_aihw.evaluation.metrics import evaluation_mode
from cnet_aihw.rram import count_weights, find_analog_layers, without_wrappers
from cnet_aihw.rram.conversion_checks import weight_holders
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.inputs import Inputs, map_tensors, samples_in, select
from cnet_aihw.runtime.random_state import forked_random_state
from cnet_aihw.runtime.torch_device import device_of
from cnet_aihw.runtime.typed import checked

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LayerCost:
    """Cost of one linear layer or convolution."""

    name: str
    """Name in the model."""

    shape: LayerShape
    """Channels, dimensions and kernel."""

    weights: int
    """Weights and biases, those that it shares with a layer called before it left out."""

    positions: int
    """Outputs per channel and sample, summed over all calls: H * W of a 2d convolution."""

    macs: int
    """Multiply-accumulates per sample, over all calls."""

    analog: bool
    """Whether it is on a crossbar."""


@dataclass(frozen=True)
class OtherCost:
    """Cost of a digital module with weights that is neither a linear layer nor a convolution."""

    weights: int
    """Its own weights and biases, those that it shares with a module before it left out."""

    macs: int | None
    """Multiply-accumulates per sample, without those of layers inside of it; None: unknown."""


@dataclass(frozen=True)
class NetworkCost:
    """Cost of a network without compensation."""

    layers: dict[str, LayerCost]
    """Linear layers and convolutions in the order of execution."""

    weights: int
    """All weights and biases, BatchNorm included."""

    macs: int
    """Multiply-accumulates of all matrix products and convolutions per sample."""

    other_macs: int = 0
    """Those among them outside the layers, such as the products of attention."""

    others: dict[str, OtherCost] = field(default_factory=dict)
    """Digital modules with weights that are not among the layers, such as LSTMs and attention, and
    layers that are not called as such. Lookups and norms have no multiply-accumulates."""

    @property
    def uncounted(self) -> tuple[str, ...]:
        """Names of the modules whose multiply-accumulates are unknown, and missing in ``macs``."""
        return tuple(name for name, other in self.others.items() if other.macs is None)

    @property
    def correctable(self) -> list[str]:
        """Names of the layers on crossbars beside which a corrector can stand."""
        return [n for n, layer in self.layers.items() if layer.analog and layer.shape.correctable]


@checked
def network_cost(model: nn.Module, example: Inputs) -> NetworkCost:
    """Count weights and MACs of a model without its compensation, in one forward pass.

    torch's random state is left as it was.

    Args:
        model: converted model (or a digital one: then no layer is analog).
        example: inputs of one or more samples, moved to the model's device: a tensor [N, ...], or a
            tuple or mapping of them. Layers may see samples and what is in them (frames, steps of
            a sequence) along any axes.

    Returns:
        Costs per sample. A warning is logged for modules that cannot be counted.
    """
    holders = {
        without_wrappers(model, name): module
        for name, module, _ in weight_holders(model)
        if not _in_corrector(model, name)
    }
    with compensation_disabled(model):  # a layer that compensation keeps digital is analog without
        analog = find_analog_layers(model)
    layers = {
        without_wrappers(model, name): module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | _ConvNd) and not _in_corrector(model, name)
    }
    shapes = {name: LayerShape.of(module) for name, module in layers.items()}
    other = {name: module for name, module in holders.items() if name not in layers}
    with (
        forked_random_state(device_of(model)),  # periphery with noise draws
        torch.no_grad(),
        evaluation_mode(model),
        compensation_disabled(model),
        _countable(),
    ):
        counter, samples = _counted(model, example, layers, shapes, other)
    costs, seen = {}, set[int]()
    for name, outputs in counter.positions.items():
        shape, positions = shapes[name], -(-outputs // samples)
        own = {id(p) for p in layers[name].parameters()}
        shared = sum(p.numel() for p in layers[name].parameters() if id(p) in seen)
        weights, seen = count_weights(layers[name]) - shared, seen | own
        macs = shape.macs * counter.kernels[name] // samples
        costs[name] = LayerCost(name, shape, weights, positions, macs, name in analog)
    not_called = {n: m for n, m in layers.items() if n not in costs and n not in analog}
    others = _other_costs(counter, samples, {**other, **not_called}, costs, layers)
    added = sum(p.numel() for p in compensation_parameters(model).values())
    outside = counter.other_flops // 2 // samples
    total = sum(cost.macs for cost in costs.values()) + outside
    found = NetworkCost(costs, count_weights(model) - added, total, outside, others)
    if found.uncounted:
        log.warning(
            "the MACs of %s cannot be counted and are missing in the network's; overheads in MACs "
            "are too large.",
            ", ".join(found.uncounted),
        )
    return found


def _counted(
    model: nn.Module,
    example: Inputs,
    layers: Mapping[str, nn.Module],
    shapes: dict[str, LayerShape],
    other: Mapping[str, nn.Module],
) -> tuple[_Counter, int]:
    """Return the counts of one sample, and 1; of more where a network does not take one.

    Costs of a layer that is called once per batch would depend on the batch otherwise.
    """
    device, most = device_of(model), samples_in(example)
    if not most:
        raise bad_value("example", most, "inputs of at least one sample")
    sizes = sorted({1, min(2, most), most})
    for samples in sizes:
        inputs = map_tensors(select(example, slice(samples)), lambda tensor: tensor.to(device))
        counter = _Counter(layers, shapes, other)
        try:
            with counter:
                checked_call(model, inputs)
        except CnetError as error:
            refused = error.__cause__ is None  # by a layer, whatever the number of samples
            if refused or samples == sizes[-1]:
                raise
            continue
        return counter, samples
    raise AssertionError("the last size returns or raises")


def _other_costs(
    counter: _Counter,
    samples: int,
    modules: Mapping[str, nn.Module],
    costs: Mapping[str, LayerCost],
    layers: Mapping[str, nn.Module],
) -> dict[str, OtherCost]:
    """Return the costs of digital weights outside of the layers that were called."""
    seen = {id(p) for name in costs for p in layers[name].parameters()}
    found: dict[str, OtherCost] = {}
    for name, module in modules.items():
        own = [
            p
            for part in (module, *getattr(module, "parametrizations", {}).values())
            for p in part.parameters(recurse=part is not module)
            if id(p) not in seen
        ]
        seen |= {id(p) for p in own}
        weights = sum(p.numel() for p in own)
        if name in counter.other_macs:
            counted = counter.other_macs[name]
            macs = None if counted is None else counted // samples
        else:
            inside = any(name.startswith(f"{o}." if o else "") for o in counter.other_macs)
            # not called: others computed with its weights, or nobody did
            macs = 0 if inside or not counter.unexplained_flops else None
        if isinstance(module, _NO_PRODUCT) or (macs is None and own and all(map(_is_scale, own))):
            macs = 0
        found[name] = OtherCost(weights, macs)
    return found


class _Counter:
    """Counts positions of layers and the operations outside them while a network runs.

    Attributes:
        positions: layer -> positions, of all samples.
        kernels: layer -> how often the whole kernel is multiplied with, of all samples.
        other_macs: other module that was called -> multiply-accumulates, of all samples; None where
            torch counted none in it.
    """

    def __init__(
        self,
        layers: Mapping[str, nn.Module],
        shapes: dict[str, LayerShape],
        other: Mapping[str, nn.Module],
    ) -> None:
        self.positions: dict[str, int] = {}
        self.kernels: dict[str, int] = {}
        self.other_macs: dict[str, int | None] = {}
        self._flops = FlopCounterMode(display=False)
        self._inside = 0  # operations within layers
        self._frames: list[_Frame] = []
        self._handles: list[Any] = []
        for name, layer in layers.items():
            self._handles += self._hook(layer, self._layer_end(name, shapes[name]))
        for name, module in other.items():
            self._handles += self._hook(module, self._other_end(name))

    def __enter__(self) -> None:
        self._flops.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._flops.__exit__(*error)
        for handle in self._handles:
            handle.remove()

    @property
    def other_flops(self) -> int:
        """Operations outside layers; torch counts a multiply-accumulate as two."""
        return self._flops.get_total_flops() - self._inside

    @property
    def unexplained_flops(self) -> int:
        """Operations outside both layers and other modules with weights."""
        return self.other_flops - 2 * sum(macs or 0 for macs in self.other_macs.values())

    def _hook(self, module: nn.Module, end: Callable[..., None]) -> list[Any]:
        def begin(*_: Any) -> None:
            self._frames.append(_Frame(self._flops.get_total_flops()))

        return [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]

    def _close(self) -> tuple[int, int]:
        """Return the operations since the last hook began, all and without what lies inside."""
        frame = self._frames.pop()
        total = self._flops.get_total_flops() - frame.start
        if self._frames:
            self._frames[-1].nested += total
        return total, total - frame.nested

    def _layer_end(self, name: str, shape: LayerShape) -> Callable[..., None]:
        def end(module: nn.Module, inputs: tuple[Tensor, ...], y: Tensor) -> None:
            self._inside += self._close()[1]
            found = y.numel() // shape.out_channels
            self.positions[name] = self.positions.get(name, 0) + found
            if isinstance(module, _ConvTransposeNd):  # each input meets the whole kernel
                found = inputs[0].numel() // shape.in_channels
            self.kernels[name] = self.kernels.get(name, 0) + found

        return end

    def _other_end(self, name: str) -> Callable[..., None]:
        def end(*_: Any) -> None:
            total, own = self._close()
            before = self.other_macs.get(name)
            self.other_macs[name] = (before or 0) + own // 2 if total else before

        return end


@dataclass
class _Frame:
    """A module that is computing."""

    start: int
    nested: int = 0


_NO_PRODUCT = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm)
"""Modules whose weights are not multiplied with as a matrix."""


def _is_scale(weight: Tensor) -> bool:
    """Say whether a weight has one axis with more than one number, such as a scale [C, 1, 1]."""
    return sum(size > 1 for size in weight.shape) <= 1


def _in_corrector(model: nn.Module, name: str) -> bool:
    plain = without_wrappers(model, name)
    return any(plain.startswith(f"{layer}.corrector_module") for layer in compensated_layers(model))


@contextmanager
def _countable() -> Iterator[None]:
    """Let torch compute attention from matrix products, which can be counted, inside the block."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
