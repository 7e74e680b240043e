"""Read noise of a tile's devices: what one forward pass reads beside what is programmed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from aihwkit.inference.noise.base import BaseNoiseModel
from torch import Tensor

from cnet_aihw.rram.devices.noise import DeviceNoiseModel
from cnet_aihw.runtime.random_state import derive_seed


@cache
def _generator_of(device: torch.device) -> torch.Generator:
    return torch.Generator(device)


def _generator(device: torch.device, seed: int) -> torch.Generator | None:
    """Return the device's generator for readings, seeded; it is made once."""
    return _generator_of(device).manual_seed(seed)


@dataclass
class ReadNoise:
    """Noise of one tile that is new at each reading, in the tile's units.

    Attributes:
        stds: a reading is off by the sum of independent normal draws, one for each tensor, [out,
            in], or [1, in] for one that all outputs share.
        seed: what the draws belong to, together with their number; None: torch's global generator
            of the weight's device.
        reads: readings so far.
    """

    stds: list[Tensor]
    seed: int | None = None
    reads: int = 0

    @classmethod
    def of(cls, noise_model: BaseNoiseModel, drift_noise_parameters: list[Any]) -> ReadNoise | None:
        """Return the read noise of a tile just programmed or drifted, or None without it."""
        if not isinstance(noise_model, DeviceNoiseModel):
            return None
        stds = noise_model.read_stds(drift_noise_parameters)
        return cls(stds) if stds else None

    def to(self, device: torch.device) -> ReadNoise:
        """Move to a device."""
        return ReadNoise([std.to(device) for std in self.stds], self.seed, self.reads)

    def add_to(self, weight: Tensor) -> Tensor:
        """Return weights as the next reading sees them, [out, in]; differentiable in them."""
        generator = None
        if self.seed is not None:
            generator = _generator(weight.device, derive_seed(self.seed, self.reads))
        self.reads += 1
        for std in self.stds:
            draw = torch.randn(
                std.shape, generator=generator, device=weight.device, dtype=weight.dtype
            )
            weight = weight + std.to(weight.device) * draw
        return weight
