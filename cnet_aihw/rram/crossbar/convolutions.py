"""Convolutions on RRAM, with any groups and padding; torch's kernels behind perfect edges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from aihwkit.nn.modules.base import AnalogLayerBase
from aihwkit.nn.modules.conv import AnalogConv1d, AnalogConv2d, _AnalogConvNd
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.utils import _pair, _single

from cnet_aihw.rram.crossbar.configs import RRAMRPUConfig
from cnet_aihw.rram.crossbar.layers import (
    RRAMLayer,
    check_sizes,
    check_tile_class,
    check_weights_fit,
)
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import bad_choice, check_count

_PADDINGS = ("valid", "same")
_MODES = ("zeros", "reflect", "replicate", "circular")


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


def _check_conv(rows: int, columns: int, groups: int, padding: Any, mode: str) -> None:
    """Refuse arguments that torch's own convolution refuses."""
    if isinstance(padding, str) and padding not in _PADDINGS:
        raise bad_choice("padding", padding, _PADDINGS)
    if mode not in _MODES:
        raise bad_choice("padding_mode", mode, _MODES)
    for size in () if isinstance(padding, str) else padding:
        check_count("padding", size, 0)
    check_sizes(in_channels=rows, out_channels=columns, groups=groups)
    if rows % groups or columns % groups:
        expected = f"a divisor of {rows} and {columns} channels"
        raise bad_value("groups", groups, expected)


class _RRAMConvNd(RRAMLayer, _AnalogConvNd):
    """Base of the convolutions; all groups lie on one tile [out, in / groups * kernel]."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, ...],
        stride: tuple[int, ...],
        padding: str | tuple[int, ...],
        dilation: tuple[int, ...],
        groups: int,
        bias: bool,
        padding_mode: str,
        rpu_config: RRAMRPUConfig | None,
        tile_module_class: type | None,
    ) -> None:
        # _AnalogConvNd.__init__ refuses groups and padding modes, so that it is not called.
        rpu_config = RRAMRPUConfig() if rpu_config is None else rpu_config
        check_tile_class(tile_module_class)
        _check_conv(in_channels, out_channels, groups, padding, padding_mode)
        sizes = {"kernel_size": kernel_size, "stride": stride, "dilation": dilation}
        check_sizes(**sizes)
        check_weights_fit(in_channels // groups * math.prod(kernel_size), out_channels)
        _ConvNd.__init__(
            self,
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            False,
            (0,) * len(kernel_size),
            groups,
            bias,
            cast(Any, padding_mode),
        )
        AnalogLayerBase.__init__(self)
        self.in_features = in_channels // groups * math.prod(kernel_size)
        self.out_features = out_channels
        if groups > 1:
            _check_group_fits(rpu_config, self.in_features, out_channels // groups, groups)
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

    def forward(self, x_input: Tensor) -> Tensor:
        """Return the convolution, [N, in, *size] -> [N, out, *size] (N may be missing)."""
        weight = self._torch_weight()
        if weight is None:
            return self._periphery_forward(x_input)
        return self._compute(x_input, weight)

    def _weight_shape(self) -> tuple[int, ...]:
        return self.out_channels, self.in_channels // self.groups, *self.kernel_size

    def _compute(self, x_input: Tensor, weight: Tensor) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zeros":
            x_input = F.pad(x_input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            padding = (0,) * len(self.kernel_size)
        convolve = F.conv2d if len(self.kernel_size) == 2 else F.conv1d
        return convolve(
            x_input,
            weight.view(self.out_channels, -1, *self.kernel_size),
            self.analog_module.bias,
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
        if dims == 1:
            x_input = x_input.unsqueeze(2)
        extra = (1,) * (2 - dims)
        columns = F.unfold(
            x_input,
            kernel_size=(*extra, *self.kernel_size),
            dilation=(*extra, *self.dilation),
            stride=(*extra, *self.stride),
        )  # [N, in * kernel, positions], the channels of a group side by side
        out = self.analog_module(columns.transpose(1, 2)).transpose(1, 2)
        out = out.reshape(out.shape[0], self.out_channels, *size)
        return out if batched else out.squeeze(0)

    def _digital(self, layer: Any) -> Any:
        weight, bias = self.get_weights()
        with torch.no_grad():
            layer.weight.copy_(weight.view_as(layer.weight))
            if bias is not None:
                layer.bias.copy_(bias)
        tile = self.tiles()[0]
        return layer.to(device=tile.tile.weight.device, dtype=tile.get_dtype())


class RRAMConv1d(_RRAMConvNd, AnalogConv1d):
    """1d convolution on RRAM; arguments as ``torch.nn.Conv1d``, groups and padding modes included.

    Raises:
        CnetError: if the configuration is not an :class:`~cnet_aihw.rram.RRAMRPUConfig`.
    """

    NEEDS_INDEXED = False

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
        super().__init__(
            in_channels,
            out_channels,
            _single(kernel_size),
            _single(stride),
            padding if isinstance(padding, str) else _single(padding),
            _single(dilation),
            groups,
            bias,
            padding_mode,
            rpu_config,
            tile_module_class,
        )

    @classmethod
    def to_digital(cls, module: RRAMConv1d, realistic: bool = False) -> nn.Conv1d:
        """Return a plain ``torch.nn.Conv1d`` with the layer's present weights."""
        return module._digital(nn.Conv1d(**_conv_arguments(module)))


class RRAMConv2d(_RRAMConvNd, AnalogConv2d):
    """2d convolution on RRAM; arguments as ``torch.nn.Conv2d``, groups and padding modes included.

    Raises:
        CnetError: if the configuration is not an :class:`~cnet_aihw.rram.RRAMRPUConfig`.
    """

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
        super().__init__(
            in_channels,
            out_channels,
            _pair(kernel_size),
            _pair(stride),
            padding if isinstance(padding, str) else _pair(padding),
            _pair(dilation),
            groups,
            bias,
            padding_mode,
            rpu_config,
            tile_module_class,
        )

    @classmethod
    def to_digital(cls, module: RRAMConv2d, realistic: bool = False) -> nn.Conv2d:
        """Return a plain ``torch.nn.Conv2d`` with the layer's present weights."""
        return module._digital(nn.Conv2d(**_conv_arguments(module)))


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
