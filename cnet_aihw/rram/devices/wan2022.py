"""RRAM of the NeuRRAM chip: error of programming, and its growth over two days.

Source: Wan et al., *A compute-in-memory chip based on resistive random-access memory*, Nature 608,
504 (2022), in aihwkit's fit of the published figures (``ReRamWan2022NoiseModel``): polynomials of
degree 4 in the conductance. Units: uS and seconds. Valid from 0 to 40 uS, and at one second, one
day and two days; between them is ours: linear in the logarithm of time.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from aihwkit.inference.converter.base import BaseConductanceConverter
from torch import Tensor

from cnet_aihw.rram.devices.conductances import WeightScale
from cnet_aihw.rram.devices.noise import DeviceNoiseModel
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import check_number

DAY = 86400.0
# seconds -> coefficients of (g / 40 uS)^0, ^1, ... in uS
COEFFICIENTS = {
    1.0: (0.348, 16.030, -43.853, 45.393, -16.815),
    DAY: (0.701, 22.086, -50.773, 47.095, -16.458),
    2 * DAY: (0.782, 20.274, -43.507, 37.062, -11.934),
}


class Wan2022NoiseModel(DeviceNoiseModel):
    r"""Gaussian error of each device, whose size depends on its conductance and grows with time.

    .. math:: g(t) = \max(0,\ g_\text{target} + c\, \sigma(g_\text{target}, t)\, \xi),\quad
        \xi \sim \mathcal{N}(0, 1)

    It differs from aihwkit's model in this: the fit is taken at the conductance itself, so that
    another ``g_max`` than the 40 uS it was made at is right (aihwkit's default of 25 uS has 1.57
    times too much noise); the scale of the tile stays (aihwkit multiplies the tile by its largest
    programmed weight); times between the measured ones are allowed. As there, the error at a later
    time is drawn again, and just programmed means one second.

    Args:
        noise_scale: c above; 1 is as measured (no unit).
        g_converter: how weights become conductances; by default a pair of devices.
        g_max: largest conductance in uS of the default converter (40).
        g_min: smallest conductance in uS of the default converter (0).

    Raises:
        CnetError: if the scale is negative or conductances are above 40 uS; at times outside one
            second to two days.
    """

    drifts = True
    valid_range: tuple[float, float] = (0.0, 40.0)
    default_range: tuple[float, float] = (0.0, 40.0)

    @checked
    def __init__(
        self,
        noise_scale: float = 1.0,
        g_converter: BaseConductanceConverter | None = None,
        g_max: float | None = None,
        g_min: float | None = None,
    ) -> None:
        check_number("noise_scale", noise_scale, 0.0, unit="(1 is as measured)")
        super().__init__(g_converter, g_max, g_min)
        self.noise_scale = float(noise_scale)

    def label(self) -> str:
        """A short name for tables and records."""
        return "Wan 2022" + ("" if self.noise_scale == 1.0 else f" x {self.noise_scale:g}")

    @property
    def is_off(self) -> bool:
        """Whether the model leaves all weights as they are."""
        return self.noise_scale == 0.0

    def check_time(self, t_inference: float) -> None:
        """Check that the time lies between the measured ones.

        Raises:
            CnetError: if it does not.
        """
        if not 1.0 <= t_inference <= 2 * DAY:
            raise CnetError(
                f"t_inference is {t_inference:g}; the devices of Wan et al. were measured from one "
                f"second to two days after programming, give 1 to {2 * DAY:g} seconds.",
                key="t_inference",
                value=t_inference,
            )

    def program_device(self, g: Tensor, scale: WeightScale) -> tuple[Tensor, Any]:
        """Add the error of one second."""
        return self.drift_device(g, None, 1.0), None

    def drift_device(self, g: Tensor, memory: Any, t_inference: float) -> Tensor:
        """Return devices with these targets at a time, in uS."""
        std = self.noise_scale * error_std(g, t_inference)
        return (g + std * torch.randn_like(g)).clamp_(min=0.0)


def error_std(g: Tensor, t_inference: float) -> Tensor:
    """Return the standard deviation of the error in uS, at targets in uS and a time in seconds."""
    times = list(COEFFICIENTS)
    later = next(i for i in range(1, len(times)) if t_inference <= times[i])
    first, second = times[later - 1], times[later]
    share = math.log(t_inference / first) / math.log(second / first)
    return torch.lerp(_fit(g, first), _fit(g, second), share)


def _fit(g: Tensor, time: float) -> Tensor:
    value = torch.zeros_like(g)
    for coefficient in reversed(COEFFICIENTS[time]):
        value = value * (g / 40.0) + coefficient
    return value
