"""Convolutions on RRAM, with any groups and padding; torch's kernels behind perfect edges."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, cast

import torch
from aihwkit.nn.modules.base import AnalogLayerBase
from aihwkit.nn.modules.conv import AnalogConv1d, AnalogConv2d, AnalogConv3d, _AnalogConvNd
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.utils import _pair, _single, _triple

from cnet_aihw.rram.crossbar.configs import RRAMRPUConfig
from cnet_aihw.rram.crossbar.layers import (
    RRAMLayer,
    check_config,
    check_sizes,
    check_tile_class,
    check_weights_fit,
)
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import bad_choice, check_count


def _check_group_fits(config: RRAMRPUConfig, rows: int, columns: int, groups: int) -> None:
    """See that each group of a convolution has its crossbar: groups are not split further."""
    mapping = config.mapping
    for name, size, limit in (
        ("rows", rows, mapping.max_input_size),
        ("columns", columns, mapping.max_output_size),
    ):
        if 0 < limit < size:
            raise CnetError(
                f"max_{name} is {limit}, but each of the {groups} groups of a convolution needs "
                f"{size} {name}, and a group is not split over crossbars; raise max_{name}, or "
                "leave that layer digital with exclude.",
                key=f"max_{name}",
                value=limit,
                expected=f">= {size}",
            )


_CONVOLVE: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
"""torch's convolution by its dimensions."""


_PADDINGS = ("valid", "same")
_MODES = ("zeros", "reflect", "replicate", "circular")


def check_convolution(rows: int, columns: int, groups: int, padding: Any, mode: str) -> None:
    """Refuse arguments that torch's own convolution refuses.

    Raises:
        CnetError: names the argument.
    """
    if isinstance(padding, str) and padding not in _PADDINGS:
        raise bad_choice("padding", padding, _PADDINGS)
    if mode not in _MODES:
        raise bad_choice("padding_mode", mode, _MODES)
    for size in () if isinstance(padding, str) else padding:
        check_count("padding", size, 0)
    check_sizes(in_channels=rows, out_channels=columns, groups=groups)
    if rows % groups or columns % groups:
        raise bad_value("groups", groups, f"a divisor of {rows} and {columns} channels")


class ConvolutionOnTile(RRAMLayer):
    """Base of all convolutions; all groups lie on one tile [out, in / groups * kernel]."""

    in_channels: int
    out_channels: int
    kernel_size: tuple[int, ...]
    groups: int

    def _put_on_tile(
        self, rpu_config: RRAMRPUConfig, bias: bool, tile_module_class: type | None
    ) -> None:
        """Make the tile, which holds weight and bias from then on."""
        check_config(rpu_config, type(self).__name__)
        check_tile_class(tile_module_class)
        groups = self.groups
        self.in_features = self.in_channels // groups * math.prod(self.kernel_size)
        self.out_features = self.out_channels
        if groups > 1:
            _check_group_fits(rpu_config, self.in_features, self.out_channels // groups, groups)
        if tile_module_class is None:
            tile_module_class = (
                rpu_config.get_default_tile_module_class(self.out_features, self.in_features)
                if groups == 1
                else rpu_config.tile_class
            )
        self.analog_module = tile_module_class(
            self.out_features, self.in_features, rpu_config, bias
        )
        if groups > 1:
            if rpu_config.drift_compensation is not None:
                raise CnetError(
                    f"drift_compensation is {type(rpu_config.drift_compensation).__name__}, which "
                    f"cannot read out a convolution of {groups} groups; set it to None, or leave "
                    "that layer digital with exclude.",
                    key="drift_compensation",
                    value=type(rpu_config.drift_compensation).__name__,
                    fix="set it to None, or leave that layer digital with exclude",
                )
            self.analog_module.tile.groups = groups
        self.use_indexed = False
        self._parameters.clear()  # the tile holds weight and bias
        self.reset_parameters()


class _RRAMConvNd(ConvolutionOnTile, _AnalogConvNd):
    """Base of the convolutions that are not transposed."""

    _sizes: ClassVar[Callable[[Any], tuple[int, ...]]]

    @checked
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: str | int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        rpu_config: RRAMRPUConfig | None = None,
        tile_module_class: type | None = None,
    ) -> None:
        # _AnalogConvNd.__init__ refuses groups and padding modes, so that it is not called.
        sizes = type(self)._sizes
        kernel = sizes(kernel_size)
        rpu_config = RRAMRPUConfig() if rpu_config is None else rpu_config
        around = padding if isinstance(padding, str) else sizes(padding)
        check_convolution(in_channels, out_channels, groups, around, padding_mode)
        check_sizes(kernel_size=kernel, stride=sizes(stride), dilation=sizes(dilation))
        check_weights_fit(in_channels // groups * math.prod(kernel), out_channels)
        _ConvNd.__init__(
            self,
            in_channels,
            out_channels,
            kernel,
            sizes(stride),
            around,
            sizes(dilation),
            False,
            (0,) * len(kernel),
            groups,
            bias,
            cast(Any, padding_mode),
        )
        AnalogLayerBase.__init__(self)
        self._put_on_tile(rpu_config, bias, tile_module_class)

    def forward(self, x_input: Tensor) -> Tensor:
        """Return the convolution, [N, in, *size] -> [N, out, *size] (N may be missing)."""
        weight = self._torch_weight()
        if weight is None:
            return self._periphery_forward(x_input)
        return self._read_out(x_input, weight)

    def _weight_shape(self) -> tuple[int, ...]:
        return self.out_channels, self.in_channels // self.groups, *self.kernel_size

    def _compute(self, x_input: Tensor, weight: Tensor, bias: Tensor | None, *sizes: Any) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zeros":
            x_input = F.pad(x_input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            padding = (0,) * len(self.kernel_size)
        return _CONVOLVE[len(self.kernel_size)](
            x_input,
            weight.view(self.out_channels, -1, *self.kernel_size),
            bias,
            self.stride,
            padding,
            self.dilation,
            self.groups,
        )

    def _periphery_forward(self, x_input: Tensor) -> Tensor:
        """Unfold the input and let the tile compute every position, as aihwkit does."""
        dims = len(self.kernel_size)
        batched = x_input.dim() == dims + 2
        mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
        x_input = x_input if batched else x_input.unsqueeze(0)
        x_input = F.pad(x_input, self._reversed_padding_repeated_twice, mode=mode)
        size = [
            (length - d * (k - 1) - 1) // s + 1
            for length, d, k, s in zip(
                x_input.shape[2:], self.dilation, self.kernel_size, self.stride, strict=True
            )
        ]
        if dims == 3:
            columns = patches(x_input, self.kernel_size, self.stride, self.dilation)
        else:
            if dims == 1:
                x_input = x_input.unsqueeze(2)
            extra = (1,) * (2 - dims)
            columns = F.unfold(
                x_input,
                kernel_size=(*extra, *self.kernel_size),
                dilation=(*extra, *self.dilation),
                stride=(*extra, *self.stride),
            ).transpose(1, 2)  # [N, positions, in * kernel], the channels of a group side by side
        out = self.analog_module(columns).transpose(1, 2)
        out = out.reshape(out.shape[0], self.out_channels, *size)
        return out if batched else out.squeeze(0)


def patches(
    x: Tensor,
    kernel_size: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    flipped: bool = False,
) -> Tensor:
    """Return what a kernel sees at each position, over any number of dimensions.

    Args:
        x: padded input, [N, C, *size].
        kernel_size: sides of the kernel.
        stride: steps of the kernel.
        dilation: steps between its taps.
        flipped: whether the taps are taken in reverse.

    Returns:
        [N, positions, C * kernel].
    """
    dims = len(kernel_size)
    size = x.shape[2:]
    for axis, (length, k, s, d) in enumerate(zip(size, kernel_size, stride, dilation, strict=True)):
        starts = torch.arange(0, length - d * (k - 1), s, device=x.device)
        taps = torch.arange(0, d * k, d, device=x.device)
        places = starts.unsqueeze(1) + (taps.flip(0) if flipped else taps)
        x = x[(slice(None),) * (2 + 2 * axis) + (places,)]
    positions = [2 + 2 * axis for axis in range(dims)]
    x = x.permute(0, *positions, 1, *(place + 1 for place in positions))
    return x.flatten(1 + dims).flatten(1, dims)


class RRAMConv1d(_RRAMConvNd, AnalogConv1d):
    """1d convolution on RRAM; arguments as ``torch.nn.Conv1d``, groups and padding modes included.

    Raises:
        CnetError: if the configuration is not an :class:`~cnet_aihw.rram.RRAMRPUConfig`.
    """

    NEEDS_INDEXED = False
    _sizes = staticmethod(_single)

    @classmethod
    def to_digital(cls, module: RRAMConv1d, realistic: bool = False) -> nn.Conv1d:
        """Return a plain ``torch.nn.Conv1d`` with the layer's present weights."""
        return module._digital(nn.Conv1d(**_conv_arguments(module)))


class RRAMConv2d(_RRAMConvNd, AnalogConv2d):
    """2d convolution on RRAM; arguments as ``torch.nn.Conv2d``, groups and padding modes included.

    Raises:
        CnetError: if the configuration is not an :class:`~cnet_aihw.rram.RRAMRPUConfig`.
    """

    _sizes = staticmethod(_pair)

    @classmethod
    def to_digital(cls, module: RRAMConv2d, realistic: bool = False) -> nn.Conv2d:
        """Return a plain ``torch.nn.Conv2d`` with the layer's present weights."""
        return module._digital(nn.Conv2d(**_conv_arguments(module)))


class RRAMConv3d(_RRAMConvNd, AnalogConv3d):
    """3d convolution on RRAM; arguments as ``torch.nn.Conv3d``, groups and padding modes included.

    Raises:
        CnetError: if the configuration is not an :class:`~cnet_aihw.rram.RRAMRPUConfig`.
    """

    _sizes = staticmethod(_triple)

    @classmethod
    def to_digital(cls, module: RRAMConv3d, realistic: bool = False) -> nn.Conv3d:
        """Return a plain ``torch.nn.Conv3d`` with the layer's present weights."""
        return module._digital(nn.Conv3d(**_conv_arguments(module)))


def _conv_arguments(module: _RRAMConvNd) -> dict[str, Any]:
    names = (
        "in_channels",
        "out_channels",
        "kernel_size",
        "stride",
        "padding",
        "dilation",
        "groups",
    )
    arguments = {name: getattr(module, name) for name in names}
    return arguments | {"bias": module.bias is not None, "padding_mode": module.padding_mode}
