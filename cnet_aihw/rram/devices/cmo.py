"""ReRAM of conductive metal oxide on HfOx: programming, decay with time, read noise.

Source: Falcone et al., *All-in-One Analog AI Hardware: On-Chip Training and Inference with
Conductive-Metal-Oxide/HfOx ReRAM Devices* (2025, arXiv 2502.04524), in aihwkit's fit
(``ReRamCMONoiseModel``). Units: uS and seconds. Valid from 9 to 88.2 uS, just programmed and from
one second to ten years.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from aihwkit.inference.converter.base import BaseConductanceConverter
from aihwkit.inference.converter.conductance import SingleDeviceConductanceConverter
from torch import Tensor

from cnet_aihw.rram.devices.conductances import WeightScale
from cnet_aihw.rram.devices.noise import DeviceNoiseModel
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import check_number

YEAR = 31557600.0
# acceptance range in percent of the target -> error of programming in uS: at 0 uS, and per uS
PROGRAMMING = {0.2: (0.00081107, 0.00106879), 2.0: (0.0112185391, 0.01129027418)}
DECAY_MEAN = -0.08900206  # uS per e-fold of time in seconds
DECAY_STD = (0.41183342, 0.04201137)  # uS at one second, and per e-fold
READ, READ_TIME = 0.0277316483, 1e-6  # uS per decade of conductance; seconds


class CMONoiseModel(DeviceNoiseModel):
    r"""Gaussian error of programming, then a decay and a spread linear in the logarithm of time.

    .. math::
        g_\text{prog} &= g + c_\text{prog} (a + b\, g)\, \xi_1 \\
        g_\text{drift} &= g_\text{prog} + c_\text{drift} \left(
            -0.089 \ln t + (0.412 + 0.042 \ln t)\, \xi_2 \right) \\
        g(t) &= g_\text{drift} + c_\text{read}\, K \log_{10} g_\text{drift}
            \sqrt{\ln \frac{t + t_r}{2 t_r}}\; \xi_3

    cut to g_min and g_max. Just programmed, only the first line counts. The read noise is that of
    aihwkit: accumulated since programming, drawn once for a chip and a time, and not again at each
    forward pass (:class:`~cnet_aihw.rram.ReadNoiseModel` does that, and comes on top).

    It differs from aihwkit's model in this: the acceptance range has to be one that was measured
    (there any other value, the default 0.02 among them, means 0.2 percent); the scale of the tile
    stays (there it follows the smallest and largest programmed weight); times and conductances
    outside the fit and tiles of equal weights are refused (there they give NaN); rows are computed
    together.

    Args:
        acceptance: how close to its target a device has to be when it is programmed, in percent of
            the target: 0.2 or 2.
        prog_noise_scale: scale of the error of programming; 1 is as measured.
        drift_scale: scale of decay and spread.
        read_noise_scale: scale of the read noise.
        g_converter: how weights become conductances; by default a single device per weight, at
            g_min for the smallest and at g_max for the largest weight of the tile.
        g_max: largest conductance in uS of the default converter (88.2).
        g_min: smallest conductance in uS of the default converter (9).

    Raises:
        CnetError: for another acceptance range, a negative scale, and conductances or times outside
            the fit.
    """

    drifts = True
    valid_range: tuple[float, float] = (9.0, 88.2)
    default_range: tuple[float, float] = (9.0, 88.2)

    @checked
    def __init__(
        self,
        acceptance: float = 0.2,
        prog_noise_scale: float = 1.0,
        drift_scale: float = 1.0,
        read_noise_scale: float = 1.0,
        g_converter: BaseConductanceConverter | None = None,
        g_max: float | None = None,
        g_min: float | None = None,
    ) -> None:
        if acceptance not in PROGRAMMING:
            raise CnetError(
                f"acceptance is {acceptance} percent; measured are 0.2 and 2 percent.",
                key="acceptance",
                value=acceptance,
            )
        for name, value in (
            ("prog_noise_scale", prog_noise_scale),
            ("drift_scale", drift_scale),
            ("read_noise_scale", read_noise_scale),
        ):
            check_number(name, value, 0.0, unit="(1 is as measured)")
        super().__init__(g_converter, g_max, g_min)
        self.acceptance = float(acceptance)
        self.prog_noise_scale = float(prog_noise_scale)
        self.drift_scale = float(drift_scale)
        self.read_noise_scale = float(read_noise_scale)

    def default_converter(self, g_max: float, g_min: float) -> BaseConductanceConverter:
        """Return the mapping to one device per weight."""
        return SingleDeviceConductanceConverter(g_max=g_max, g_min=g_min)

    def label(self) -> str:
        """A short name for tables and records."""
        scales = (self.prog_noise_scale, self.drift_scale, self.read_noise_scale)
        scaled = "" if scales == (1.0, 1.0, 1.0) else " x {:g}, {:g}, {:g}".format(*scales)
        return f"CMO/HfOx {self.acceptance:g} %{scaled}"

    @property
    def is_off(self) -> bool:
        """Whether the model leaves all weights as they are, at all times."""
        return self.prog_noise_scale == self.drift_scale == self.read_noise_scale == 0.0

    def check_time(self, t_inference: float) -> None:
        """Check that the time is one of the fit.

        Raises:
            CnetError: if it is not.
        """
        if t_inference != 0.0 and not 1.0 <= t_inference <= 10 * YEAR:
            raise CnetError(
                f"t_inference is {t_inference:g}; the decay of CMO/HfOx devices is known from one "
                f"second to ten years, give 1 to {10 * YEAR:g} seconds, or 0 for just programmed.",
                key="t_inference",
                value=t_inference,
            )

    def program_device(self, g: Tensor, scale: WeightScale) -> tuple[Tensor, Any]:
        """Add the error of programming; kept are the conductances and their limits."""
        at_zero, slope = PROGRAMMING[self.acceptance]
        std = self.prog_noise_scale * (at_zero + slope * g)
        programmed = g + std * torch.randn_like(g)
        return programmed, (programmed, scale.g_min, scale.g_max)

    def drift_device(self, g: Tensor, memory: Any, t_inference: float) -> Tensor:
        """Return the programmed devices at a time, in uS."""
        programmed, g_min, g_max = memory
        if t_inference == 0.0:
            return programmed
        log_time = math.log(t_inference)
        spread = (DECAY_STD[0] + DECAY_STD[1] * log_time) * torch.randn_like(programmed)
        drifted = programmed + self.drift_scale * (DECAY_MEAN * log_time + spread)
        read = READ * math.sqrt(math.log((t_inference + READ_TIME) / (2 * READ_TIME)))
        std = self.read_noise_scale * read * drifted.clamp(min=1.0).log10()
        return (drifted + std * torch.randn_like(drifted)).clamp_(g_min, g_max)
