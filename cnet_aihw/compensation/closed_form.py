"""Closed-form fit of scale, offset and a low-rank map from covariances alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


class Moments:
    """Sums over positions of one layer's features, output, and what is wrong with the output.

    Batches are added one by one, so that memory does not depend on how many there are. Products
    are taken in the type of the batches after the first batch's means are subtracted, and summed
    in float64.
    """

    def __init__(self) -> None:
        self.count = 0
        self._origin: Tensor | None = None  # [columns], near the means, so that nothing cancels
        self._sum: Tensor = torch.empty(0)
        self._products: Tensor = torch.empty(0)

    def add(self, features: Tensor, output: Tensor, wanted: Tensor) -> None:
        """Take in one batch.

        Args:
            features: [positions, F].
            output: the layer's output on the chip, [positions, C].
            wanted: what it should be, [positions, C].
        """
        rows = torch.cat([features, output, wanted - output], 1)
        rows = rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows
        if self._origin is None:
            self._origin = rows.mean(0)
            self._sum = rows.new_zeros(rows.shape[1], dtype=torch.float64)
            self._products = self._sum.new_zeros(rows.shape[1], rows.shape[1])
        rows = rows - self._origin
        self.count += len(rows)
        self._sum += rows.sum(0, dtype=torch.float64)
        self._products += (rows.T @ rows).double()

    def mean_and_covariance(self) -> tuple[Tensor, Tensor]:
        """Return means [F + 2 C] and covariances [F + 2 C, F + 2 C] of features, y and t - y."""
        assert self._origin is not None
        shift = self._sum / self.count
        covariance = self._products / self.count - torch.outer(shift, shift)
        return self._origin.double() + shift, covariance


@dataclass(frozen=True)
class LinearFit:
    """A fitted map y' = s y + c + V^T G f of one layer, in float64."""

    scale: Tensor
    """s, [C]."""

    offset: Tensor
    """c, [C]."""

    generator: Tensor
    """G, [m, F]: the filters in the order of their worth."""

    compensator: Tensor
    """V^T, [C, m]."""

    spectrum: Tensor
    """Variance of the residual that each possible filter explains, summed over channels, [C]: the
    worth of the first filter, of the second, and so on."""

    unexplained: float
    """Variance of the residual that is left with all filters, summed over channels."""


def fit_linear(moments: Moments, channels: int, size: int, ridge: float = 1e-3) -> LinearFit:
    r"""Fit scale and offset by least squares, and the best map of rank m for what they leave.

    With residual r = t - (s y + c), the ridge solution is

    .. math:: B = (F^T F + \epsilon I)^{-1} F^T R

    and the best map of rank m keeps the leading eigenvectors V of :math:`B^T F^T F B` (reduced rank
    regression: Izenman 1975); the generator is :math:`(B V)^T`, the compensator V.

    A channel that is constant on the chip keeps its scale of 1 and gets an offset. Where nothing is
    wrong (t = y) the result is exactly s = 1, c = 0 and filters that give 0.

    Args:
        moments: the layer's moments.
        channels: C.
        size: m, at most C.
        ridge: epsilon / mean diagonal of the features' covariance.
    """
    mean, covariance = moments.mean_and_covariance()
    features = len(mean) - 2 * channels
    f = slice(0, features)
    y = slice(features, features + channels)
    d = slice(features + channels, None)  # t - y: exactly 0 where nothing is wrong
    variance, cross = covariance[y, y].diagonal(), covariance[y, d].diagonal()
    # what rounding leaves of a constant channel is not a spread
    constant = variance <= 1e-10 * (mean[y].square() + covariance[d, d].diagonal())
    change = torch.where(constant, 0.0, cross / torch.where(constant, 1.0, variance))  # s - 1
    offset = mean[d] - change * mean[y]
    to_residual = covariance[f, d] - covariance[f, y] * change  # F'R, [F, C]
    regularized = covariance[f, f].clone()
    regularized.diagonal().add_(ridge * regularized.diagonal().mean().clamp_min(1e-30))
    solution = torch.linalg.solve(regularized, to_residual)  # B, [F, C]
    explained = solution.T @ to_residual
    worth, vectors = torch.linalg.eigh((explained + explained.T) / 2)  # ascending
    worth, vectors = worth.flip(0).clamp_min(0.0), vectors.flip(1)
    chosen = vectors[:, :size]  # V, [C, m]
    residual = covariance[d, d].diagonal() - 2 * change * cross + change.square() * variance
    generator = (solution @ chosen).T
    # features count from their means, which go into the offset
    offset = offset - chosen @ (generator @ mean[f])
    left = float((residual.sum() - worth.sum()).clamp_min(0.0))
    return LinearFit(1.0 + change, offset, generator, chosen, worth, left)
