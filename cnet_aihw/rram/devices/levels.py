"""A limited number of conductance levels.

Source: Falcone et al., *All-in-One Analog AI Hardware: On-Chip Training and Inference with
Conductive-Metal-Oxide/HfOx ReRAM Devices* (2025, arXiv 2502.04524), abstract: over 32 stable
states; equal steps between them are ours. Units: uS. Valid for 2 to 65536 levels.
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


class LevelsNoiseModel(DeviceNoiseModel):
    """Each device takes the nearest of equally spaced conductances from g_min to g_max.

    A pair of devices so gives a weight ``2 * levels - 1`` values. Nothing is drawn at random. A
    reference column stands in the middle of the range: where ``levels`` is even, that is between
    two levels, its devices take the next one, and all weights shift by half a step (a warning says
    so).

    Args:
        levels: number of conductances; 0 or None: any conductance.
        g_converter: how weights become conductances; by default a pair of devices.
        g_max: largest conductance in uS of the default converter (25).
        g_min: smallest conductance in uS of the default converter (0).

    Raises:
        CnetError: if there is one level, or the number is not a whole number up to 65536.
    """

    stage = "levels"

    @checked
    def __init__(
        self,
        levels: int | None = 32,
        g_converter: BaseConductanceConverter | None = None,
        g_max: float | None = None,
        g_min: float | None = None,
    ) -> None:
        levels = 0 if levels is None else levels
        if levels != int(levels) or (levels != 0 and not 2 <= levels <= 2**16):
            raise CnetError(
                f"levels is {levels}; give a whole number from 2 to 65536, or 0 for no limit.",
                key="levels",
                value=levels,
                expected="a whole number from 2 to 65536, or 0 for no limit",
            )
        super().__init__(g_converter, g_max, g_min)
        self.levels = int(levels)

    def label(self) -> str:
        """A short name for tables and records."""
        return f"{self.levels} levels" if self.levels else "any level"

    @property
    def is_off(self) -> bool:
        """Whether the model leaves all weights as they are."""
        return self.levels == 0

    def program_device(self, g: Tensor, scale: WeightScale) -> tuple[Tensor, Any]:
        """Take the nearest level."""
        step = (scale.g_max - scale.g_min) / (self.levels - 1)
        programmed = scale.g_min + torch.round((g - scale.g_min) / step) * step
        return programmed, programmed

    def drift_device(self, g: Tensor, memory: Any, t_inference: float) -> Tensor:
        """Return the level: it does not drift."""
        return memory
