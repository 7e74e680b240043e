"""Weights and multiply-accumulates (MACs) of a network, counted in one forward pass."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
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
from cnet_aihw.evaluation.metrics import evaluation_mode
from cnet_aihw.rram import count_weights, find_analog_layers, without_wrappers
from cnet_aihw.runtime.inputs import Inputs, call, map_tensors, samples_in
from cnet_aihw.runtime.torch_device import device_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LayerCost:
    """Cost of one linear layer or convolution."""

    name: str
    """Name in the model."""

    shape: LayerShape
    """Channels, dimensions and kernel."""

    weights: int
    """Weights and biases."""

    positions: int
    """Outputs per channel and sample, summed over all calls: H * W of a 2d convolution (inputs per
    channel of a transposed one, where each of them meets the whole kernel)."""

    macs: int
    """Multiply-accumulates per sample, over all calls."""

    analog: bool
    """Whether it is on a crossbar."""


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

    uncounted: tuple[str, ...] = ()
    """Modules with weight matrices whose multiply-accumulates torch cannot count, such as LSTMs on
    a CPU; they are missing in ``macs``."""

    @property
    def correctable(self) -> list[str]:
        """Names of the layers on crossbars beside which a corrector can stand."""
        return [n for n, layer in self.layers.items() if layer.analog and layer.shape.dims <= 2]


def network_cost(model: nn.Module, example: Inputs) -> NetworkCost:
    """Count weights and MACs of a model without its compensation, in one forward pass.

    Args:
        model: converted model (or a digital one: then no layer is analog).
        example: inputs of one or more samples, moved to the model's device: a tensor [N, ...], or a
            tuple or mapping of them. Layers may see samples and what is in them (frames, steps of
            a sequence) along any axes.

    Returns:
        Costs per sample. A warning is logged for modules that cannot be counted.
    """
    layers = {
        without_wrappers(model, name): module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | _ConvNd) and not _in_corrector(model, name)
    }
    shapes = {name: LayerShape.of(module) for name, module in layers.items()}
    samples = samples_in(example)
    device = device_of(model)
    inputs = map_tensors(example, lambda tensor: tensor.to(device))
    with torch.no_grad(), evaluation_mode(model), compensation_disabled(model), _countable():
        counter = _Counter(model, layers, shapes)
        with counter:
            call(model, inputs)
        analog = set(find_analog_layers(model))
    costs = {}
    for name, calls in counter.positions.items():
        shape, positions = shapes[name], calls // samples
        weights = count_weights(layers[name])
        macs = shape.macs * positions
        costs[name] = LayerCost(name, shape, weights, positions, macs, name in analog)
    if counter.uncounted:
        log.warning(
            "the MACs of %s cannot be counted and are missing in the network's; overheads in MACs "
            "are too large.",
            ", ".join(counter.uncounted),
        )
    added = sum(p.numel() for p in compensation_parameters(model).values())
    other = counter.other_flops // 2 // samples
    total = sum(cost.macs for cost in costs.values()) + other
    return NetworkCost(costs, count_weights(model) - added, total, other, tuple(counter.uncounted))


class _Counter:
    """Counts positions of layers and the operations outside them while a network runs."""

    def __init__(
        self, model: nn.Module, layers: Mapping[str, nn.Module], shapes: dict[str, LayerShape]
    ) -> None:
        self.positions: dict[str, int] = {}
        self.uncounted: list[str] = []
        self._flops = FlopCounterMode(display=False)
        self._inside = 0  # operations within layers
        self._starts: list[int] = []
        self._handles: list[Any] = []
        for name, layer in layers.items():
            self._handles += self._hook_layer(name, layer, shapes[name])
        known = {id(part) for layer in layers.values() for part in layer.modules()}
        for name, module in model.named_modules():
            if id(module) not in known and _has_matrix(module) and not _in_corrector(model, name):
                self._handles += self._hook_other(without_wrappers(model, name), module)

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

    def _hook_layer(self, name: str, layer: nn.Module, shape: LayerShape) -> list[Any]:
        def begin(*_: Any) -> None:
            self._starts.append(self._flops.get_total_flops())

        def end(module: nn.Module, inputs: tuple[Tensor, ...], y: Tensor) -> None:
            start = self._starts.pop()
            if not self._starts:  # the outermost of layers within layers
                self._inside += self._flops.get_total_flops() - start
            values, channels = y, shape.out_channels
            if isinstance(module, _ConvTransposeNd):
                values, channels = inputs[0], shape.in_channels
            self.positions[name] = self.positions.get(name, 0) + values.numel() // channels

        return [layer.register_forward_pre_hook(begin), layer.register_forward_hook(end)]

    def _hook_other(self, name: str, module: nn.Module) -> list[Any]:
        starts: list[int] = []

        def begin(*_: Any) -> None:
            starts.append(self._flops.get_total_flops())

        def end(*_: Any) -> None:
            if self._flops.get_total_flops() == starts.pop() and name not in self.uncounted:
                self.uncounted.append(name)

        return [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]


def _has_matrix(module: nn.Module) -> bool:
    """Whether a module itself has a weight matrix that is multiplied with."""
    no_product = nn.Embedding | nn.EmbeddingBag | nn.LayerNorm
    own = module.parameters(recurse=False)
    return not isinstance(module, no_product) and any(p.dim() >= 2 for p in own)


def _in_corrector(model: nn.Module, name: str) -> bool:
    return any(name.startswith(f"{layer}.corrector_module") for layer in compensated_layers(model))


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
