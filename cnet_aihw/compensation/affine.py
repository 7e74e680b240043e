"""Scale and offset per output channel: the smallest corrector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from cnet_aihw.compensation.closed_form import ClosedFormModule, LinearFit
from cnet_aihw.compensation.corrector import Corrector, CorrectorCost, LayerShape
from cnet_aihw.compensation.modules import along_channels


@dataclass(frozen=True)
class Affine(Corrector):
    """Multiply each output channel by a scale and add an offset: y' = s y + c.

    It has no size; the ratio 1 places it. It costs 2 C weights and no matrix products.
    """

    sized: ClassVar[bool] = False

    def build(self, shape: LayerShape, size: int) -> AffineModule:
        """Return scales of 1 and offsets of 0."""
        return AffineModule(shape)

    def cost(self, shape: LayerShape, size: int) -> CorrectorCost:
        """Return two weights per channel."""
        return CorrectorCost(2 * shape.out_channels, 0)


class AffineModule(ClosedFormModule):
    """Scale and offset of one layer; it starts as the identity and computes in the type of y.

    Args:
        shape: shape of the layer.
    """

    def __init__(self, shape: LayerShape) -> None:
        super().__init__()
        self.dims = shape.dims
        self.scale = nn.Parameter(torch.ones(shape.out_channels))
        self.offset = nn.Parameter(torch.zeros(shape.out_channels))

    @torch.no_grad()
    def put(self, fit: LinearFit) -> None:
        """Take the weights of a fit."""
        self.scale.copy_(fit.scale)
        self.offset.copy_(fit.offset)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the corrected output, in the shape and type of y."""
        scale, offset = (along_channels(v, y, self.dims) for v in (self.scale, self.offset))
        return torch.addcmul(offset, y, scale)
