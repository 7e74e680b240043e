"""Transposed convolutions on RRAM: one crossbar row for each tap of the kernel, as convolutions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, cast

from aihwkit.nn.modules.base import AnalogLayerBase
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.utils import _pair, _single, _triple

from cnet_aihw.rram.crossbar.configs import RRAMRPUConfig
from cnet_aihw.rram.crossbar.convolutions import (
    ConvolutionOnTile,
    check_convolution,
    patches,
)
from cnet_aihw.rram.crossbar.layers import check_sizes, check_weights_fit
from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import check_count

_CONVOLVE: dict[int, Callable[..., Tensor]] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}
"""torch's transposed convolution by its dimensions."""


class _RRAMConvTransposeNd(ConvolutionOnTile, _ConvTransposeNd):
    """Base of the transposed convolutions.

    The matrix is that of the convolution which gives the same output from the input with zeros
    between its positions: an output position reads a patch of it, [out, in / groups * kernel].
    """

    _sizes: ClassVar[Callable[[Any], tuple[int, ...]]]

    @checked
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        output_padding: int | Sequence[int] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | Sequence[int] = 1,
        padding_mode: str = "zeros",
        rpu_config: RRAMRPUConfig | None = None,
        tile_module_class: type | None = None,
    ) -> None:
        sizes = type(self)._sizes
        kernel = sizes(kernel_size)
        rpu_config = RRAMRPUConfig() if rpu_config is None else rpu_config
        if padding_mode != "zeros":
            raise bad_value("padding_mode", padding_mode, "'zeros', as torch has it too")
        check_convolution(in_channels, out_channels, groups, sizes(padding), padding_mode)
        check_sizes(kernel_size=kernel, stride=sizes(stride), dilation=sizes(dilation))
        for size in sizes(output_padding):
            check_count("output_padding", size, 0)
        check_weights_fit(in_channels // groups * math.prod(kernel), out_channels)
        _ConvNd.__init__(
            self,
            in_channels,
            out_channels,
            kernel,
            sizes(stride),
            sizes(padding),
            sizes(dilation),
            True,
            sizes(output_padding),
            groups,
            bias,
            cast(Any, padding_mode),
        )
        AnalogLayerBase.__init__(self)
        self._put_on_tile(rpu_config, bias, tile_module_class)

    @classmethod
    def from_digital(
        cls, module: Any, rpu_config: RRAMRPUConfig, tile_module_class: type | None = None
    ) -> _RRAMConvTransposeNd:
        """Return the analog layer of a digital one, with its weights."""
        arguments = _arguments(module)
        layer: Any = cls(**arguments, rpu_config=rpu_config, tile_module_class=tile_module_class)
        layer.set_weights(layer.as_matrix(module.weight), module.bias)
        layer.to(module.weight.device)
        return cast(_RRAMConvTransposeNd, layer)

    def forward(self, x_input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return the transposed convolution, [N, in, *size] -> [N, out, *size].

        Args:
            x_input: input; N may be missing.
            output_size: sizes wanted, where the stride leaves several.
        """
        added, weight = self._added(x_input, output_size), self._torch_weight()
        if weight is None:
            return self._periphery_forward(x_input, added)
        return self._read_out(x_input, weight, added)

    def digital_forward(
        self, x_input: Tensor, weight: Tensor | None = None, output_size: Any = None
    ) -> Tensor:
        """Compute as a digital layer, as :meth:`forward` with perfect periphery."""
        return super().digital_forward(x_input, weight, self._added(x_input, output_size))

    def _added(self, x_input: Tensor, output_size: list[int] | None) -> list[int]:
        """Return what is added to one side of each size of the output."""
        given: Any = (self.stride, self.padding, self.kernel_size)
        stride, padding, kernel = (list(sizes) for sizes in given)
        dims, dilation = len(kernel), list(self.dilation)
        return self._output_padding(x_input, output_size, stride, padding, kernel, dims, dilation)

    def as_matrix(self, weight: Tensor) -> Tensor:
        """Return the matrix of a weight [in, out / groups, *kernel]."""
        grouped = weight.unflatten(0, (self.groups, -1)).flatten(3)  # [g, in / g, out / g, taps]
        return grouped.transpose(1, 2).reshape(self.out_features, self.in_features)

    def as_digital(self, matrix: Tensor) -> Tensor:
        """Return the digital layer's weight, [in, out / groups, *kernel]."""
        taps = math.prod(self.kernel_size)
        grouped = matrix.view(self.groups, self.out_channels // self.groups, -1, taps)
        return grouped.transpose(1, 2).reshape(self._weight_shape())

    def _weight_shape(self) -> tuple[int, ...]:
        return self.in_channels, self.out_channels // self.groups, *self.kernel_size

    def _compute(self, x_input: Tensor, weight: Tensor, bias: Tensor | None, *sizes: Any) -> Tensor:
        return _CONVOLVE[len(self.kernel_size)](
            x_input,
            self.as_digital(weight),
            bias,
            self.stride,
            self.padding,
            tuple(sizes[0] if sizes else self.output_padding),
            self.groups,
            self.dilation,
        )

    def _periphery_forward(self, x_input: Tensor, output_padding: Sequence[int]) -> Tensor:
        """Let the tile compute every output position from its patch of the spread input."""
        dims = len(self.kernel_size)
        batched = x_input.dim() == dims + 2
        x_input = x_input if batched else x_input.unsqueeze(0)
        lengths = [(n - 1) * s + 1 for n, s in zip(x_input.shape[2:], self.stride, strict=True)]
        spread = x_input.new_zeros(*x_input.shape[:2], *lengths)
        places: list[Any] = [..., *(slice(None, None, s) for s in self.stride)]
        spread[tuple(places)] = x_input
        padding = cast("tuple[int, ...]", self.padding)
        sizes = zip(self.dilation, self.kernel_size, padding, strict=True)
        edges = [d * (k - 1) - p for d, k, p in sizes]
        pads = [
            side
            for edge, more in zip(reversed(edges), reversed(list(output_padding)), strict=True)
            for side in (edge, edge + more)
        ]
        columns = patches(
            F.pad(spread, pads), self.kernel_size, (1,) * dims, self.dilation, flipped=True
        )
        out = self.analog_module(columns).transpose(1, 2)
        size = [
            length + 2 * edge + more - d * (k - 1)
            for length, edge, more, d, k in zip(
                lengths, edges, output_padding, self.dilation, self.kernel_size, strict=True
            )
        ]
        out = out.reshape(out.shape[0], self.out_channels, *size)
        return out if batched else out.squeeze(0)


class RRAMConvTranspose1d(_RRAMConvTransposeNd, nn.ConvTranspose1d):
    """1d transposed convolution on RRAM; arguments as ``torch.nn.ConvTranspose1d``.

    Raises:
        CnetError: if the configuration is not an :class:`~cnet_aihw.rram.RRAMRPUConfig`.
    """

    _sizes = staticmethod(_single)

    @classmethod
    def to_digital(cls, module: RRAMConvTranspose1d, realistic: bool = False) -> nn.Module:
        """Return a plain ``torch.nn.ConvTranspose1d`` with the layer's present weights."""
        return module._digital(nn.ConvTranspose1d(**_arguments(module)))


class RRAMConvTranspose2d(_RRAMConvTransposeNd, nn.ConvTranspose2d):
    """2d transposed convolution on RRAM; arguments as ``torch.nn.ConvTranspose2d``.

    Raises:
        CnetError: if the configuration is not an :class:`~cnet_aihw.rram.RRAMRPUConfig`.
    """

    _sizes = staticmethod(_pair)

    @classmethod
    def to_digital(cls, module: RRAMConvTranspose2d, realistic: bool = False) -> nn.Module:
        """Return a plain ``torch.nn.ConvTranspose2d`` with the layer's present weights."""
        return module._digital(nn.ConvTranspose2d(**_arguments(module)))


class RRAMConvTranspose3d(_RRAMConvTransposeNd, nn.ConvTranspose3d):
    """3d transposed convolution on RRAM; arguments as ``torch.nn.ConvTranspose3d``.

    Raises:
        CnetError: if the configuration is not an :class:`~cnet_aihw.rram.RRAMRPUConfig`.
    """

    _sizes = staticmethod(_triple)

    @classmethod
    def to_digital(cls, module: RRAMConvTranspose3d, realistic: bool = False) -> nn.Module:
        """Return a plain ``torch.nn.ConvTranspose3d`` with the layer's present weights."""
        return module._digital(nn.ConvTranspose3d(**_arguments(module)))


def _arguments(module: Any) -> dict[str, Any]:
    names = (
        *("in_channels", "out_channels", "kernel_size", "stride", "padding", "output_padding"),
        *("groups", "dilation", "padding_mode"),
    )
    return {name: getattr(module, name) for name in names} | {"bias": module.bias is not None}
