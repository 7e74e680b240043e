"""Gaussian error of every weight in proportion to it.

Source: the plain model of the field, aihwkit's MULT_NORMAL; sigma = 0.1 by default is ours. No
unit. Valid for sigma from 0 to 1; from about 0.4 on signs flip (2.3 % of them at 0.5), which no
single device can do: lognormal variation keeps them.
"""

from __future__ import annotations

import torch
from aihwkit.inference.converter.base import BaseConductanceConverter
from torch import Tensor
from torch.autograd import no_grad

from cnet_aihw.rram.devices.noise import MultiplicativeNoiseModel
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import check_number


class GaussianProportionalNoiseModel(MultiplicativeNoiseModel):
    r"""Gaussian variation relative to each weight; fixed for the chip's life.

    .. math:: w = w_\text{nominal} (1 + \sigma\, \xi),\quad \xi \sim \mathcal{N}(0, 1)

    Args:
        sigma: standard deviation of the factor (no unit).
        g_converter: how weights become conductances, in a composition.
        g_max: largest conductance in uS of the default converter (25).
        g_min: smallest conductance in uS of the default converter (0).

    Raises:
        CnetError: if sigma is not in [0, 1].
    """

    @checked
    def __init__(
        self,
        sigma: float = 0.1,
        g_converter: BaseConductanceConverter | None = None,
        g_max: float | None = None,
        g_min: float | None = None,
    ) -> None:
        check_number("sigma", sigma, 0.0, 1.0, "(a share of each weight)")
        super().__init__(g_converter, g_max, g_min)
        self.sigma = float(sigma)

    def label(self) -> str:
        """A short name for tables and records."""
        return f"proportional {self.sigma:g}"

    @property
    def is_off(self) -> bool:
        """Whether the model leaves all weights as they are."""
        return self.sigma == 0.0

    @property
    def alike(self) -> bool:
        """Whether the factors of all weights are independent draws of one law."""
        return True

    def factor_moments(self) -> tuple[float, float]:
        """Return mean and standard deviation of the factor: 1 and sigma."""
        return 1.0, self.sigma

    @no_grad()
    def sample_factor(self, weights: Tensor) -> Tensor:
        """Draw one factor per entry; shapes as the weights."""
        return torch.randn_like(weights).mul_(self.sigma).add_(1.0)
