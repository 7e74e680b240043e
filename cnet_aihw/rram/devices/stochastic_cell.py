"""Stochastic binary cells: a pair of devices against read noise, each reading a weight of -1 or +1.

Source: Katti et al., *Bayes2IMC* (arXiv 2411.07902), of which we know the abstract: binary weights
sampled from device noise. Pair, clipping and correction are ours. Conductances in uS, read noise as
a share of g_max. Valid for read noise above 0 up to 10, drift exponents from -1 to 1, any time.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from aihwkit.inference.converter.base import BaseConductanceConverter
from aihwkit.inference.noise.base import BaseNoiseModel
from torch import Tensor
from torch.autograd import no_grad

from cnet_aihw.rram.devices.conductances import WeightScale
from cnet_aihw.rram.devices.noise import DeviceNoiseModel
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import check_number


class CellConverter(BaseConductanceConverter):
    r"""Conductances of a pair that reads +1 with the probability :math:`(1 + w) / 2`.

    .. math:: G_+ - G_- = \sqrt 2\, \sigma\, \Phi^{-1}\big((1 + w) / 2\big)

    clipped at the range. Back from conductances there comes not a weight but its *score*
    :math:`z = (G_+ - G_-) / (\sqrt 2\, \sigma)`, in which faults, variation and drift are linear.

    Args:
        g_max: largest conductance in uS.
        g_min: smallest conductance in uS, that of the other device of the pair.
        sigma: standard deviation of one device's reading in uS that is counted on.
    """

    def __init__(self, g_max: float, g_min: float, sigma: float) -> None:
        self.g_max, self.g_min, self.sigma = g_max, g_min, sigma

    @property
    def full_scale(self) -> float:
        """Score of the largest conductance against the smallest one."""
        return (self.g_max - self.g_min) / (math.sqrt(2.0) * self.sigma)

    @no_grad()
    def convert_to_conductances(self, weights: Tensor) -> tuple[list[Tensor], dict[str, Any]]:
        """Return the two devices of each weight, [out, in] in uS.

        Raises:
            CnetError: for weights outside of -1 to 1, which are not means of binary weights.
        """
        # a division by a scale may round just past 1
        if weights.device.type == "cpu" and bool((weights.abs() > 1.0 + 1e-6).any()):
            fix = "train it with training=bayes_binary, or choose another device"
            raise bad_value(
                "weights",
                float(weights.abs().max()),
                "means of binary weights, -1 to 1 in the tile's units, on stochastic cells",
                fix,
            )
        score = math.sqrt(2.0) * torch.erfinv(weights.double().clamp(-1.0, 1.0))
        score = score.clamp(-self.full_scale, self.full_scale).to(weights.dtype)
        gap = math.sqrt(2.0) * self.sigma * score
        return [self.g_min + gap.clamp(min=0.0), self.g_min + (-gap).clamp(min=0.0)], {}

    @no_grad()
    def convert_back_to_weights(self, conductances: list[Tensor], params: dict[str, Any]) -> Tensor:
        """Return the scores of pairs, [out, in]."""
        plus, minus = conductances
        return (plus - minus) / (math.sqrt(2.0) * self.sigma)


class StochasticCellNoiseModel(DeviceNoiseModel):
    r"""Each forward reads each cell as -1 or +1, by a pair of devices against read noise.

    .. math:: P(+1) = \Phi\left(\frac{G_+ - G_-}{\sqrt 2\, \sigma_\text{read}}\right)

    Nominal weights are means :math:`w = 2 P(+1) - 1` of binary weights, in the tile's units; so are
    a chip's, where the range clips, variation moves and drift weakens them. In a
    :class:`~cnet_aihw.rram.CompositeNoiseModel` the models before this one act on the two devices;
    an additive variation's sigma then is a share of g_max. Conductances that fall with time bring P
    towards 1/2, unless the noise falls as they do. A read-out that is amplified by
    :math:`(t / t_0)^\nu` corrects that to first order: for the mean exponent, not for its spread.

    Args:
        sigma_read: standard deviation of one device's reading / g_max.
        sigma_assumed: what programming counts on; None: ``sigma_read``, as it is.
        drift_exponent: exponent nu of the amplification; 0: none.
        t_0: time in seconds from which on it acts.
        temperature: tau of the relaxed samples in training; smaller ones are nearer to binary, and
            their gradients noisier.
        g_max: largest conductance in uS (25).
        g_min: smallest conductance in uS (0).

    Raises:
        CnetError: for read noise of 0, with which nothing is sampled, and values out of range.
    """

    stage = "read noise"

    @checked
    def __init__(
        self,
        sigma_read: float = 0.2,
        sigma_assumed: float | None = None,
        drift_exponent: float = 0.0,
        t_0: float = 1.0,
        temperature: float = 0.5,
        g_max: float | None = None,
        g_min: float | None = None,
    ) -> None:
        for key, value in (
            ("sigma_read", sigma_read),
            ("sigma_assumed", sigma_read if sigma_assumed is None else sigma_assumed),
            ("t_0", t_0),
            ("temperature", temperature),
        ):
            check_number(key, value, 0.0, math.inf if key == "t_0" else 10.0)
            if value == 0.0:
                raise bad_value(key, value, "a number above 0: without it nothing is sampled")
        check_number("drift_exponent", drift_exponent, -1.0, 1.0)
        self._assumed = sigma_read if sigma_assumed is None else sigma_assumed
        super().__init__(None, g_max, g_min)
        self.range_is_given = True  # a composition takes this converter
        self.sigma_read = float(sigma_read)
        self.drift_exponent = float(drift_exponent)
        self.t_0 = float(t_0)
        self.temperature = float(temperature)

    def default_converter(self, g_max: float, g_min: float) -> CellConverter:
        """Return the converter of pairs for the read noise that is counted on."""
        return CellConverter(g_max, g_min, self._assumed * g_max)

    @property
    def acts_with_time(self) -> bool:
        """Whether its read-out amplifies, with or without a drift to correct."""
        return self.drift_exponent != 0.0

    def label(self) -> str:
        """A short name for tables and records."""
        corrected = f", corrected {self.drift_exponent:g}" if self.drift_exponent else ""
        return f"stochastic cells {self.sigma_read:g}{corrected}"

    def drift_device(self, g: Tensor, memory: Any, t_inference: float) -> Tensor:
        """Return the conductances as the read-out amplifies them at a time, in uS."""
        if t_inference <= self.t_0:
            return g
        return g * (t_inference / self.t_0) ** self.drift_exponent

    def read_std_of_device(self, g: Tensor, scale: WeightScale) -> Tensor:
        """Return the standard deviation of one reading, in uS."""
        return torch.full_like(g, self.sigma_read * scale.g_max)


def cell_of(noise_model: BaseNoiseModel | None) -> StochasticCellNoiseModel | None:
    """Return the stochastic cells of a noise model, if it has any."""
    if not isinstance(noise_model, DeviceNoiseModel):
        return None
    cells = (model for model in noise_model.chain() if isinstance(model, StochasticCellNoiseModel))
    return next(cells, None)


@no_grad()
def cell_means(score: Tensor, stds: list[Tensor]) -> Tensor:
    """Return the means of binary weights, 2 P(+1) - 1, [out, in].

    Args:
        score: scores of the pairs, [out, in].
        stds: standard deviations of their readings, in units of the score, independent.
    """
    std = torch.stack([std.expand_as(score).square() for std in stds]).sum(0).sqrt()
    return torch.erf(score / (math.sqrt(2.0) * std))


def relaxed_sample(mean: Tensor, noise: Tensor, temperature: float, gradient: str) -> Tensor:
    r"""Return a sample of binary weights that is differentiable in their means, [out, in].

    .. math:: \tanh\big((\lambda + \delta) / \tau\big),\quad \lambda = \operatorname{artanh} w,\quad
        \delta = \tfrac12 \ln\frac{u}{1 - u}

    Source: the relaxation of Meng, Bachmann, Khan, *Training binary neural networks using the
    Bayesian learning rule* (ICML 2020), after Maddison et al. and Jang et al. (2017).

    Args:
        mean: means of the weights, within -1 and 1, [out, in].
        noise: delta, [out, in].
        temperature: tau.
        gradient: "reparametrized" gives the relaxed sample; otherwise its sign, which is what cells
            read, with the gradient of the relaxed one.
    """
    inside = mean.clamp(-_LARGEST_MEAN, _LARGEST_MEAN)
    relaxed = torch.tanh((torch.atanh(inside) + noise) / temperature)
    if gradient == "reparametrized":
        return relaxed
    sign = torch.where(relaxed.detach() >= 0.0, 1.0, -1.0)
    return relaxed + (sign - relaxed).detach()


def check_binary(noise_model: BaseNoiseModel, scales: Tensor | None) -> None:
    """Refuse a real-valued layer on stochastic cells.

    Raises:
        CnetError: for cells, where the layer has no scale of binary weights.
    """
    if scales is None and cell_of(noise_model) is not None:
        fix = "call cnet_aihw.rram.make_binary(model), and train with optimizer='bayes_binary'"
        raise CnetError(
            f"the layer has real-valued weights, but stochastic cells read -1 or +1; {fix}.",
            key="noise_model",
            value=type(noise_model).__name__,
            expected="a network of binary weights",
            fix=fix,
        )


_LARGEST_MEAN = 1.0 - 1e-6
