"""Networks for charge read-out: values in [0, 1] between layers, and no biases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.memory import check_memory
from cnet_aihw.runtime.typed import checked
from cnet_aihw.zoo.shapes import check_classes, image_shape

TEMPERATURE = 0.07
"""Temperature of the softmax over times in Sakemi et al., arXiv 2412.09010."""

_ROUNDING = 1e-5  # of pixels that were normalised


class UnitInterval(nn.Module):
    """Pixels in [0, 1] of normalised ones, rounding clipped.

    Args:
        mean: mean of each channel, which was subtracted; empty: nothing was.
        std: standard deviation of each channel, by which was divided.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float] = (), std: Sequence[float] = ()) -> None:
        super().__init__()
        if len(mean) != len(std):
            raise bad_value("std", list(std), f"as many numbers as mean has, {len(mean)}")
        self.normalised = len(mean) > 0
        self.register_buffer("mean", torch.tensor(list(mean) or [0.0]), persistent=False)
        self.register_buffer("std", torch.tensor(list(std) or [1.0]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Inputs [B, C, ...] -> the same shape in [0, 1]; as they are without a normalisation."""
        if not self.normalised:
            return x
        shape = (1, -1) + (1,) * (x.dim() - 2)
        return _clipped(x * self.std.view(shape) + self.mean.view(shape))

    def extra_repr(self) -> str:
        """Name the numbers, which a saved state does not hold."""
        return f"mean={self.mean.tolist()}, std={self.std.tolist()}"


class _Clipped(nn.Module):
    """Base: layers in a chain with a clip between them, and logits from the last voltages."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], temperature: float) -> None:
        super().__init__()
        if not 0.0 < temperature < math.inf:
            raise bad_value("temperature", temperature, "a number above 0")
        self.pixels = UnitInterval(mean, std)
        self.layers = nn.Sequential()
        self.temperature = temperature

    def _start(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Samples [B, ...] -> logits [B, classes]."""
        logits: Tensor = self.layers(self.pixels(x)) / self.temperature
        return logits

    def extra_repr(self) -> str:
        """Name the temperature."""
        return f"temperature={self.temperature}"


class ClippedMLP(_Clipped):
    """Linear layers ``fc1``, ``fc2``, ... with a clip to [0, 1] between them, for charge read-out.

    Layers have no bias: a column has its weights alone. Weights start as He et al. 2015 (normal),
    from torch's global generator. Logits are outputs over a temperature, since voltages are small.

    Args:
        input_shape: shape of one sample.
        classes: number of classes.
        hidden: width of each hidden layer.
        mean: mean of each channel of the data, see :attr:`~cnet_aihw.zoo.Dataset.mean`; empty:
            inputs lie in [0, 1] as they are.
        std: standard deviation of each channel.
        temperature: outputs are divided by it.

    Raises:
        CnetError: a size below 1, or another temperature than a number above 0.
    """

    @checked
    def __init__(
        self,
        input_shape: Sequence[int] = (1, 28, 28),
        classes: int = 10,
        hidden: Sequence[int] = (400, 400),
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
        temperature: float = TEMPERATURE,
    ) -> None:
        super().__init__(mean, std, temperature)
        if len(input_shape) == 0 or min(input_shape) < 1:
            raise bad_value("input_shape", tuple(input_shape), "sizes of at least 1")
        if any(size < 1 for size in hidden):
            raise bad_value("hidden", tuple(hidden), "widths of 1 or more")
        check_classes(classes)
        sizes = [math.prod(input_shape), *hidden, classes]
        check_memory(4 * sum(a * b for a, b in pairwise(sizes)), "an MLP of these widths")
        self.layers.add_module("flatten", nn.Flatten())
        for number, (wide, out) in enumerate(pairwise(sizes), start=1):
            if number > 1:
                self.layers.add_module(f"clip{number - 1}", nn.Hardtanh(0.0, 1.0))
            self.layers.add_module(f"fc{number}", nn.Linear(wide, out, bias=False))
        self._start()


class ClippedCNN(_Clipped):
    """Convolutions ``conv1``, ... with a clip behind each, and linear layers, for charge read-out.

    By default LeNet-5 for 28x28 or 32x32 images: max pooling takes the earliest spike. Otherwise as
    :class:`ClippedMLP`.

    Args:
        input_shape: (C, H, W).
        classes: number of classes.
        channels: filters of each convolution.
        kernel_size: side of each kernel.
        stride: step of each kernel.
        padding: border of zeros of each convolution, which are no spikes; null: 2 for the first
            where images are 28x28, and otherwise 0.
        pool: whether the largest of 2x2 values is taken behind each convolution.
        hidden: widths of the linear layers before the last one.
        mean: as for :class:`ClippedMLP`.
        std: as there.
        temperature: as there.

    Raises:
        CnetError: sizes below 1, or images that are too small.
    """

    @checked
    def __init__(
        self,
        input_shape: Sequence[int] = (1, 28, 28),
        classes: int = 10,
        channels: Sequence[int] = (6, 16),
        kernel_size: int = 5,
        stride: int = 1,
        padding: int | None = None,
        pool: bool = True,
        hidden: Sequence[int] = (120, 84),
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
        temperature: float = TEMPERATURE,
    ) -> None:
        super().__init__(mean, std, temperature)
        depth, height, width = image_shape("ClippedCNN", input_shape, "images (C, H, W)")
        check_classes(classes)
        for key, given in (
            *(("channels", channels), ("hidden", hidden)),
            *(("kernel_size", (kernel_size,)), ("stride", (stride,))),
        ):
            if any(size < 1 for size in given):
                raise bad_value(key, tuple(given), "sizes of 1 or more")
        if padding is not None and padding < 0:
            raise bad_value("padding", padding, "a border of 0 or more")
        sizes: tuple[int, ...] = height, width
        for number, filters in enumerate(channels, start=1):
            border = padding if padding is not None else 2 * (number == 1 and height == 28)
            sizes = tuple((n + 2 * border - kernel_size) // stride + 1 for n in sizes)
            after = tuple(n // 2 for n in sizes) if pool else sizes
            if min(after) < 1:
                expected = f"images that {len(channels)} convolutions leave something of"
                raise bad_value("input_shape", tuple(input_shape), expected)
            check_memory(4 * filters * depth * kernel_size**2, "a convolution of that size")
            conv = nn.Conv2d(depth, filters, kernel_size, stride, border, bias=False)
            self.layers.add_module(f"conv{number}", conv)
            self.layers.add_module(f"clip{number}", nn.Hardtanh(0.0, 1.0))
            if pool:
                self.layers.add_module(f"pool{number}", nn.MaxPool2d(2))
            depth, sizes = filters, after
        self.layers.add_module("flatten", nn.Flatten())
        wide = [depth * math.prod(sizes), *hidden, classes]
        check_memory(4 * sum(a * b for a, b in pairwise(wide)), "linear layers of these widths")
        for number, (rows, columns) in enumerate(pairwise(wide), start=1):
            if number > 1:
                clip = nn.Hardtanh(0.0, 1.0)
                self.layers.add_module(f"clip{len(channels) + number - 1}", clip)
            self.layers.add_module(f"fc{number}", nn.Linear(rows, columns, bias=False))
        self._start()


def _clipped(pixels: Tensor) -> Tensor:
    """Clip to [0, 1]; at the bounds the gradient is half, the mean of that beside and of none."""
    found = pixels.clamp(0.0, 1.0)
    if not pixels.requires_grad:
        return found
    inside = (pixels > -_ROUNDING).to(pixels.dtype) + (pixels > _ROUNDING)
    inside -= (pixels > 1.0 + _ROUNDING).to(pixels.dtype) + (pixels > 1.0 - _ROUNDING)
    return found.detach() + 0.5 * inside * (pixels - pixels.detach())
