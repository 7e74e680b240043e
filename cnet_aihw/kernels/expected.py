"""Kernels expected over features and chips, in closed form, and the match to a device."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from aihwkit.inference.noise.base import BaseNoiseModel
from torch import Tensor

from cnet_aihw.kernels.functions import check_kernel, check_rows, exact_kernel
from cnet_aihw.rram import (
    GaussianAdditiveNoiseModel,
    GaussianProportionalNoiseModel,
    LogNormalNoiseModel,
    label_of,
)
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import check_count, is_number

_NODES = 48
"""Nodes of the quadrature over a lognormal factor."""


@dataclass(frozen=True)
class _Law:
    """How programmed weights differ: by a factor, or by a Gaussian error."""

    kind: str
    sigma: float
    """Of the factor's logarithm, of the factor, or of the error in the weights' unit."""


@checked
def matched_scale(noise_model: BaseNoiseModel, weights: Tensor) -> float:
    """Return the factor on a projection that keeps the mean square of its weights on chips.

    For lognormal variation it is exp(-sigma^2), for proportional 1 / sqrt(1 + sigma^2), for
    additive 1 / sqrt(1 + sigma^2 max w^2 / mean w^2). So the bandwidth of the kernel that chips
    compute stays that of the one wanted.

    Args:
        noise_model: a lognormal, proportional or additive Gaussian noise model.
        weights: the projection [s, d].

    Raises:
        CnetError: for a device without a closed form, and one whose fixed error is larger than the
            weights themselves.
    """
    model: Any = noise_model
    check_rows(weights)
    if not bool((weights != 0).any()):
        raise bad_value("weights", "zeros alone", "a projection")
    mean_square = float(weights.double().square().mean())
    if isinstance(model, GaussianAdditiveNoiseModel):
        if model.largest_weight is None:
            largest = float(weights.abs().max())
            return 1.0 / math.sqrt(1.0 + (model.sigma * largest) ** 2 / mean_square)
        left = 1.0 - (model.sigma * model.largest_weight) ** 2 / mean_square
        if left <= 0.0:
            expected = "a device whose error is smaller than the weights"
            raise bad_value("match", label_of(model), expected, "choose match=false")
        return math.sqrt(left)
    if isinstance(model, LogNormalNoiseModel | GaussianProportionalNoiseModel):
        mean, std = model.factor_moments()
        return 1.0 / math.hypot(mean, std)
    raise _unknown("match", noise_model, "choose match=false")


def check_reach(
    key: str, kernel: str, noise_model: BaseNoiseModel, rpu_config: Any, weights: Tensor
) -> None:
    """Refuse crossbars on which the weight that an additive error is relative to differs.

    The closed forms hold for one largest weight; columns scaled one by one, and tiles of a layer
    that is split, have each its own. The arc-cosine kernel does not depend on the scale of a row.

    Args:
        key: what is asked for.
        kernel: name of the kernel.
        noise_model: the device.
        rpu_config: configuration of the crossbars.
        weights: the projection [s, d].

    Raises:
        CnetError: for such crossbars.
    """
    mapping: Any = getattr(rpu_config, "mapping", None)
    additive = isinstance(noise_model, GaussianAdditiveNoiseModel) and not noise_model.is_off
    if mapping is None or not additive:
        return
    model: Any = noise_model
    scaled = (mapping.weight_scaling_omega or 0.0) > 0.0
    limits = zip(weights.shape, (mapping.max_output_size, mapping.max_input_size), strict=True)
    split = any(0 < limit < size for size, limit in limits)
    relative = model.largest_weight is None
    if kernel == "arc_cosine":
        differs = split and (relative or scaled)
    elif relative:
        differs = split or (scaled and mapping.weight_scaling_columnwise)
    else:
        differs = scaled
    if differs:
        expected = "an error relative to one largest weight: weight_scaling=none, on one crossbar"
        raise bad_value(key, label_of(noise_model), expected, "or choose match=false")


@checked
def expected_kernel(
    kernel: str,
    x: Tensor,
    y: Tensor,
    noise_model: BaseNoiseModel,
    gamma: float = 1.0,
    scale: float = 1.0,
    largest: float | None = None,
) -> Tensor:
    """Return the kernel that random features on chips have in the mean over both.

    Rows of the projection are normal, scale * sqrt(2 g) N before they are programmed. Our
    derivation; over a lognormal factor it is a Gauss-Hermite quadrature of one dimension.

    Args:
        kernel: its name.
        x: [N, d].
        y: [M, d].
        noise_model: lognormal, proportional or additive Gaussian variation.
        gamma: bandwidth g.
        scale: factor on the projection.
        largest: largest weight that is programmed, for additive variation relative to it.

    Returns:
        [N, M], float64.

    Raises:
        CnetError: for a device without a closed form; for arc_cosine with other than additive
            variation; for softmax with lognormal variation, whose mean is infinite.
    """
    check_kernel(kernel, gamma)
    check_rows(x, y)
    _check_scale(scale)
    gamma, scale = float(gamma), float(scale)
    law = _law(noise_model, largest)
    if kernel == "arc_cosine":
        if law.kind not in ("off", "additive"):  # a factor on each weight turns rows
            raise _unknown("noise_model", noise_model, "take additive variation")
        return exact_kernel(kernel, x, y)
    x, y = x.double(), y.double()
    power = _gaussian(gamma * scale * scale, law, x, y, -1.0 if kernel == "rbf" else 1.0, 1.0)
    if kernel == "rbf":
        return power.exp()
    return (power - _halves(x, y, gamma)).exp()


@checked
def predicted_error(
    kernel: str,
    x: Tensor,
    s: int,
    noise_model: BaseNoiseModel,
    gamma: float = 1.0,
    scale: float = 1.0,
    largest: float | None = None,
) -> float:
    """Return the relative error of the kernel of s independent rows on a chip, as root mean square.

    It holds bias and variance, both in closed form; orthogonal rows have less variance.

    Args:
        kernel: its name.
        x: [N, d].
        s: rows of the projection.
        noise_model: as all that follow, in :func:`expected_kernel`.
        gamma: bandwidth g.
        scale: factor on the projection.
        largest: largest weight that is programmed.

    Raises:
        CnetError: as :func:`expected_kernel`, and for fewer than one row.
    """
    check_count("s", s)
    _check_scale(scale)
    gamma, scale = float(gamma), float(scale)
    exact = exact_kernel(kernel, x, x, gamma)
    mean = expected_kernel(kernel, x, x, noise_model, gamma, scale, largest)
    x, law = x.double(), _law(noise_model, largest)
    if kernel == "arc_cosine":
        square = 2.0 * mean
    else:  # of a cosine, or a hyperbolic one: that of twice its argument
        sign = -1.0 if kernel == "rbf" else 1.0
        power = _gaussian(gamma * scale * scale, law, x, x, sign, 2.0)
        square = (1.0 + power.exp()) / 2.0
        if kernel == "softmax":
            square = square * (-2.0 * _halves(x, x, gamma)).exp()
    variance = (square - mean.square()).clamp_min(0.0) / s
    return float(((exact - mean).square() + variance).sum().sqrt() / exact.norm())


def _check_scale(scale: float) -> None:
    if not (is_number(scale) and 0.0 < scale < 1e100):
        raise bad_value("scale", scale, "a number above 0")


def _halves(x: Tensor, y: Tensor, gamma: float) -> Tensor:
    return gamma * (x.square().sum(1)[:, None] + y.square().sum(1)[None, :])


def _gaussian(g: float, law: _Law, x: Tensor, y: Tensor, sign: float, times: float) -> Tensor:
    """Return log E exp(i w.v) (sign -1) or log E exp(w.v) of a programmed row w, [N, M].

    v is times (x - y) or times (x + y).
    """
    power = torch.zeros(len(x), len(y), dtype=torch.float64)
    for a, b in zip(x.T, y.T, strict=True):
        v = times * (a[:, None] + sign * b[None, :])
        power += _log_moment(sign * g * v.square(), law)
        if law.kind == "additive":
            power += sign * law.sigma**2 * v.square() / 2.0
    return power


def _log_moment(t: Tensor, law: _Law) -> Tensor:
    """Return log E exp(t f^2) of a factor f."""
    if law.kind in ("off", "additive"):
        return t
    if law.kind == "proportional":
        left = 1.0 - 2.0 * t * law.sigma**2
        if bool((left <= 0).any()):
            expected = "smaller inputs, gamma or sigma: the mean over chips is infinite"
            raise bad_value("x", "too large", expected)
        return t / left - left.log() / 2.0
    if bool((t > 0).any()):
        raise CnetError(
            "the mean of the softmax kernel over lognormal factors is infinite; take another "
            "kernel, or the median over chips.",
            key="kernel",
            value="softmax",
            expected="a kernel with a mean over chips",
            fix="take another kernel",
        )
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    total = torch.zeros_like(t)
    for node, weight in zip(nodes, weights, strict=True):
        square = math.exp(min(2.0 * law.sigma * float(node), 700.0))  # more is beyond numbers
        total += float(weight) * (t * square).exp()
    return (total / math.sqrt(2.0 * math.pi)).log()


def _law(noise_model: BaseNoiseModel, largest: float | None) -> _Law:
    model: Any = noise_model
    known = (LogNormalNoiseModel, GaussianProportionalNoiseModel, GaussianAdditiveNoiseModel)
    if isinstance(model, known) and model.is_off:
        return _Law("off", 0.0)
    if isinstance(model, LogNormalNoiseModel) and model.alike:
        return _Law("lognormal", model.sigma)
    if isinstance(model, GaussianProportionalNoiseModel):
        return _Law("proportional", model.sigma)
    if isinstance(model, GaussianAdditiveNoiseModel):
        reach = largest if model.largest_weight is None else model.largest_weight
        if not (is_number(reach) and reach > 0.0):
            expected = "the largest weight that is programmed, as the error is relative to it"
            raise bad_value("largest", largest, expected)
        return _Law("additive", model.sigma * reach)
    raise _unknown("noise_model", noise_model, "measure chips instead")


def _unknown(key: str, noise_model: BaseNoiseModel, fix: str) -> CnetError:
    expected = "lognormal, proportional or additive Gaussian variation, which have a closed form"
    return bad_value(key, label_of(noise_model), expected, fix)
