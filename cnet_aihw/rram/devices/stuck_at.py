"""Stuck-at faults: devices that stay at one end of their range whatever is programmed.

Source: Chen et al., *RRAM Defect Modeling and Failure Analysis Based on March Test and a Novel
Squeeze-Search Scheme*, IEEE Transactions on Computers 64, 180 (2015), a 4 Mb HfO2 chip: 1.75 % SA0
and 9.04 % SA1, as the field cites it. There SA0 is stuck in the low-resistance state (g_max, from
over-forming) and SA1 in the high-resistance state (g_min): so Chen et al., *Accelerator-friendly
neural-network training*, DATE 2017, and PytorX, as we read them. Some papers name them the other
way round; here the shares say the conductance. Shares in [0, 1], together at most 1; uS.
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


class StuckAtNoiseModel(DeviceNoiseModel):
    """A share of the devices is stuck at g_min, another at g_max, independently of each other.

    Which devices are stuck is drawn for each chip. A stuck device neither varies nor drifts.

    Args:
        share_g_min: share of devices stuck at g_min: open, high resistance (SA1 above).
        share_g_max: share of devices stuck at g_max: shorted, low resistance (SA0 above).
        g_converter: how weights become conductances; by default a pair of devices.
        g_max: largest conductance in uS of the default converter (25).
        g_min: smallest conductance in uS of the default converter (0).

    Raises:
        CnetError: if a share is not in [0, 1], or both are more than 1 together.
    """

    stage = "faults"

    @checked
    def __init__(
        self,
        share_g_min: float = 0.0904,
        share_g_max: float = 0.0175,
        g_converter: BaseConductanceConverter | None = None,
        g_max: float | None = None,
        g_min: float | None = None,
    ) -> None:
        check_number("share_g_min", share_g_min, 0.0, 1.0, "(0.0904 for 9.04 %)")
        check_number("share_g_max", share_g_max, 0.0, 1.0, "(0.0175 for 1.75 %)")
        if share_g_min + share_g_max > 1.0:
            raise CnetError(
                f"share_g_min is {share_g_min} and share_g_max is {share_g_max}, together more "
                "than all devices; give shares whose sum is at most 1.",
                key="share_g_min",
                value=share_g_min,
                expected="shares whose sum is at most 1",
            )
        super().__init__(g_converter, g_max, g_min)
        self.share_g_min = float(share_g_min)
        self.share_g_max = float(share_g_max)

    def label(self) -> str:
        """A short name for tables and records."""
        return f"stuck {self.share_g_min:.4g} at g_min, {self.share_g_max:.4g} at g_max"

    @property
    def is_off(self) -> bool:
        """Whether the model leaves all weights as they are."""
        return self.share_g_min == 0.0 and self.share_g_max == 0.0

    def program_device(self, g: Tensor, scale: WeightScale) -> tuple[Tensor, Any]:
        """Let some devices be stuck; kept is where each is, NaN for a healthy one."""
        place = torch.rand_like(g)
        stuck = torch.full_like(g, torch.nan)
        # Both ends of [0, 1): a larger share of one kind leaves the other kind's devices alone.
        stuck[place < self.share_g_min] = scale.g_min
        stuck[place >= 1.0 - self.share_g_max] = scale.g_max
        return self.drift_device(g, stuck, 0.0), stuck

    def drift_device(self, g: Tensor, memory: Any, t_inference: float) -> Tensor:
        """Return healthy devices as they come, stuck ones where they are."""
        return torch.where(memory.isnan(), g, memory)
