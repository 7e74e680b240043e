"""Closed-form fit of scale, offset and a low-rank map from covariances alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


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

    @property
    def finite(self) -> bool:
        """Whether all sums are finite, as those of a chip that computes are."""
        return bool(self._products.isfinite().all())

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
    worth of the first filter, of the second, and so on. Channels count with their weights."""

    unexplained: float
    """Variance of the residual that is left with all filters, summed over channels."""

    wanted: float
    """Variance of the wanted output, summed over channels."""

    mixing: Tensor | None = None
    """Map of y in place of the scale, [C, C], where the corrector has one; y' = M y + ..."""


class ClosedFormModule(nn.Module):
    """Module of a corrector that a :class:`LinearFit` gives its weights."""

    dims: int
    """Dimensions that the layer slides over."""

    @property
    def on_output(self) -> str:
        """Part that acts on y alone: a "scale" of each channel, "nothing", or a "map"."""
        return "scale"

    @property
    def in_closed_form(self) -> bool:
        """Whether the module, as it is set, is a linear map."""
        return True

    @property
    def filters(self) -> int:
        """Number of filters m."""
        return 0

    def feature_rows(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the features of every position, [positions, F]."""
        return rows_of(y, self.dims)[:, :0]

    def put(self, fit: LinearFit) -> None:
        """Take the weights of a fit."""
        raise NotImplementedError


def rows_of(values: Tensor, dims: int) -> Tensor:
    """Return every position of a layer's input or output as a row, [positions, channels]."""
    last = values.movedim(-1 - dims, -1)
    return last.reshape(-1, last.shape[-1])  # also of a single vector, [channels]


def fit_linear(
    moments: Moments,
    channels: int,
    size: int,
    ridge: float = 1e-3,
    weights: Tensor | None = None,
    on_output: str = "scale",
) -> LinearFit:
    r"""Fit scale and offset by least squares, and the best map of rank m for what they leave.

    With residual r = t - (s y + c), the ridge solution is

    .. math:: B = (F^T F + \epsilon I)^{-1} F^T R

    and the best map of rank m keeps the leading eigenvectors V of :math:`B^T F^T F B` (reduced rank
    regression: Izenman 1975); the generator is :math:`(B V)^T`, the compensator V. With weights w
    of the channels it is the best one in their norm: V are eigenvectors for
    :math:`B W^{1/2}`, and :math:`W^{-1/2} V` is the compensator.

    A channel that is constant on the chip keeps its scale of 1 and gets an offset. Where nothing is
    wrong (t = y) the result is exactly s = 1, c = 0 and filters that give 0.

    Args:
        moments: the layer's moments.
        channels: C.
        size: m; filters beyond C are not needed and left out.
        ridge: epsilon / mean diagonal of the features' covariance; 0: the solution of least norm.
        weights: importance of an error in each channel, [C], at least 0; None: the same for all.
        on_output: part that acts on y alone, as :class:`ClosedFormModule` names it.
    """
    mean, covariance = moments.mean_and_covariance()
    features = len(mean) - 2 * channels
    f = slice(0, features)
    y = slice(features, features + channels)
    d = slice(features + channels, None)  # t - y: exactly 0 where nothing is wrong
    of_features, to_residual = covariance[f, f], covariance[f, d]
    change = torch.zeros_like(mean[y])  # s - 1
    mixing = read = None
    residual = covariance[d, d].diagonal()  # variance of what is still missing
    if on_output == "scale":
        variance, cross = covariance[y, y].diagonal(), covariance[y, d].diagonal()
        # what rounding leaves of a constant channel is not a spread
        constant = variance <= 1e-10 * (mean[y].square() + residual)
        change = torch.where(constant, 0.0, cross / torch.where(constant, 1.0, variance))
        residual = residual - 2 * change * cross + change.square() * variance
        to_residual = to_residual - covariance[f, y] * change
    elif on_output == "map":  # the filters see what y does not explain of the features
        both = _solve(covariance[y, y], torch.cat([covariance[y, d], covariance[y, f]], 1), ridge)
        mixing, read = both[:, :channels], both[:, channels:]  # [C, C], [C, F]
        residual = residual - (2 * covariance[y, d] - covariance[y, y] @ mixing).mul(mixing).sum(0)
        to_residual = to_residual - covariance[f, y] @ mixing
        of_features = of_features - covariance[f, y] @ read
    root = _root(weights, mean[y])
    solution = _solve(of_features, to_residual, ridge)  # B, [F, C]
    explained = solution.T @ to_residual * root * root.unsqueeze(1)
    worth, vectors = torch.linalg.eigh((explained + explained.T) / 2)  # ascending
    worth, vectors = worth.flip(0).clamp_min(0.0), vectors.flip(1)
    chosen = vectors[:, :size]  # [C, m]
    generator = (solution * root @ chosen).T
    compensator = chosen / root.unsqueeze(1)
    if mixing is not None and read is not None:
        mixing = (mixing - read @ generator.T @ compensator.T).T
        offset = mean[d] - mixing @ mean[y]
        mixing = mixing + torch.eye(channels, dtype=mixing.dtype, device=mixing.device)
    else:
        offset = mean[d] - change * mean[y]
    # features count from their means, which go into the offset
    offset = offset - compensator @ (generator @ mean[f])
    left = float(((residual * root.square()).sum() - worth.sum()).clamp_min(0.0))
    of_wanted = covariance[y, y].diagonal() + 2 * covariance[y, d].diagonal()
    of_wanted = ((of_wanted + covariance[d, d].diagonal()) * root.square()).sum()
    return LinearFit(
        1.0 + change, offset, generator, compensator, worth, left, float(of_wanted), mixing
    )


def _root(weights: Tensor | None, like: Tensor) -> Tensor:
    """Return the roots of the weights, of mean 1 and none of them 0, [C]."""
    if weights is None:
        return torch.ones_like(like)
    weights = weights.to(like)
    mean = weights.mean()
    if not float(mean) > 0.0:
        return torch.ones_like(like)
    return (weights / mean).clamp_min(1e-6).sqrt()


def _solve(covariance: Tensor, right: Tensor, ridge: float) -> Tensor:
    """Return (covariance + ridge * mean diagonal)^-1 right; of least norm without a ridge."""
    if not len(covariance):
        return right
    size = covariance.diagonal().mean()
    ridge = float(ridge)  # tensors take no whole numbers above 64 bits
    if ridge >= 1e-9:
        regularized = covariance.clone()
        regularized.diagonal().add_(torch.where(size > 0, ridge * size, 1.0))
        factor, failed = torch.linalg.cholesky_ex(regularized)
        if not int(failed):
            return torch.cholesky_solve(right, factor)
    values, vectors = torch.linalg.eigh(covariance)
    values = values + ridge * size
    usable = values > 1e-12 * values[-1].clamp_min(1e-300)
    inverse = torch.where(usable, 1.0 / torch.where(usable, values, 1.0), 0.0)
    return vectors @ (inverse.unsqueeze(1) * (vectors.T @ right))
