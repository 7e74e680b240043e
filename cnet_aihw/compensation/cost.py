"""What a network and a compensation cost: weights and multiply-accumulates (MACs)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from cnet_aihw.compensation.modules import Compensation
from cnet_aihw.compensation.placement import DIGITAL, Placement
from cnet_aihw.compensation.shapes import LayerShape, filters, layer_shape
from cnet_aihw.compensation.variants import CompensationVariant
from cnet_aihw.compensation.wrapping import compensation_disabled, compensation_parameters
from cnet_aihw.evaluation.metrics import evaluation_mode
from cnet_aihw.rram import count_weights, find_analog_layers
from cnet_aihw.rram.layer_names import without_wrappers
from cnet_aihw.runtime.errors import CnetError


@dataclass(frozen=True)
class LayerCost:
    """One linear layer or convolution."""

    name: str
    """Name in the model."""

    shape: LayerShape
    """Channels and dimensions."""

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
    """A network without compensation."""

    layers: dict[str, LayerCost]
    """Linear layers and convolutions in order of execution."""

    weights: int
    """All weights and biases, BatchNorm included."""

    macs: int
    """Multiply-accumulates of linear layers and convolutions per sample."""


@dataclass(frozen=True)
class CompensationCost:
    """What a placement adds."""

    weights: dict[str, int]
    """Digital weights by layer, biases included."""

    macs: dict[str, int]
    """Digital multiply-accumulates per sample by layer."""

    overhead_weights: float
    """All weights added / weights of the network."""

    overhead_macs: float
    """All multiply-accumulates added / those of the network."""


def network_cost(model: nn.Module, example: Tensor) -> NetworkCost:
    """Count weights and MACs of a model without its compensation.

    Args:
        model: converted model (or a digital one: then no layer is analog).
        example: one or more inputs, [N, ...]; layers may see samples and what is in them (frames,
            steps of a sequence) along any axes.

    Returns:
        Its costs per sample.
    """
    ours = {
        id(part)
        for module in model.modules()
        if isinstance(module, Compensation)
        for part in module.modules()
    }
    layers = {
        without_wrappers(model, name): module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | _ConvNd) and id(module) not in ours
    }
    calls: dict[str, int] = {}

    def count(name: str) -> Any:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], y: Tensor) -> None:
            shape = shapes[name]
            values, channels = y, shape.out_channels
            if isinstance(layer, _ConvTransposeNd):
                values, channels = inputs[0], shape.in_channels
            calls[name] = calls.get(name, 0) + values.numel() // channels

        return hook

    shapes = {name: _shape(module) for name, module in layers.items()}
    handles = [module.register_forward_hook(count(name)) for name, module in layers.items()]
    try:
        with torch.no_grad(), evaluation_mode(model), compensation_disabled(model):
            model(example)
            analog = set(find_analog_layers(model))
    finally:
        for handle in handles:
            handle.remove()
    costs = {}
    for name, places_of_all in calls.items():
        layer, shape, places = layers[name], shapes[name], places_of_all // len(example)
        taps = math.prod(layer.kernel_size) if isinstance(layer, _ConvNd) else 1
        groups = layer.groups if isinstance(layer, _ConvNd) else 1
        matrix = shape.out_channels * (shape.in_channels // groups) * taps
        weights = count_weights(layer)
        costs[name] = LayerCost(name, shape, weights, places, matrix * places, name in analog)
    added = sum(p.numel() for p in compensation_parameters(model).values())
    total = sum(cost.macs for cost in costs.values())
    return NetworkCost(costs, count_weights(model) - added, total)


def compensation_cost(
    network: NetworkCost, placement: Placement, variant: CompensationVariant
) -> CompensationCost:
    """Count what a placement adds, from shapes alone: nothing is built or run.

    Args:
        network: costs of the network.
        placement: layer -> ratio, or ``"digital"``, which costs the layer itself.
        variant: how generators and compensators are built.

    Raises:
        CnetError: if the placement names a layer that the network does not run, or gives a ratio to
            a convolution over three dimensions.
    """
    weights, macs = {}, {}
    for name, ratio in placement.items():
        if name not in network.layers:
            raise CnetError(
                f"the placement names {name!r}, which the network does not run; it runs "
                f"{', '.join(network.layers)}."
            )
        layer = network.layers[name]
        if isinstance(ratio, str):
            weights[name], macs[name] = layer.weights, layer.macs
            continue
        if layer.shape.dims > 2:
            raise CnetError(
                f"the placement gives {name!r} the ratio {ratio}, but it is a convolution over "
                f"{layer.shape.dims} dimensions; linear layers and 1d and 2d convolutions can be "
                "compensated."
            )
        m, c = filters(layer.shape, ratio), layer.shape.out_channels
        taps = variant.kernel_size**layer.shape.dims
        generator = layer.shape.channels_read(variant) * taps * m
        compensator = ((c + m) if variant.form == "full" else m) * c
        weights[name] = generator + m + compensator + c if m else 0
        macs[name] = (generator + compensator) * layer.positions if m else 0
    return CompensationCost(
        weights,
        macs,
        sum(weights.values()) / network.weights,
        sum(macs.values()) / network.macs,
    )


def uniform_placement(
    network: NetworkCost,
    layers: Sequence[str],
    limit: float,
    variant: CompensationVariant,
    min_ratio: float = 0.0,
) -> Placement:
    """Give layers one common ratio, as large as the overhead limit in weights allows.

    It is one of the ratios k / C of whole filters of the layers' widths C. Layers are taken in the
    order given, each that still fits with the smallest ratio (at least one filter).

    Args:
        network: costs of the network.
        layers: the layers, the most important first.
        limit: largest overhead in weights, such as 0.05.
        variant: how generators and compensators are built.
        min_ratio: smallest ratio worth taking: rather fewer layers than a smaller one.

    Raises:
        CnetError: if no layer is given, one is unknown, or none stays within the limit.
    """
    _check_known(network, layers)

    def overhead(names: Sequence[str], ratio: float) -> float:
        placement = Placement(dict.fromkeys(names, ratio))
        return compensation_cost(network, placement, variant).overhead_weights

    widest = max(network.layers[name].shape.out_channels for name in layers)
    least = max(min_ratio, 1 / widest)  # one filter, where no smallest ratio is given
    chosen: list[str] = []
    for name in layers:
        if overhead([*chosen, name], least) <= limit:
            chosen.append(name)
    if not chosen:
        cost, name = min((overhead([name], least), name) for name in layers)
        full = variant.form == "full"
        raise CnetError(
            f"the overhead limit {limit:.4g} allows no compensation: the least, at {name!r}, costs "
            f"{cost:.4g} of the network's weights; raise the limit or take another variant"
            + (", such as form='residual', which costs wide layers less." if full else ".")
        )
    widths = {network.layers[name].shape.out_channels for name in chosen}
    ratios = {least} | {k / c for c in widths for k in range(1, c + 1)}
    fitting = [r for r in ratios if r >= least and overhead(chosen, r) <= limit]
    return Placement(dict.fromkeys(chosen, max(fitting)))


def digital_placement(network: NetworkCost, layers: Sequence[str], limit: float) -> Placement:
    """Keep layers digital within an overhead limit: in the order given, each that still fits.

    Args:
        network: costs of the network.
        layers: the layers, the most sensitive first.
        limit: largest overhead in weights.

    Raises:
        CnetError: if no layer is given, one is unknown, or none fits.
    """
    _check_known(network, layers)
    chosen: list[str] = []
    for name in layers:
        weights = sum(network.layers[n].weights for n in (*chosen, name))
        if weights / network.weights <= limit:
            chosen.append(name)
    if not chosen:
        raise CnetError(
            f"the overhead limit {limit:.4g} is less than any of the layers costs; raise it."
        )
    return Placement(dict.fromkeys(chosen, DIGITAL))


def _check_known(network: NetworkCost, layers: Sequence[str]) -> None:
    if not layers:
        raise CnetError("there is no layer to compensate; name layers, or choose more candidates.")
    for name in layers:
        if name not in network.layers:
            raise CnetError(
                f"the network does not run {name!r}; it runs {', '.join(network.layers)}."
            )


def _shape(module: nn.Module) -> LayerShape:
    """The shape of any linear layer or convolution, also of one that cannot be compensated."""
    if isinstance(module, _ConvNd):
        return LayerShape(len(module.kernel_size), module.in_channels, module.out_channels)
    return layer_shape(module)
