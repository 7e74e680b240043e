"""Digital layers: the corrector that takes a layer off the crossbar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from cnet_aihw.compensation.corrector import Corrector, CorrectorCost, LayerShape


@dataclass(frozen=True)
class Digital(Corrector):
    """Compute the layer digitally with its nominal weights, at the cost of the layer itself.

    A placement asks for it with ``"digital"`` in place of a ratio, whatever the corrector of the
    other layers. As the corrector of a placement it has no size; the ratio 1 places it.
    """

    sized: ClassVar[bool] = False
    on_crossbar: ClassVar[bool] = False

    def build(self, shape: LayerShape, size: int) -> Unchanged:
        """Return a module that leaves the digital output as it is."""
        return Unchanged()

    def cost(self, shape: LayerShape, size: int) -> CorrectorCost:
        """Return weights and MACs of the layer."""
        return CorrectorCost(shape.weights, shape.macs)


class Unchanged(nn.Module):
    """Module that returns the output of the layer."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return y."""
        return y
