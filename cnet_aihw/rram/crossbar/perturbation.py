"""Perturbation of one tile's weights by one chip, and the gradient through it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from aihwkit.inference.noise.base import BaseNoiseModel
from torch import Tensor
from torch.autograd import Function, no_grad

from cnet_aihw.rram.crossbar.read_noise import ReadNoise
from cnet_aihw.rram.devices.noise import MultiplicativeNoiseModel
from cnet_aihw.rram.devices.stochastic_cell import cell_of, relaxed_sample
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.inputs import at_least_float32

_SMALLEST = 1e-6  # of a uniform draw, whose log-odds must be finite


class _StraightThrough(Function):
    """Forward: the noisy weights; backward: the gradient goes to the nominal weights unchanged."""

    @staticmethod
    def forward(ctx: Any, nominal: Tensor, noisy: Tensor) -> Tensor:
        return noisy.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


@dataclass
class Perturbation:
    """Effect of one chip on one tile: a factor on each weight or an offset to it, [out, in].

    Read noise comes on top of an offset, new each time that the weights are used. For stochastic
    cells the offset is that of their log-odds / 2, and ``temperature`` relaxes the sample.
    """

    factor: Tensor | None
    offset: Tensor | None
    read_noise: ReadNoise | None = None
    temperature: float | None = None

    @classmethod
    @no_grad()
    def draw(
        cls, noise_model: BaseNoiseModel, weight: Tensor, t_inference: float | None
    ) -> Perturbation:
        """Draw from any aihwkit noise model, from torch's global generator of the weight's device.

        Args:
            noise_model: the model; nothing of it is changed.
            weight: nominal weights of the tile, [out, in], in the tile's units.
            t_inference: seconds after programming, or None for just programmed.
        """
        cell, wide = cell_of(noise_model), at_least_float32(weight)
        if cell is not None:
            draw = torch.rand_like(wide).clamp(_SMALLEST, 1.0 - _SMALLEST)
            found = cls(None, 0.5 * torch.logit(draw), None, cell.temperature)
        elif isinstance(noise_model, MultiplicativeNoiseModel) and noise_model.multiplicative:
            found = cls(noise_model.sample_factor(wide), None)
        else:
            noisy, drift = noise_model.apply_programming_noise(wide)
            if t_inference is not None:
                noisy = noise_model.apply_drift_noise(noisy, drift, t_inference)
            found = cls(None, noisy - wide, ReadNoise.of(noise_model, drift))
        return found.to(weight.device, weight.dtype)

    def to(self, device: torch.device, dtype: torch.dtype) -> Perturbation:
        """Move to a device, and cast to the number type of the weights there."""
        return Perturbation(
            None if self.factor is None else self.factor.to(device, dtype),
            None if self.offset is None else self.offset.to(device, dtype),
            None if self.read_noise is None else self.read_noise.to(device, dtype),
            self.temperature,
        )

    def apply(self, weight: Tensor, gradient: str) -> Tensor:
        """Return the varied weights, differentiable as ``gradient`` says.

        Raises:
            CnetError: if the gradient should pass through a factor but there is none.
        """
        if self.temperature is not None:
            assert self.offset is not None
            return relaxed_sample(weight, self.offset, self.temperature, gradient)
        if self.factor is None:
            if gradient == "reparametrized":
                raise CnetError(
                    "variation.gradient is 'reparametrized', but the noise model is not a "
                    "factor on each weight; give 'auto' or 'straight_through'.",
                    key="variation.gradient",
                    value="reparametrized",
                    expected="'auto' or 'straight_through'",
                )
            assert self.offset is not None
            weight = weight + self.offset
            return weight if self.read_noise is None else self.read_noise.add_to(weight)
        if gradient == "straight_through":
            return _StraightThrough.apply(weight, weight.detach() * self.factor)
        return weight * self.factor
