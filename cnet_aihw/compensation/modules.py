"""Building blocks of correctors: digital layers that stay digital, and helpers on channels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DigitalLinear(nn.Linear):
    """Linear layer that conversion leaves digital, because it is a class of its own."""


class DigitalConv1d(nn.Conv1d):
    """1d convolution that conversion leaves digital, because it is a class of its own."""


class DigitalConv2d(nn.Conv2d):
    """2d convolution that conversion leaves digital, because it is a class of its own."""


def pointwise(
    dims: int, in_channels: int, out_channels: int, side: int = 1
) -> DigitalLinear | DigitalConv1d | DigitalConv2d:
    """Return a layer that maps channels to channels at each position.

    Args:
        dims: dimensions of the positions, 0 to 2; 0 gives a linear layer.
        in_channels: input channels.
        out_channels: output channels.
        side: odd side of a convolution's kernel; a linear layer has none.
    """
    if dims == 0:
        return DigitalLinear(in_channels, out_channels)
    convolution = DigitalConv1d if dims == 1 else DigitalConv2d
    return convolution(in_channels, out_channels, side, padding=side // 2)


def in_type_of_input(layer: nn.Linear | nn.Conv1d | nn.Conv2d, x: Tensor) -> Tensor:
    """Apply a layer in the type of its input; under autocast torch chooses the type."""
    if layer.weight.dtype == x.dtype or torch.is_autocast_enabled(x.device.type):
        return layer(x)
    parameters = {name: p.to(x.dtype) for name, p in layer.named_parameters()}
    return torch.func.functional_call(layer, parameters, (x,))


def pooled(x: Tensor, y: Tensor, dims: int) -> Tensor:
    """Return a layer's input averaged to the positions of its output.

    Args:
        x: input, [N, in, *size]; linear: [..., in].
        y: output, [N, C, *size]; linear: [..., C].
        dims: dimensions of the positions.

    Returns:
        x as [N, in, *size of y].
    """
    if dims == 0 or x.shape[-dims:] == y.shape[-dims:]:
        return x
    pool: Any = F.adaptive_avg_pool1d if dims == 1 else F.adaptive_avg_pool2d
    averaged: Tensor = pool(x, tuple(y.shape[-dims:]))
    return averaged


def along_channels(vector: Tensor, y: Tensor, dims: int) -> Tensor:
    """Return one value per channel, [C], in the type of y and a shape that broadcasts to it."""
    return vector.to(y.dtype).view(-1, *[1] * dims)
