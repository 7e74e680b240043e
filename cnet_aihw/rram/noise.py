"""Lognormal variation of programmed weights, CorrectNet's model, as an aihwkit noise model."""

from __future__ import annotations

import math
from copy import deepcopy
from typing import Literal

import torch
from aihwkit.inference.converter.base import BaseConductanceConverter
from aihwkit.inference.converter.conductance import SinglePairConductanceConverter
from aihwkit.inference.noise.base import BaseNoiseModel
from torch import Tensor
from torch.autograd import no_grad

from cnet_aihw.errors import CnetError
from cnet_aihw.rram.seeds import current_chip_seed, derive_seed


class MultiplicativeNoiseModel(BaseNoiseModel):
    """A noise model that multiplies each weight by a random factor.

    Training can then pass the gradient through the factor: ``d w_chip / d w = factor``.
    """

    @property
    def multiplicative(self) -> bool:
        """Whether the model, as configured, is a factor on each weight."""
        return True

    def sample_factor(self, weights: Tensor) -> Tensor:
        """Draw the factors of one tile.

        Args:
            weights: nominal weights, [out, in]; only shape, dtype and device matter.

        Returns:
            Factors, [out, in].
        """
        raise NotImplementedError

    def factor_moments(self) -> tuple[float, float]:
        """Return mean and standard deviation of the factor, in closed form."""
        raise NotImplementedError


class LogNormalNoiseModel(MultiplicativeNoiseModel):
    r"""Lognormal variation: every weight of a chip is off by a factor, for the chip's life.

    .. math:: w = w_\text{nominal}\, e^{\theta_\text{die} + \theta},\quad
        \theta \sim {\cal N}(0, \sigma^2),\ \theta_\text{die} \sim {\cal N}(0, \sigma_\text{die}^2)

    With ``sigma_die = 0`` it is the variation model of CorrectNet (DATE 2023), as we read the
    paper; the part common to a die is ours. With ``sigma = sigma_die = 0`` weights come back bit
    for bit. There is no drift.

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
            if not math.isfinite(value) or value < 0.0:
                raise CnetError(
                    f"{name} is {value}; it is a standard deviation, give a number >= 0."
                )
        if die not in ("chip", "tile"):
            raise CnetError(
                f"die is {die!r}; give 'chip' or 'tile', what shares one die-to-die draw."
            )
        if g_converter is not None and not (g_max is None and g_min is None):
            raise CnetError(
                f"g_max = {g_max} and g_min = {g_min} are given beside a converter, which has its "
                "own; give them to the converter."
            )
        super().__init__(
            deepcopy(g_converter) or SinglePairConductanceConverter(g_max=g_max, g_min=g_min)
        )
        self.sigma = float(sigma)
        self.sigma_die = float(sigma_die)
        self.die = die
        self.per_conductance = per_conductance

    def __eq__(self, other: object) -> bool:
        """Compare the law, not the identity, of converter and parameters."""
        return type(self) is type(other) and str(self) == str(other)

    def __hash__(self) -> int:
        """Hash by the law."""
        return hash(str(self))

    def __str__(self) -> str:
        text = f"LogNormalNoiseModel(sigma={self.sigma}, sigma_die={self.sigma_die}, die={self.die}"
        return text + (f", per_conductance={self.g_converter})" if self.per_conductance else ")")

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

    def factor_moments(self) -> tuple[float, float]:
        r"""Return mean and standard deviation of :math:`w / w_\text{nominal}`, in closed form.

        Returns:
            :math:`\mu = e^{v/2}` and :math:`s = \sqrt{(e^v - 1)\,e^v}` with
            :math:`v = \sigma^2 + \sigma_\text{die}^2`.

        Raises:
            CnetError: if conductances vary in a way that is no factor on the weight.
        """
        if not self.multiplicative:
            raise CnetError(
                f"{self} is no factor on a weight: its moments have no closed form; sample them."
            )
        variance = self.sigma**2 + self.sigma_die**2
        return math.exp(variance / 2), math.sqrt(math.expm1(variance) * math.exp(variance))

    @no_grad()
    def sample_factor(self, weights: Tensor) -> Tensor:
        """Draw one factor per entry (and one for the die); shapes as the weights."""
        theta = torch.randn_like(weights).mul_(self.sigma)
        if self.sigma_die > 0.0:
            theta += self._sample_die().to(weights.device, weights.dtype)
        return theta.exp_()

    @no_grad()
    def apply_programming_noise(self, weights: Tensor) -> tuple[Tensor, list[Tensor | None]]:
        """Program one tile, [out, in] -> [out, in]; there are no drift parameters."""
        if self.is_off:
            return weights.clone(), [None]
        if not self.per_conductance:
            return weights * self.sample_factor(weights), [None]
        conductances, params = self.g_converter.convert_to_conductances(weights)
        if isinstance(conductances, Tensor):  # aihwkit's SingleDevice converter gives no list
            programmed: Tensor | list[Tensor] = conductances * self.sample_factor(conductances)
        else:
            programmed = [g * self.sample_factor(g) for g in conductances]
        noisy = self.g_converter.convert_back_to_weights(programmed, params)
        if not torch.isfinite(noisy).all():
            raise CnetError(
                f"{self.g_converter} gives weights that are not finite; it cannot map a tile "
                "whose weights are all equal; use a pair of devices per weight, or leave that "
                "layer digital."
            )
        return noisy, [None]

    @no_grad()
    def apply_noise(self, weights: Tensor, t_inference: float) -> Tensor:
        """Return the weights on a fresh chip at any time: the variation does not drift."""
        return self.apply_programming_noise(weights)[0]

    @no_grad()
    def apply_drift_noise(
        self, weights: Tensor, drift_noise_parameters: list[Tensor | None], t_inference: float
    ) -> Tensor:
        """Return the programmed weights: the variation is fixed for the chip's life."""
        return weights.clone()

    @no_grad()
    def apply_programming_noise_to_conductance(self, g_target: Tensor) -> Tensor:
        """Program conductances, [out, in] in uS."""
        return g_target * self.sample_factor(g_target)

    @no_grad()
    def apply_drift_noise_to_conductance(
        self, g_prog: Tensor, drift_noise_param: Tensor | None, t_inference: float
    ) -> Tensor:
        """Return the programmed conductances: there is no drift."""
        return g_prog

    def _sample_die(self) -> Tensor:
        if self.die == "tile":
            return torch.randn(1) * self.sigma_die
        seed = current_chip_seed()
        if seed is None:
            raise CnetError(
                f"sigma_die = {self.sigma_die} is shared by a whole chip, but no chip is being "
                "programmed here: use cnet_aihw.program(model, seed), hold a chip in training "
                "(steps_per_chip >= 1), or set die='tile'."
            )
        generator = torch.Generator().manual_seed(derive_seed(seed, "die"))
        return torch.randn(1, generator=generator) * self.sigma_die
