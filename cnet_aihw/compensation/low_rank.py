"""Scale, offset and a low-rank map of a layer's features: the corrector of per-chip fits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnet_aihw.compensation.affine import AffineModule
from cnet_aihw.compensation.closed_form import ClosedFormModule, LinearFit, rows_of
from cnet_aihw.compensation.corrector import Corrector, CorrectorCost, LayerShape
from cnet_aihw.compensation.modules import (
    DigitalConv1d,
    DigitalConv2d,
    DigitalLinear,
    along_channels,
    in_type_of_input,
    pooled,
)
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.typed import check_fields

FEATURES = ("xy", "x", "y", "patch")


@dataclass(frozen=True)
class LowRank(Corrector):
    r"""Correct each channel by scale and offset, and by m filters over the layer's features.

    .. math:: y' = s \odot y + c + V^T G f

    with features f, generator G [m, features] and compensator V [m, C]: CorrectNet's generator and
    compensator without an activation, with the identity of y taken apart into a scale per channel.

    Args:
        features: input of the generator.

    Raises:
        CnetError: for other features than those named.
    """

    features: str = "xy"
    """Input of the generator: the layer's input (averaged to the positions of its output) and
    output "xy", the input "x" or the output "y" alone, or the input's whole "patch", on which the
    layer itself acts."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.features not in FEATURES:
            raise bad_value("corrector.features", self.features, f"one of {', '.join(FEATURES)}")

    smallest: ClassVar[int] = 0

    def label(self) -> str:
        """Return a short name such as "low rank of xy"."""
        return f"low rank of {self.features}"

    def count(self, shape: LayerShape) -> int:
        """Return the number of features at one position."""
        x, y = shape.channels
        patch = x * math.prod(shape.kernel_size)
        return {"x": x, "y": y, "xy": x + y, "patch": patch}[self.features]

    def build(self, shape: LayerShape, size: int) -> LowRankModule | AffineModule:
        """Return the module, as the identity; of size 0, scale and offset alone."""
        return LowRankModule(self, shape, size) if size else AffineModule(shape)

    def cost(self, shape: LayerShape, size: int) -> CorrectorCost:
        """Return m (features + C) + 2 C weights, and m (features + C) MACs per position."""
        macs = size * (self.count(shape) + shape.out_channels)
        return CorrectorCost(macs + 2 * shape.out_channels, macs)

    def shrink(self, module: nn.Module, size: int) -> dict[str, Tensor]:
        """Return the first rows of the generator and columns of the compensator."""
        parameters: dict[str, Tensor] = dict(module.named_parameters())
        if isinstance(module, AffineModule):
            return parameters
        return {
            **parameters,
            "generator.weight": parameters["generator.weight"][:size],
            "compensator.weight": parameters["compensator.weight"][:, :size],
        }


class LowRankModule(ClosedFormModule):
    """Scale, offset, generator and compensator of one layer; it starts as the identity.

    Args:
        corrector: settings.
        shape: shape of the layer.
        size: number of filters m, at least 1.

    Raises:
        CnetError: if the features are patches of a layer that does not pad with zeros.
    """

    def __init__(self, corrector: LowRank, shape: LayerShape, size: int) -> None:
        super().__init__()
        self.dims, self.features, self.shape = shape.dims, corrector.features, shape
        c = shape.out_channels
        self.scale = nn.Parameter(torch.ones(c))
        self.offset = nn.Parameter(torch.zeros(c))
        count, geometry = corrector.count(shape), {}
        if self.features == "patch" and shape.dims:
            if len(shape.padding) != shape.dims:
                raise CnetError(
                    "corrector.features is 'patch', but a layer is transposed, or does not pad "
                    "with zeros by a number; take the features 'xy' there.",
                    key="corrector.features",
                    value="patch",
                    expected="a layer that pads with zeros",
                    fix="take the features 'xy'",
                )
            count = shape.in_channels
            names = ("kernel_size", "stride", "padding", "dilation")
            geometry = {name: getattr(shape, name) for name in names}
        self.generator = _bare(shape.dims, count, size, **geometry)
        self.compensator = _bare(shape.dims, size, c)
        nn.init.zeros_(self.compensator.weight)

    @property
    def filters(self) -> int:
        """Number of filters m."""
        return len(self.generator.weight)

    @property
    def ends_with_y(self) -> bool:
        """Whether the last features are y."""
        return self.features in ("xy", "y")

    @torch.no_grad()
    def put(self, fit: LinearFit) -> None:
        """Take the weights of a fit; filters that it does not need give 0."""
        self.scale.copy_(fit.scale)
        self.offset.copy_(fit.offset)
        put_filters(fit, self.generator.weight, self.compensator.weight)

    def read(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the generator's input, [N, channels, *size]; linear: [..., channels]."""
        if self.features == "patch":
            return x.to(y.dtype)
        x = pooled(x, y, self.dims).to(y.dtype)
        parts = {"x": (x,), "y": (y,), "xy": (x, y)}[self.features]
        return torch.cat(parts, -1 - self.dims)

    def feature_rows(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the features of every position, [positions, features]."""
        read = self.read(x, y)
        if self.features != "patch" or self.dims == 0:
            return rows_of(read, self.dims)
        shape, extra = self.shape, (1,) * (2 - self.dims)
        if self.dims == 1:
            read = read.unsqueeze(-2)
        columns = F.unfold(
            read,
            kernel_size=(*extra, *shape.kernel_size),
            dilation=(*extra, *shape.dilation),
            padding=((0,) * len(extra) + shape.padding),
            stride=(*extra, *shape.stride),
        )  # [N, in * kernel, positions]
        return rows_of(columns, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the corrected output, in the shape and type of y."""
        scale, offset = (along_channels(v, y, self.dims) for v in (self.scale, self.offset))
        if not len(self.generator.weight):  # a supernet's smallest part
            return torch.addcmul(offset, y, scale).to(y.dtype)
        g = in_type_of_input(self.generator, self.read(x, y))
        added = in_type_of_input(self.compensator, g)
        return torch.addcmul(offset, y, scale).add_(added).to(y.dtype)


def put_filters(fit: LinearFit, generator: Tensor, compensator: Tensor) -> None:
    """Put the filters of a fit into weights [m, features, ...] and [C, m, ...]."""
    found = len(fit.generator)
    generator.zero_()
    compensator.zero_()
    generator[:found].copy_(fit.generator.view(found, *generator.shape[1:]))
    compensator[:, :found].copy_(fit.compensator.view(-1, found, *compensator.shape[2:]))


def _bare(dims: int, in_channels: int, out_channels: int, **geometry: Any) -> Any:
    """Return a linear layer or convolution without a bias; 1x1 where no geometry is given."""
    if dims == 0:
        return DigitalLinear(in_channels, out_channels, bias=False)
    kind = DigitalConv1d if dims == 1 else DigitalConv2d
    geometry.setdefault("kernel_size", (1,) * dims)
    return kind(in_channels, out_channels, bias=False, **geometry)
