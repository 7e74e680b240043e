"""Read noise of each device, new at every forward pass.

Source: aihwkit's notes on its two ReRAM models: short-term read noise of about 1 % of the largest
conductance (there ``forward.w_noise``, which torch tiles lack). Gaussian and white; slower parts of
1/f noise are the drift models'. No unit, conductances in uS. Valid for sigma from 0 to 1.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from aihwkit.inference.converter.base import BaseConductanceConverter
from torch import Tensor

from cnet_aihw.rram.devices.conductances import WeightScale
from cnet_aihw.rram.devices.noise import DeviceNoiseModel
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import check_number


class ReadNoiseModel(DeviceNoiseModel):
    r"""Each forward pass reads each device with a fresh error.

    .. math:: g_\text{read} = g + \sigma\, g_\max\, \xi \quad\text{or}\quad
        g_\text{read} = g (1 + \sigma\, \xi),\quad \xi \sim \mathcal{N}(0, 1)

    Programming leaves the weights as they are, bit for bit; what is read is a matter of the tile
    (:class:`~cnet_aihw.rram.RRAMRPUConfig`). On a programmed chip the noise belongs to the chip's
    seed, the layer and the number of the forward pass since programming. The unprogrammed network
    has no devices and no read noise; training's variation includes it.

    Args:
        sigma: standard deviation of one reading (no unit).
        relative_to: what sigma is a share of: ``"g_max"``, the same for all devices, or ``"g"``,
            each device's own conductance.
        g_converter: how weights become conductances; by default a pair of devices.
        g_max: largest conductance in uS of the default converter (25).
        g_min: smallest conductance in uS of the default converter (0).

    Raises:
        CnetError: if sigma is not in [0, 1] or ``relative_to`` is unknown.
    """

    stage = "read noise"

    @checked
    def __init__(
        self,
        sigma: float = 0.01,
        relative_to: Literal["g_max", "g"] = "g_max",
        g_converter: BaseConductanceConverter | None = None,
        g_max: float | None = None,
        g_min: float | None = None,
    ) -> None:
        check_number("sigma", sigma, 0.0, 1.0, "(a share of the conductance)")
        if relative_to not in ("g_max", "g"):
            raise CnetError(
                f"relative_to is {relative_to!r}; give 'g_max' or 'g'.",
                key="relative_to",
                value=relative_to,
                expected="'g_max' or 'g'",
            )
        super().__init__(g_converter, g_max, g_min)
        self.sigma = float(sigma)
        self.relative_to = relative_to

    def label(self) -> str:
        """A short name for tables and records."""
        return f"read noise {self.sigma:g} of {self.relative_to}"

    @property
    def is_off(self) -> bool:
        """Whether the model leaves all readings as they are."""
        return self.sigma == 0.0

    def drift_device(self, g: Tensor, memory: Any, t_inference: float) -> Tensor:
        """Return the conductances: reading does not change them."""
        return g

    def read_std_of_device(self, g: Tensor, scale: WeightScale) -> Tensor:
        """Return the standard deviation of one reading, in uS."""
        return self.sigma * (torch.full_like(g, scale.g_max) if self.relative_to == "g_max" else g)
