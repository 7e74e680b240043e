"""Gaussian error of every weight, the same for small and large ones.

Source: the noise of hardware-aware training, Joshi et al., *Accurate deep neural network inference
using computational phase-change memory*, Nature Communications 11, 2473 (2020), as we read the
paper: 3.8 % of the largest weight; aihwkit's ADD_NORMAL. No unit. Valid for sigma from 0 to 1.
"""

from __future__ import annotations

from typing import Any

import torch
from aihwkit.inference.converter.base import BaseConductanceConverter
from torch import Tensor
from torch.autograd import no_grad

from cnet_aihw.rram.devices.conductances import WeightScale
from cnet_aihw.rram.devices.noise import DeviceNoiseModel
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import check_number


class GaussianAdditiveNoiseModel(DeviceNoiseModel):
    r"""Gaussian variation relative to the largest weight; fixed for the chip's life.

    .. math:: w = w_\text{nominal} + \sigma\, w_\max\, \xi,\quad \xi \sim \mathcal{N}(0, 1)

    By itself it acts on weights. In a composition each device of a weight takes an equal share, so
    that the law of the weight is the same; conductances are not cut off at 0 for it.

    Args:
        sigma: standard deviation relative to the largest weight (no unit).
        largest_weight: weight in the tile's units that sigma is relative to, such as a layer's
            largest one where the layer is split over tiles; None: the tile's own largest.
        g_converter: how weights become conductances, in a composition.
        g_max: largest conductance in uS of the default converter (25).
        g_min: smallest conductance in uS of the default converter (0).

    Raises:
        CnetError: if sigma is not in [0, 1] or ``largest_weight`` is negative.
    """

    @checked
    def __init__(
        self,
        sigma: float = 0.038,
        largest_weight: float | None = None,
        g_converter: BaseConductanceConverter | None = None,
        g_max: float | None = None,
        g_min: float | None = None,
    ) -> None:
        check_number("sigma", sigma, 0.0, 1.0, "(a share of the largest weight)")
        if largest_weight is not None:
            check_number("largest_weight", largest_weight, 0.0)
        super().__init__(g_converter, g_max, g_min)
        self.sigma = float(sigma)
        self.largest_weight = largest_weight

    def label(self) -> str:
        """A short name for tables and records."""
        return f"additive {self.sigma:g}"

    @property
    def is_off(self) -> bool:
        """Whether the model leaves all weights as they are."""
        return self.sigma == 0.0

    @no_grad()
    def apply_programming_noise(self, weights: Tensor) -> tuple[Tensor, list[Any]]:
        """Program one tile, [out, in] -> [out, in]; there are no drift parameters."""
        if self.is_off:
            return weights.clone(), [None]
        return weights + torch.randn_like(weights) * self._std(weights.abs().max()), [None]

    def program_device(self, g: Tensor, scale: WeightScale) -> tuple[Tensor, Any]:
        """Add this device's share of the weight's error."""
        slope = torch.stack(scale.slopes).square().sum(0).sqrt()  # of all its devices together
        programmed = g + torch.randn_like(g) * (self._std(scale.largest_weight) / slope)
        return programmed, programmed

    def drift_device(self, g: Tensor, memory: Any, t_inference: float) -> Tensor:
        """Return the programmed conductances: nothing drifts."""
        return memory

    def _std(self, largest_weight: Tensor) -> Tensor | float:
        largest = largest_weight if self.largest_weight is None else self.largest_weight
        return self.sigma * largest
