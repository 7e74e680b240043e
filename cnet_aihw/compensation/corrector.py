"""The interface of a corrector: a small digital module beside an analog layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from cnet_aihw.compensation.shapes import LayerShape


@dataclass(frozen=True)
class CorrectorCost:
    """What a corrector adds beside one layer."""

    weights: int
    """Digital weights, biases included."""

    macs: int
    """Digital multiply-accumulates for each position of the layer's output."""


class CorrectorModule(Protocol):
    """The module that a corrector builds; an ``nn.Module``."""

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the corrected output from a layer's input x and output y; shaped as y."""


class Corrector(Protocol):
    """A kind of corrector: its settings (a frozen dataclass), and what follows from a shape.

    The size m of a corrector at a layer is ``round(ratio * C)`` filters, at least one; see
    ``shapes.filters``.
    """

    def label(self) -> str:
        """Return a short name that tells correctors apart, such as "xy-none-k1-full"."""

    def build(self, shape: LayerShape, size: int) -> nn.Module:
        """Return the module beside a layer, which changes no output before it is fitted."""

    def cost(self, shape: LayerShape, size: int) -> CorrectorCost:
        """Return what :meth:`build` would add, without building it."""

    def shrink(self, module: nn.Module, size: int) -> dict[str, Tensor]:
        """Return views of the parameters of the first ``size`` filters of a built module."""

    def describe(self) -> dict[str, Any]:
        """Return kind and settings as plain values, from which ``corrector_from`` rebuilds it."""
