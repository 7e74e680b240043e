"""Random features and a linear read-out as a network, whose layers go on crossbars as any other."""

from __future__ import annotations

import math
from typing import Any

import torch
from aihwkit.inference.noise.base import BaseNoiseModel
from torch import Tensor, nn

from cnet_aihw.evaluation.metrics import evaluation_mode
from cnet_aihw.kernels.expected import matched_scale
from cnet_aihw.kernels.functions import (
    check_columns,
    check_inputs,
    check_kernel,
    check_rows,
    feature_map,
    features_of,
    scale_bandwidth,
)
from cnet_aihw.kernels.ridge import fit_ridge
from cnet_aihw.rram import find_analog_layers, nominal_inside
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.random_state import derive_seed, forked_random_state, seed_random_state
from cnet_aihw.runtime.torch_device import device_of
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import check_count, check_number, is_number
from cnet_aihw.zoo import random_projection


class RandomFeatures(nn.Module):
    """Random features of a kernel: a fixed ``projection``, a linear layer, and a non-linearity.

    Args:
        inputs: numbers of an input, d.
        s: rows of the projection.
        kernel: "rbf", "arc_cosine" or "softmax"; see :func:`~cnet_aihw.kernels.exact_kernel`.
        features: "rff", "orf" or "sorf".
        gamma: bandwidth g.
        scale: factor on the projection, which is programmed as scale * sqrt(2 g) N.
        seed: seed of the projection.
        columns: numbers of the columns that are used; None: all.
        dtype: number type.

    Raises:
        CnetError: for unknown names, and values that cannot be.
    """

    columns: Tensor | None

    @checked
    def __init__(
        self,
        inputs: int,
        s: int,
        kernel: str = "rbf",
        features: str = "rff",
        *,
        gamma: float = 1.0,
        scale: float = 1.0,
        seed: int = 0,
        columns: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        check_kernel(kernel, gamma)
        check_count("inputs", inputs)
        check_count("s", s)
        check_columns(columns, inputs)
        if not (is_number(scale) and scale > 0.0):
            raise bad_value("scale", scale, "a number above 0")
        if not dtype.is_floating_point:
            raise bad_value("dtype", str(dtype), "a real number type, such as torch.float32")
        self.kernel, self.kind, self.s, self.seed = kernel, features, s, seed
        self.inputs, self.gamma, self.scale = inputs, float(gamma), float(scale)
        size = inputs if columns is None else len(columns)
        weight = random_projection(features, size, s, seed, torch.float64)
        weight = (scale * math.sqrt(2.0 * gamma) * weight).to(dtype)
        self.projection: Any = nn.Linear(size, s, bias=False, device="meta")
        self.projection.weight = nn.Parameter(weight, requires_grad=False)
        self.register_buffer("columns", columns)

    @property
    def width(self) -> int:
        """Return the number of features."""
        return features_of(self.kernel, self.s)

    def extra_repr(self) -> str:
        """Return what tells the features apart."""
        return (
            f"kernel={self.kernel}, features={self.kind}, s={self.s}, gamma={self.gamma:g}, "
            f"scale={self.scale:g}, seed={self.seed}"
        )

    def forward(self, x: Tensor) -> Tensor:
        """Inputs [N, ...] -> features [N, F], on the chip where one is programmed."""
        x = self._inputs(x)
        return feature_map(self.kernel, self.projection(x), x, self.gamma)

    def checked_features(self, x: Tensor) -> Tensor:
        """Return the features [N, F] as :meth:`forward`, of inputs that are checked first.

        Raises:
            CnetError: for inputs that the kernel does not take.
        """
        return self._checked(x, 1.0)

    def intended(self, x: Tensor) -> Tensor:
        """Return the features [N, F] of the wanted kernel, before ``scale``; without a chip.

        Raises:
            CnetError: for inputs that the kernel does not take.
        """
        return self._checked(x, self.scale)

    def _checked(self, x: Tensor, scale: float) -> Tensor:
        x = self._inputs(x)
        check_rows(x)
        projected = self.projection(x) / scale
        half = self.gamma * x.square().sum(-1, keepdim=True)
        check_inputs(self.kernel, x, projected.abs() - half)
        return feature_map(self.kernel, projected, x, self.gamma)

    def _inputs(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        if x.shape[1] != self.inputs:
            raise bad_value("x", tuple(x.shape), f"inputs of {self.inputs} numbers")
        return x if self.columns is None else x[:, self.columns]


class KernelClassifier(nn.Module):
    """Random features and a ridge regression of classes: ``features.projection``, ``readout``.

    A plain digital network: ``convert_to_analog(model, rpu_config, exclude=["readout"])`` puts the
    projection on a crossbar, without ``exclude`` the read-out too. Everything that takes networks
    takes it. The features of arc_cosine are steps, whose gradients are 0.

    Args:
        features: the random features.
        classes: number of classes.
    """

    def __init__(self, features: RandomFeatures, classes: int) -> None:
        super().__init__()
        self.features: Any = features
        dtype = features.projection.weight.dtype
        self.readout: Any = nn.Linear(features.width, classes, dtype=dtype)
        with torch.no_grad():
            for parameter in self.readout.parameters():
                parameter.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Inputs [N, ...] -> one number for each class, [N, classes]."""
        out: Tensor = self.readout(self.features(x))
        return out

    @torch.no_grad()
    def fit(self, x: Tensor, y: Tensor, alpha: float = 0.5) -> KernelClassifier:
        """Fit the read-out to features without variation, on the model's device.

        Noise of the periphery, if any, belongs to the seed of the projection.

        Args:
            x: training inputs [N, ...].
            y: class numbers [N].
            alpha: penalty of the weights; the intercept has none.

        Returns:
            The model itself.

        Raises:
            CnetError: for impossible inputs or targets, and where the read-out lies on a crossbar,
                which is written once: fit it before.
        """
        check_readout(self)
        device = device_of(self)
        if x.dtype != self.readout.weight.dtype:
            expected = f"{self.readout.weight.dtype}, as the network"
            raise bad_value("x", str(x.dtype), expected, "give kernel_classifier a dtype")
        x, y = x.to(device), y.to(device)
        with evaluation_mode(self), forked_random_state(device):
            seed_random_state(derive_seed(self.features.seed, "fit"), device)
            if find_analog_layers(self):
                with nominal_inside(self):
                    z = self.features.intended(x)
            else:
                z = self.features.intended(x)
        set_readout(self, *fit_ridge(z, y, self.classes, alpha))
        return self

    @property
    def classes(self) -> int:
        """Return the number of classes."""
        return int(self.readout.out_features)


@checked
def kernel_classifier(
    x: Tensor,
    classes: int,
    kernel: str = "rbf",
    features: str = "rff",
    *,
    s: int | None = None,
    log2_ratio: float = 3.0,
    gamma: float | None = None,
    seed: int = 0,
    match: BaseNoiseModel | None = None,
    dtype: torch.dtype = torch.float32,
) -> KernelClassifier:
    """Return a classifier for data: columns, bandwidth and size from training inputs.

    Columns that are constant in ``x`` are left out: they say nothing, and each would take a row of
    the crossbar.

    Args:
        x: training inputs [N, ...], normalised; what follows uses them alone.
        classes: number of classes.
        kernel: "rbf", "arc_cosine" or "softmax".
        features: "rff", "orf" or "sorf".
        s: rows of the projection; None: by ``log2_ratio``.
        log2_ratio: logarithm to base 2 of rows / columns.
        gamma: bandwidth; None: :func:`~cnet_aihw.kernels.scale_bandwidth` of ``x``.
        seed: seed of the projection.
        match: device whose variation the projection is scaled for; None: for none. The arc-cosine
            kernel does not depend on scale.
        dtype: number type.

    Returns:
        The classifier, with a read-out of zeros until it is fitted.

    Raises:
        CnetError: where all columns are constant, or as :class:`RandomFeatures` and
            :func:`~cnet_aihw.kernels.matched_scale`.
    """
    check_number("log2_ratio", log2_ratio, -20.0, 20.0)
    check_count("classes", classes, most=10**6)
    if x.ndim < 2 or len(x) < 2 or 0 in x.shape or not x.is_floating_point():
        raise bad_value("x", tuple(x.shape), "real inputs [N, ...], at least two")
    rows = x.flatten(1)
    check_rows(rows)  # a column with NaN would count as constant
    varied = (rows.amax(0) > rows.amin(0)).nonzero()[:, 0]
    if len(varied) == 0:
        raise bad_value("x", "constant in every column", "inputs that differ")
    constant = rows.shape[1] - len(varied)
    columns = varied if constant else None
    kept = rows if columns is None else rows[:, columns]
    if gamma is None:
        gamma = scale_bandwidth(kernel, kept)
    if s is None:
        s = max(1, round(2.0**log2_ratio * kept.shape[1]))
    random: dict[str, Any] = {"gamma": gamma, "seed": seed, "columns": columns, "dtype": dtype}
    made = RandomFeatures(rows.shape[1], s, kernel, features, **random)
    if match is not None and kernel != "arc_cosine":
        scale = matched_scale(match, made.projection.weight)
        made = RandomFeatures(rows.shape[1], s, kernel, features, scale=scale, **random)
    return KernelClassifier(made, classes)


def classifier_of(model: nn.Module) -> KernelClassifier:
    """Return the classifier that a network is.

    Raises:
        CnetError: if it is another one.
    """
    if not isinstance(model, KernelClassifier):
        raise bad_value("model", type(model).__name__, "a KernelClassifier")
    return model


def check_readout(model: KernelClassifier) -> None:
    """Refuse a read-out on a crossbar, whose cells are written once.

    Raises:
        CnetError: says what to do.
    """
    name = type(model.readout).__name__
    if type(model.readout) is not nn.Linear:
        fix = 'fit before conversion, or convert with exclude=["readout"]'
        raise CnetError(
            f"the read-out is {name}, whose cells are written once; {fix}.",
            key="readout",
            value=name,
            expected="a digital read-out",
            fix=fix,
        )


@torch.no_grad()
def set_readout(model: KernelClassifier, weight: Tensor, bias: Tensor) -> None:
    """Give the read-out its weights, which is digital."""
    model.readout.weight.copy_(weight)
    model.readout.bias.copy_(bias)
