"""Generator and compensator: small digital modules beside an analog layer (CorrectNet, step 2)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnet_aihw.compensation.shapes import LayerShape, filters
from cnet_aihw.compensation.variants import CompensationVariant


class DigitalLinear(nn.Linear):
    """A linear layer that conversion leaves digital, because it is a class of its own."""


class DigitalConv1d(nn.Conv1d):
    """A 1d convolution that conversion leaves digital, because it is a class of its own."""


class DigitalConv2d(nn.Conv2d):
    """A 2d convolution that conversion leaves digital, because it is a class of its own."""


class Compensation(nn.Module):
    r"""Correct a layer's output from what the layer read and gave.

    .. math:: g = a(\text{generator}([x, y])),\quad y' = \text{compensator}([y, g])

    with a 1x1 convolution of m filters as generator and one of C filters as compensator. It starts
    as the identity, bit for bit on a CPU. Weights are in float32; it computes in y's type.
    Source: CorrectNet (DATE 2023), step 2, as we read the paper; the variants are ours.

    Args:
        shape: the layer's channels and dimensions.
        ratio: generator filters / layer filters, in (0, 1]; at least one filter.
        variant: how it is built.
    """

    def __init__(self, shape: LayerShape, ratio: float, variant: CompensationVariant) -> None:
        super().__init__()
        self.dims, self.variant = shape.dims, variant
        m, c = filters(shape, ratio), shape.out_channels
        self.generator = _pointwise(shape.dims, shape.channels_read(variant), m, variant)
        in_channels = c + m if variant.form == "full" else m
        self.compensator = _pointwise(shape.dims, in_channels, c)
        with torch.no_grad():
            for parameter in self.compensator.parameters():
                parameter.zero_()
            if variant.form == "full":
                self.compensator.weight.flatten(1)[:, :c].fill_diagonal_(1.0)

    def extra_repr(self) -> str:
        """Tell the variant: also to what says whether a folder belongs to this network."""
        return self.variant.label()

    def first_filters(self, count: int) -> dict[str, Tensor]:
        """Return the parameters of the first generator filters, as a smaller compensation has them.

        Args:
            count: how many filters, from 1 to all.

        Returns:
            Name of a parameter -> view of it: the generator's first rows, and of the compensator
            the columns that read y (where it does) and those filters.
        """
        first: dict[str, Tensor] = dict(self.named_parameters())
        read = first["compensator.weight"].shape[1] - len(first["generator.weight"])  # C or 0
        for name in ("generator.weight", "generator.bias"):
            first[name] = first[name][:count]
        first["compensator.weight"] = first["compensator.weight"][:, : read + count]
        return first

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the corrected output.

        Args:
            x: the layer's input, ``[N, in, *size]`` (linear: [..., in]).
            y: the layer's output, ``[N, C, *size]`` (linear: [..., C]).

        Returns:
            As y.
        """
        channel = -1 - self.dims
        if self.dims and x.shape[-self.dims :] != y.shape[-self.dims :]:
            pool: Any = F.adaptive_avg_pool1d if self.dims == 1 else F.adaptive_avg_pool2d
            x = pool(x, tuple(y.shape[-self.dims :]))
        read = {"x": (x,), "y": (y,), "xy": (x, y)}[self.variant.reads]
        g = _apply(self.generator, torch.cat([part.to(y.dtype) for part in read], channel))
        if self.variant.activation != "none":
            g = F.relu(g) if self.variant.activation == "relu" else torch.tanh(g)
        if self.variant.form == "residual":
            return y + _apply(self.compensator, g).to(y.dtype)
        return _apply(self.compensator, torch.cat([y, g.to(y.dtype)], channel)).to(y.dtype)


def _apply(layer: nn.Linear | nn.Conv1d | nn.Conv2d, x: Tensor) -> Tensor:
    """Apply a layer in the type of its input; under autocast torch chooses the type."""
    if layer.weight.dtype == x.dtype or torch.is_autocast_enabled(x.device.type):
        return layer(x)
    parameters = {name: p.to(x.dtype) for name, p in layer.named_parameters()}
    return torch.func.functional_call(layer, parameters, (x,))


def _pointwise(
    dims: int, in_channels: int, out_channels: int, variant: CompensationVariant | None = None
) -> DigitalLinear | DigitalConv1d | DigitalConv2d:
    """A layer that acts on channels; with a variant, of its kernel size."""
    if dims == 0:
        return DigitalLinear(in_channels, out_channels)
    side = 1 if variant is None else variant.kernel_size
    convolution = DigitalConv1d if dims == 1 else DigitalConv2d
    return convolution(in_channels, out_channels, side, padding=side // 2)
