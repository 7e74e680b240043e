"""Kernels, their random features, and the error of an approximation."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cnet_aihw.kernels.settings import KERNELS
from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import bad_choice, is_number

_LARGEST = {torch.float64: 700.0, torch.float32: 85.0}
"""Exponents whose exponentials a number type holds."""


@checked
def exact_kernel(kernel: str, x: Tensor, y: Tensor, gamma: float = 1.0) -> Tensor:
    r"""Compute a kernel between all pairs of rows.

    "rbf" is :math:`e^{-g \lVert x - y \rVert^2}`; "arc_cosine", of order 0, is 1 - angle(x, y) /
    pi; "softmax" is exp(2 g x.y), that of attention for g = 1 / (2 sqrt(d)).

    Args:
        kernel: its name.
        x: [N, d].
        y: [M, d].
        gamma: bandwidth g; the arc-cosine kernel does not depend on it.

    Returns:
        [N, M], float64.

    Raises:
        CnetError: for another kernel or a bandwidth that is not above 0; for rows of zeros, which
            have no angle.
    """
    check_kernel(kernel, gamma)
    check_rows(x, y)
    x, y, gamma = x.double(), y.double(), float(gamma)
    products = x @ y.T
    squares = x.square().sum(1), y.square().sum(1)
    if kernel == "rbf":
        distances = (squares[0][:, None] + squares[1][None, :] - 2.0 * products).clamp_min(0.0)
        return torch.exp(-gamma * distances)
    if kernel == "softmax":
        return torch.exp(2.0 * gamma * products)
    check_inputs(kernel, x)
    check_inputs(kernel, y)
    lengths = squares[0].sqrt()[:, None] * squares[1].sqrt()[None, :]
    return 1.0 - torch.arccos((products / lengths).clamp(-1.0, 1.0)) / math.pi


def feature_map(kernel: str, projected: Tensor, x: Tensor, gamma: float) -> Tensor:
    """Return random features whose products approximate a kernel.

    Args:
        kernel: its name.
        projected: products with the rows of the projection, sqrt(2 g) N, [N, s].
        x: inputs [N, d].
        gamma: bandwidth g.

    Returns:
        [N, 2 s] for rbf (cosines, sines) and softmax (both signs), [N, s] for arc_cosine.
    """
    s = projected.shape[-1]
    if kernel == "rbf":
        return torch.cat([projected.cos(), projected.sin()], -1) / math.sqrt(s)
    if kernel == "arc_cosine":
        return (projected > 0).to(projected.dtype) * math.sqrt(2.0 / s)
    half = gamma * x.square().sum(-1, keepdim=True)
    both = torch.cat([projected - half, -projected - half], -1)
    return both.exp() / math.sqrt(2.0 * s)


def features_of(kernel: str, s: int) -> int:
    """Return the number of features of a projection with s rows."""
    return s if kernel == "arc_cosine" else 2 * s


@checked
def kernel_error(exact: Tensor, features: Tensor) -> float:
    """Return the relative error of a kernel's approximation, in the Frobenius norm.

    Args:
        exact: the kernel [N, N].
        features: features [N, F].

    Raises:
        CnetError: where their numbers of rows differ, and for a kernel of zeros.
    """
    if features.ndim != 2 or exact.shape != (len(features),) * 2:
        expected = f"[N, N] for features [N, F], which are {tuple(features.shape)}"
        raise bad_value("exact", tuple(exact.shape), expected)
    norm = exact.norm()
    if not bool(norm > 0.0):
        raise bad_value("exact", float(norm), "a kernel that is not 0 everywhere")
    z = features.double()
    return float((exact - z @ z.T).norm() / norm)


@checked
def scale_bandwidth(kernel: str, x: Tensor) -> float:
    """Return the default bandwidth, 1 / (d * variance); for softmax 1 / (2 d * mean square).

    Args:
        kernel: its name.
        x: training inputs [N, d].

    Raises:
        CnetError: for another kernel.
    """
    check_kernel(kernel, 1.0)
    check_rows(x)
    x = x.double()
    spread = float(x.square().mean() if kernel == "softmax" else x.var(correction=0))
    found = 1.0 / (x.shape[-1] * spread) if spread > 0 else 1.0
    return found / 2.0 if kernel == "softmax" else found


def check_kernel(kernel: str, gamma: float) -> None:
    """Check the name of a kernel and its bandwidth."""
    if kernel not in KERNELS:
        raise bad_choice("kernel", kernel, KERNELS)
    if not (is_number(gamma) and gamma > 0.0):
        raise bad_value("gamma", gamma, "a number above 0")


def check_rows(x: Tensor, y: Tensor | None = None) -> None:
    """Check rows: their shapes, that two of them have as many columns, and that all is finite."""
    for key, rows in (("x", x), ("y", x if y is None else y)):
        if rows.ndim != 2 or rows.shape[1] != x.shape[-1] or 0 in rows.shape or rows.is_complex():
            expected = "real rows [N, d]" if key == "x" else f"real rows [M, {x.shape[-1]}]"
            raise bad_value(key, tuple(rows.shape), expected)
        if not bool(torch.isfinite(rows).all()):
            raise bad_value(key, "not finite", "finite numbers")


def check_columns(columns: Tensor | None, inputs: int) -> None:
    """Check numbers of columns; None are all."""
    fits = columns is None or (
        columns.ndim == 1
        and columns.dtype == torch.int64
        and len(columns) > 0
        and 0 <= int(columns.min()) <= int(columns.max()) < inputs
    )
    if columns is not None and not fits:
        found = f"{columns.dtype} {tuple(columns.shape)}"
        raise bad_value("columns", found, f"numbers of columns below {inputs}, int64 [d]")


def check_inputs(kernel: str, x: Tensor, exponents: Tensor | None = None) -> None:
    """Refuse inputs that a kernel does not take.

    Args:
        kernel: its name.
        x: inputs [N, d].
        exponents: exponents of the softmax kernel's features.

    Raises:
        CnetError: for rows of zeros with arc_cosine, and with softmax for inputs whose exponentials
            overflow, or vanish in all features.
    """
    if kernel == "arc_cosine":
        empty = (x == 0).all(-1)
        if bool(empty.any()):
            raise bad_value(
                "x",
                f"a row of zeros ({int(empty.nonzero()[0, 0])})",
                "rows with a direction, as the arc-cosine kernel is of their angles",
                "leave such rows out, or add a constant column",
            )
    if kernel == "softmax" and exponents is not None and exponents.numel():
        largest = exponents.amax(-1)
        limit = _LARGEST.get(exponents.dtype, 10.0)
        if not bool((largest.abs() < limit).all()):
            found = float(largest[largest.abs().argmax()])
            raise bad_value(
                "x",
                f"an input whose largest exponent is {found:.3g}",
                f"exponents between -{limit:g} and {limit:g}, as features vanish or overflow else",
                "scale the inputs, or give a smaller gamma",
            )
