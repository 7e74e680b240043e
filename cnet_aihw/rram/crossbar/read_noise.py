"""Read noise of a tile's devices: what one forward pass reads beside what is programmed."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from aihwkit.inference.noise.base import BaseNoiseModel
from torch import Tensor
from torch.utils.checkpoint import CheckpointFunction

from cnet_aihw.rram.devices.noise import DeviceNoiseModel
from cnet_aihw.rram.devices.stochastic_cell import cell_of
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.inputs import at_least_float32
from cnet_aihw.runtime.random_state import derive_seed

_REMEMBERED = 10_000
"""Readings that are recognized when they are computed again."""


def _in_checkpoint() -> bool:
    """Say whether this forward may be one that activation checkpointing computes again."""
    if torch.is_inference_mode_enabled():
        return False
    if torch._C._autograd._top_saved_tensors_default_hooks(False) is not None:
        return True
    reentrant = {CheckpointFunction.forward.__code__, CheckpointFunction.backward.__code__}
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code in reentrant:
            return True
    return False


@cache
def _generator_of(device: torch.device) -> torch.Generator:
    return torch.Generator(device)


def _generator(device: torch.device, seed: int) -> torch.Generator:
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
        marks: marks of recent readings -> their numbers.
    """

    stds: list[Tensor]
    seed: int | None = None
    reads: int = 0
    marks: dict[int, int] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, noise_model: BaseNoiseModel, drift_noise_parameters: list[Any]) -> ReadNoise | None:
        """Return the read noise of a tile just programmed or drifted, or None without it."""
        if not isinstance(noise_model, DeviceNoiseModel):
            return None
        stds = noise_model.read_stds(drift_noise_parameters)
        kind = cls if cell_of(noise_model) is None else CellReads
        return kind(stds) if stds else None

    def to(self, device: torch.device, dtype: torch.dtype) -> ReadNoise:
        """Move to a device, and cast to a number type."""
        return type(self)([std.to(device, dtype) for std in self.stds], self.seed, self.reads)

    def add_to(self, weight: Tensor, factor: Tensor | None = None) -> Tensor:
        """Return weights as the next reading sees them, [out, in]; differentiable in them.

        Args:
            weight: what is read, [out, in].
            factor: of each reading's noise, as [out, 1]: outputs that share a draw still share it.
        """
        generator = self._next_generator(weight.device)
        for std in self.stds:
            draw = _drawn(torch.randn, std.shape, weight, generator)
            noise = std.to(weight.device) * draw
            weight = weight + (noise if factor is None else noise * factor)
        return weight

    def _next_generator(self, device: torch.device) -> torch.Generator | None:
        """Return the generator of the next reading; None: torch's global one."""
        if self.seed is None:
            return None
        return _generator(device, derive_seed(self.seed, self._number()))

    def _number(self) -> int:
        """Return the number of this reading; a forward that is computed again is the same one.

        Activation checkpointing computes forwards again in the backward pass, with torch's random
        state as it was then. So a mark drawn from that state tells which reading it was.
        """
        if not _in_checkpoint():
            self.reads += 1
            return self.reads - 1
        mark = int(torch.randint(2**62, (), device="cpu"))
        if torch._C._current_graph_task_id() >= 0:  # inside of a backward pass
            if mark not in self.marks:
                fix = "call checkpoint() with preserve_rng_state=True"
                raise CnetError(
                    "a forward with read noise is computed again in the backward pass, but with "
                    f"another random state, so that its reading is not known; {fix}.",
                    key="preserve_rng_state",
                    value=False,
                    expected=True,
                    fix=fix,
                )
            return self.marks[mark]
        self.marks[mark] = self.reads
        if len(self.marks) > _REMEMBERED:
            del self.marks[next(iter(self.marks))]
        self.reads += 1
        return self.reads - 1


class CellReads(ReadNoise):
    """Readings of stochastic cells: each one a draw of binary weights by their means."""

    def add_to(self, weight: Tensor, factor: Tensor | None = None) -> Tensor:
        """Return -1 or +1 for each cell, [out, in]; with a factor, these times the factor.

        Args:
            weight: means of the cells, within -1 and 1, times the factor.
            factor: of what is read, as [out, 1]; None: 1.
        """
        means = at_least_float32(weight if factor is None else weight / factor)
        draw = _drawn(torch.rand, means.shape, means, self._next_generator(means.device))
        read = torch.where(2.0 * draw - 1.0 < means, 1.0, -1.0).to(weight.dtype)
        return read if factor is None else read * factor


def _drawn(draw: Any, shape: torch.Size, like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw numbers; compiled networks take no generator of None where shapes are symbolic."""
    given = {} if generator is None else {"generator": generator}
    drawn: Tensor = draw(shape, device=like.device, dtype=like.dtype, **given)
    return drawn
