"""Lognormal variation of programmed weights, CorrectNet's model.

Source: CorrectNet (DATE 2023), as we read the paper; sigma up to 0.5 there. The variation from die
to die, and that of single conductances, are ours. No unit; conductances in uS. Any sigma >= 0.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from aihwkit.inference.converter.base import BaseConductanceConverter
from aihwkit.inference.converter.conductance import SinglePairConductanceConverter
from torch import Tensor
from torch.autograd import no_grad

from cnet_aihw.rram.devices.chip_scope import current_chip_seed
from cnet_aihw.rram.devices.conductances import WeightScale
from cnet_aihw.rram.devices.noise import DeviceNoiseModel, MultiplicativeNoiseModel
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import check_number

_LARGEST_VARIANCE = 354.0
"""Of a factor's logarithm; the square of exp of more is beyond the range of numbers."""


class LogNormalNoiseModel(MultiplicativeNoiseModel):
    r"""Lognormal variation: every weight of a chip is off by a factor, for the chip's life.

    .. math:: w = w_\text{nominal}\, e^{\theta_\text{die} + \theta},\quad
        \theta \sim \mathcal{N}(0, \sigma^2),\
        \theta_\text{die} \sim \mathcal{N}(0, \sigma_\text{die}^2)

    With ``sigma_die = 0`` it is the variation model of CorrectNet (DATE 2023), as we read the
    paper; the part common to a die is ours. With ``sigma = sigma_die = 0`` weights come back bit
    for bit. Nothing drifts.

    Args:
        sigma: standard deviation of theta, the variation within a die (no unit).
        sigma_die: standard deviation of theta_die, the variation from die to die (no unit).
        die: what shares one theta_die: all tiles of a ``"chip"``, or each ``"tile"`` for itself.
        per_conductance: whether each conductance of a weight varies, instead of the weight as a
            whole. With the single-pair converter and g_min = 0 the law is the same; with g_min > 0
            small weights suffer more.
        g_converter: how weights become conductances (in uS); a ``SinglePairConductanceConverter``
            by default.
        g_max: largest conductance in uS of the default converter (25).
        g_min: smallest conductance in uS of the default converter (0).

    Raises:
        CnetError: if a standard deviation is negative or not finite, if ``die`` is unknown, or if
            both a converter and its range are given.
    """

    @checked
    def __init__(
        self,
        sigma: float = 0.5,
        sigma_die: float = 0.0,
        die: Literal["chip", "tile"] = "chip",
        per_conductance: bool = False,
        g_converter: BaseConductanceConverter | None = None,
        g_max: float | None = None,
        g_min: float | None = None,
    ) -> None:
        for name, value in (("sigma", sigma), ("sigma_die", sigma_die)):
            check_number(name, value, 0.0, unit="(a standard deviation)")
        if die not in ("chip", "tile"):
            raise CnetError(
                f"die is {die!r}; give 'chip' or 'tile', what shares one die-to-die draw.",
                key="die",
                value=die,
                expected="'chip' or 'tile', what shares one die-to-die draw",
            )
        super().__init__(g_converter, g_max, g_min)
        self.sigma = float(sigma)
        self.sigma_die = float(sigma_die)
        self.die = die
        self.per_conductance = per_conductance

    def __str__(self) -> str:
        text = f"LogNormalNoiseModel(sigma={self.sigma}, sigma_die={self.sigma_die}, die={self.die}"
        return text + (f", per_conductance={self.g_converter})" if self.per_conductance else ")")

    def label(self) -> str:
        """A short name for tables and records."""
        die = f", from {self.die} to {self.die} {self.sigma_die:g}" if self.sigma_die else ""
        return f"lognormal {self.sigma:g}{die}"

    @property
    def is_off(self) -> bool:
        """Whether the model leaves all weights as they are."""
        return self.sigma == 0.0 and self.sigma_die == 0.0

    @property
    def multiplicative(self) -> bool:
        """Whether a zero stays zero: not so with g_min > 0 or a converter of one's own."""
        converter = self.g_converter
        return not self.per_conductance or (
            type(converter) is SinglePairConductanceConverter and converter.g_min == 0.0
        )

    @property
    def alike(self) -> bool:
        """Whether the factors of all weights are independent: not so with a die in common."""
        return self.multiplicative and self.sigma_die == 0.0

    def factor_moments(self) -> tuple[float, float]:
        r"""Return mean and standard deviation of :math:`w / w_\text{nominal}`, in closed form.

        Returns:
            :math:`\mu = e^{v/2}` and :math:`s = \sqrt{(e^v - 1)\,e^v}` with
            :math:`v = \sigma^2 + \sigma_\text{die}^2`.

        Raises:
            CnetError: if conductances vary in a way that is not a factor on the weight, and for a
                sigma so large that the deviation is beyond the range of numbers.
        """
        if not self.multiplicative:
            raise CnetError(
                f"{self} is not a factor on a weight, so that its moments have no closed form; "
                "sample them.",
                key=str(self),
            )
        variance = self.sigma**2 + self.sigma_die**2
        if variance > _LARGEST_VARIANCE:
            most = f"at most {math.sqrt(_LARGEST_VARIANCE):.3g}, as no number holds the deviation"
            raise bad_value("sigma", math.sqrt(variance), most)
        return math.exp(variance / 2), math.sqrt(math.expm1(variance) * math.exp(variance))

    @no_grad()
    def sample_factor(self, weights: Tensor) -> Tensor:
        """Draw one factor per entry (and one for the die); shapes as the weights."""
        if not self.per_conductance:
            return self._sample_factors([weights])[0]
        positive, negative = self._sample_factors([weights, weights])  # one device for each sign
        return torch.where(weights >= 0.0, positive, negative)

    def program_devices(
        self, devices: list[Tensor], scale: WeightScale
    ) -> list[tuple[Tensor, Any]]:
        """Multiply each conductance by a factor of its own; those of a tile share its die's."""
        factors = self._sample_factors(devices)
        programmed = [g * factor for g, factor in zip(devices, factors, strict=True)]
        return [(g, g) for g in programmed]

    @no_grad()
    def apply_programming_noise(self, weights: Tensor) -> tuple[Tensor, list[Any]]:
        """Program one tile, [out, in] -> [out, in]."""
        if not self.multiplicative:
            return DeviceNoiseModel.apply_programming_noise(self, weights)
        return super().apply_programming_noise(weights)

    def _sample_factors(self, devices: list[Tensor]) -> list[Tensor]:
        thetas = [torch.randn_like(g).mul_(self.sigma) for g in devices]
        if self.sigma_die > 0.0:
            die = self._sample_die(devices[0].device)
            thetas = [theta + die.to(theta.device, theta.dtype) for theta in thetas]
        return [theta.exp_() for theta in thetas]

    def _sample_die(self, device: torch.device) -> Tensor:
        if self.die == "tile":  # on the device, whose generator is the one that is seeded
            return torch.randn(1, device=device) * self.sigma_die
        seed = current_chip_seed()
        if seed is None:
            raise CnetError(
                f"sigma_die = {self.sigma_die} is shared by a whole chip, but no chip is being "
                "programmed here: use cnet_aihw.program(model, seed), hold a chip in training "
                "(steps_per_chip >= 1), or set die='tile'.",
                key="sigma_die",
                value=self.sigma_die,
            )
        generator = torch.Generator().manual_seed(derive_seed(seed, "die"))
        return torch.randn(1, generator=generator) * self.sigma_die
