"""Retention: conductances that change with a power of time.

Source: the form is that of conductance drift as simulators of the field have it (aihwkit's PCM
model; MemTorch after Boybat et al., NVMTS 2018). The exponent is ours, from the decay of CMO/HfOx
ReRAM in aihwkit's fit of Falcone et al. (arXiv 2502.04524): -0.0890 uS per e-fold of time, and
0.0420 uS between devices, at a device of 50 uS. Seconds; no other unit. Valid for exponents from 0
to 1, spreads from 0 to 1, and any time.
"""

from __future__ import annotations

from typing import Any

import torch
from aihwkit.inference.converter.base import BaseConductanceConverter
from torch import Tensor

from cnet_aihw.rram.devices.conductances import WeightScale
from cnet_aihw.rram.devices.noise import DeviceNoiseModel
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import check_number


class PowerLawDriftNoiseModel(DeviceNoiseModel):
    r"""Each device loses conductance by a power law with an exponent of its own.

    .. math:: g(t) = g_\text{prog} \left(\frac{t}{t_0}\right)^{-\nu_i},\quad t > t_0,\quad
        \nu_i \sim \mathcal{N}(\nu, \sigma_\nu^2)

    Up to ``t_0``, and just programmed, weights are as they are. A device of negative exponent gains
    conductance.

    Args:
        nu: mean exponent (no unit).
        nu_std: standard deviation of the exponent between devices (no unit).
        t_0: time in seconds from which on conductances change.
        g_converter: how weights become conductances; by default a pair of devices.
        g_max: largest conductance in uS of the default converter (25).
        g_min: smallest conductance in uS of the default converter (0).

    Raises:
        CnetError: if an exponent or its spread is not in [0, 1], or ``t_0`` is not positive.
    """

    stage = "drift"
    drifts = True

    @checked
    def __init__(
        self,
        nu: float = 0.0018,
        nu_std: float = 0.00084,
        t_0: float = 1.0,
        g_converter: BaseConductanceConverter | None = None,
        g_max: float | None = None,
        g_min: float | None = None,
    ) -> None:
        check_number("nu", nu, 0.0, 1.0)
        check_number("nu_std", nu_std, 0.0, 1.0)
        check_number("t_0", t_0, 0.0, unit="(seconds)")
        if t_0 == 0.0:
            raise CnetError(
                "t_0 is 0; a power law needs a time to begin at, in seconds.", key="t_0", value=0
            )
        super().__init__(g_converter, g_max, g_min)
        self.nu = float(nu)
        self.nu_std = float(nu_std)
        self.t_0 = float(t_0)

    def label(self) -> str:
        """A short name for tables and records."""
        return f"drift {self.nu:g} +- {self.nu_std:g}"

    @property
    def is_off(self) -> bool:
        """Whether the model leaves all weights as they are at all times."""
        return self.nu == 0.0 and self.nu_std == 0.0

    def program_device(self, g: Tensor, scale: WeightScale) -> tuple[Tensor, Any]:
        """Leave the conductances and draw each device's exponent."""
        return g, self.nu + self.nu_std * torch.randn_like(g)

    def drift_device(self, g: Tensor, memory: Any, t_inference: float) -> Tensor:
        """Return the conductances at a time, in uS."""
        if t_inference <= self.t_0:
            return g
        return g * (t_inference / self.t_0) ** -memory
