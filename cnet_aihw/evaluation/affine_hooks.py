"""Forward hooks of the affine correction: what a channel should be, and what makes it so."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd


class Observer:
    """Forward hook that keeps mean and standard deviation of each channel at one call.

    A call in which all samples have the same input, such as a state that begins with zeros, says
    nothing; then it is the next one that does.

    Args:
        number: number of the first call that may count.
    """

    def __init__(self, number: int) -> None:
        self.mean_and_std: tuple[Tensor, Tensor] | None = None  # each [channels, 1, ...]
        self.number = self._first = number
        self._calls = 0
        self._differ: bool | Tensor | None = None  # whether samples do at the call that is kept

    def __call__(self, layer: nn.Module, inputs: Any, output: Tensor) -> None:
        """Keep what the call gives, if none before it counts."""
        if self._calls >= self._first and output.numel():  # an expert may be given no sample
            differ = not inputs or (inputs[0] != inputs[0][:1]).any()
            # read only where there is a further call, as reading waits for the device
            if self._differ is None or (not self._differ and differ):
                self.mean_and_std = _channel_statistics(layer, output)
                self.number, self._differ = self._calls, differ
        self._calls += 1


FEWEST_ROWS = 4
"""Rows from which a scale of a channel is fitted: the mean of 1 / (variance of n normal numbers) is
finite from four on."""


class ChannelCorrector:
    """Forward hook that estimates scale and offset at one call and applies them from there on.

    Args:
        wanted: mean and standard deviation of each channel.
        number: number of the call.
    """

    def __init__(self, wanted: tuple[Tensor, Tensor], number: int) -> None:
        self.wanted, self.number = wanted, number
        self.scale: Tensor | None = None  # [channels, 1, ...]
        self.offset = torch.empty(0)
        self._left = 0
        self._readings: list[tuple[Tensor, Tensor]] = []
        self._rows = 0  # of a reading

    def begin(self) -> None:
        """Estimate again, from the next reading."""
        self._left, self.scale = self.number, None

    def average(self) -> None:
        """Correct from here on by the averages over all readings; without any not at all."""
        self._left = 0
        if not self._readings:
            self.scale, self.offset = torch.ones(()), torch.zeros(())
        elif len(self._readings) > 1 or self.scale is None:
            means, stds = (torch.stack(values) for values in zip(*self._readings, strict=True))
            std = stds.square().mean(0).sqrt()
            self.scale, self.offset = self._towards_wanted(means.mean(0), std)

    def __call__(self, layer: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        """Correct the output, by what is estimated of it at the call that counts."""
        if self._left or (self.scale is None and not output.numel()):
            self._left = max(0, self._left - 1)
            return output
        if self.scale is None:
            self._readings.append(_channel_statistics(layer, output))
            self._rows = output.numel() // self._readings[-1][0].numel()
            self.scale, self.offset = self._towards_wanted(*self._readings[-1])
        return (output * self.scale + self.offset).to(output.dtype)

    def _towards_wanted(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        wanted_mean, wanted_std = self.wanted
        # the rest that a float32 sum leaves of a constant channel is not a spread
        constant = (std <= 1e-6 * mean.abs()) | (self._rows < FEWEST_ROWS)
        scale = torch.where(constant, 1.0, wanted_std / std)
        return scale, wanted_mean - scale * mean


def _channel_statistics(layer: nn.Module, output: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel, shaped to broadcast to the output."""
    positions = len(layer.kernel_size) if isinstance(layer, _ConvNd) else 0
    channel = output.dim() - 1 - positions
    others = [dim for dim in range(output.dim()) if dim != channel]
    variance, mean = torch.var_mean(output.float(), dim=others, correction=0)
    shape = (-1,) + (1,) * positions
    return mean.view(shape), variance.sqrt().view(shape)
