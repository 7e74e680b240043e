"""One chip's part of a tile: its weights, what it reads beside them, and how it drifts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from aihwkit.inference.noise.base import BaseNoiseModel
from torch import Tensor
from torch.autograd import no_grad

from cnet_aihw.rram.crossbar.read_noise import CellReads, ReadNoise
from cnet_aihw.rram.devices.any_model import acts_with_time
from cnet_aihw.rram.devices.noise import DeviceNoiseModel
from cnet_aihw.rram.devices.stochastic_cell import cell_means
from cnet_aihw.runtime.inputs import at_least_float32


@dataclass
class ChipWeights:
    """State of one chip's devices on one tile, in the tile's units."""

    weight: Tensor
    """Weights at the time last asked for, [out, in]."""

    programmed: Tensor
    """Weights just programmed, [out, in]; the same tensor until the chip drifts."""

    noise_model: BaseNoiseModel
    """The model that programmed them."""

    memory: list[Any] = field(default_factory=list)
    """Draws that the noise model keeps for drift; empty where nothing drifts."""

    read_noise: ReadNoise | None = None
    """Noise of each forward's reading of the weights, if any."""

    drift_factor: Tensor | None = None
    """Factor on the outputs in evaluation, of aihwkit's drift compensation, if there is any."""

    drift_baseline: Any = None
    """Its read-out just after programming."""

    factor: Tensor | None = None
    """Factor on the weights that the noise model gives at any time, see :meth:`times`."""

    read_factor: Tensor | None = None
    """The same on its read noise."""

    @classmethod
    @no_grad()
    def program(cls, noise_model: BaseNoiseModel, weight: Tensor) -> ChipWeights:
        """Program weights once, drawing from torch's generator of their device.

        Devices are computed in single precision at least: half of it would round away small errors.

        Args:
            noise_model: any aihwkit noise model.
            weight: nominal weights in the tile's units, [out, in]; never changed.
        """
        # Models of ours never write to their input; strangers' get a copy of it.
        wide = at_least_float32(weight)
        given = wide if isinstance(noise_model, DeviceNoiseModel) else wide.clone()
        programmed, memory = noise_model.apply_programming_noise(given)
        read_noise = ReadNoise.of(noise_model, memory)
        programmed = _as_weights(programmed, read_noise)
        kept = memory if acts_with_time(noise_model) else []
        chip = cls(programmed, programmed, noise_model, kept, read_noise)
        return chip.apply(lambda tensor: tensor.to(weight.dtype))

    @no_grad()
    def drifted(self, t_inference: float) -> ChipWeights:
        """Return the same chip at a time after programming, in seconds.

        Its read noise has the seed of this one's and begins with the first reading.
        """
        seed = None if self.read_noise is None else self.read_noise.seed
        if not self.memory:  # nothing drifts
            if isinstance(self.noise_model, DeviceNoiseModel):
                self.noise_model.check_time(t_inference)
            read_noise = self.read_noise and replace(self.read_noise, reads=0)
            return replace(self, weight=self.programmed, read_noise=read_noise)
        factor = self.factor
        programmed = at_least_float32(self.programmed)
        programmed = programmed if factor is None else programmed / factor
        weight = self.noise_model.apply_drift_noise(programmed, self.memory, t_inference)
        read_noise = ReadNoise.of(self.noise_model, self.memory)
        weight = _as_weights(weight, read_noise)
        if read_noise is not None:
            read_noise = read_noise.to(weight.device, self.weight.dtype)
            read_noise.seed = seed
        weight = weight if factor is None else weight * factor
        return replace(self, weight=weight.to(self.weight.dtype), read_noise=read_noise)

    def read(self) -> Tensor:
        """Return the weights as the next forward reads them, [out, in]."""
        if self.read_noise is None:
            return self.weight
        return self.read_noise.add_to(self.weight, self.read_factor)

    def times(self, factor: Tensor, read_factor: Tensor | None = None) -> ChipWeights:
        """Return the chip with its weights times a factor, now and at any other time.

        Args:
            factor: of each weight, or of each output, [out, 1].
            read_factor: the same of its read noise; None: that stays as it is.
        """
        weight = self.weight * factor
        same = self.programmed is self.weight
        return replace(
            self,
            weight=weight,
            programmed=weight if same else self.programmed * factor,
            factor=_product(self.factor, factor),
            read_factor=_product(self.read_factor, read_factor),
        )

    def exact(self) -> ChipWeights:
        """Return the same chip, read without noise."""
        return replace(self, read_noise=None)

    def seed_reads(self, seed: int) -> None:
        """Let the read noise belong to a seed, from the first reading on."""
        if self.read_noise is not None:
            self.read_noise.seed, self.read_noise.reads = seed, 0

    def apply(self, change: Callable[[Tensor], Tensor]) -> ChipWeights:
        """Return the chip with every tensor that a forward uses changed: moved, or cast."""
        weight = change(self.weight)
        programmed = weight if self.programmed is self.weight else change(self.programmed)
        read_noise = self.read_noise and replace(
            self.read_noise, stds=[change(std) for std in self.read_noise.stds]
        )

        def changed(factor: Tensor | None) -> Tensor | None:
            return None if factor is None else change(factor)

        return replace(
            self,
            weight=weight,
            programmed=programmed,
            read_noise=read_noise,
            drift_factor=changed(self.drift_factor),
            factor=changed(self.factor),
            read_factor=changed(self.read_factor),
        )


def _as_weights(given: Tensor, read_noise: ReadNoise | None) -> Tensor:
    """Return what a noise model gives as weights: of stochastic cells, their means."""
    return cell_means(given, read_noise.stds) if isinstance(read_noise, CellReads) else given


def _product(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """Return the product of two factors; None stands for 1."""
    if one is None or other is None:
        return other if one is None else one
    return one * other
