"""Closed-form fit of scale, offset and a low-rank map from covariances alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cnet_aihw.compensation.few_rows import filters_from_rows
from cnet_aihw.compensation.moments import Moments
from cnet_aihw.compensation.ridge import chosen_ridge, solve
from cnet_aihw.evaluation.affine_hooks import FEWEST_ROWS


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
    """Variance of the residual that each possible filter explains, less its ridge penalty, summed
    over channels, [C]: the worth of the first filter, of the second, and so on. With few rows the
    penalty is large, and so is what further rows would not confirm of the variance explained.
    Channels count with their weights."""

    unexplained: float
    """Variance of the residual that is left with all filters, and their ridge penalty, summed over
    channels."""

    wanted: float
    """Variance of the wanted output, summed over channels."""

    error: float
    """Mean square of what was wrong with the output before, summed over channels."""

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
    def ends_with_y(self) -> bool:
        """Whether the last C features are y itself."""
        return False

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

    def moments(self) -> Moments:
        """Return moments to which nothing is added yet."""
        return Moments(self.on_output, self.ends_with_y)

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
    ridge: float | None = None,
    weights: Tensor | None = None,
    on_output: str = "scale",
) -> LinearFit:
    r"""Fit scale and offset by least squares, and the best map of rank m for what they leave.

    With residual r = t - (s y + c), the ridge solution is

    .. math:: B = (F^T F + \epsilon I)^{-1} F^T R

    and the best map of rank m keeps the leading eigenvectors V of :math:`B^T F^T R` (reduced rank
    regression: Izenman 1975); the generator is :math:`(B V)^T`, the compensator V. With weights w
    of the channels it is the best one in their norm: V are eigenvectors for
    :math:`B W^{1/2}`, and :math:`W^{-1/2} V` is the compensator.

    A channel that is constant on the chip keeps its scale of 1 and gets an offset; all channels do
    so with fewer than four rows, from which a scale has no finite variance. Where nothing is wrong
    (t = y) the result is exactly s = 1, c = 0 and filters that give 0.

    Args:
        moments: the layer's moments.
        channels: C.
        size: m; filters beyond C are not needed and left out.
        ridge: epsilon / mean diagonal of the features' covariance; 0: the solution of least norm;
            None: as :func:`~cnet_aihw.compensation.ridge.chosen_ridge` finds it.
        weights: importance of an error in each channel, [C], at least 0; None: the same for all.
        on_output: part that acts on y alone, as :class:`ClosedFormModule` names it.
    """
    found = moments.statistics()
    of_features, to_residual = found.ff, found.fd
    change = torch.zeros_like(found.y)  # s - 1
    mixing = read = None
    variance, cross = (v if v.dim() == 1 else v.diagonal() for v in (found.yy, found.yd))
    residual = found.dd  # variance of what is still missing
    if on_output == "scale":
        # what rounding leaves of a constant channel is not a spread
        constant = variance <= 1e-10 * (found.y.square() + residual)
        constant |= moments.count < FEWEST_ROWS
        change = torch.where(constant, 0.0, cross / torch.where(constant, 1.0, variance))
        residual = residual - 2 * change * cross + change.square() * variance
        if found.rows is None:
            to_residual = to_residual - found.fy * change
    elif on_output == "map":  # the filters see what y does not explain of the features
        of_output = ridge
        if of_output is None:
            of_output = chosen_ridge(found.yy, found.yd, residual.sum(), moments.count)
        both = solve(found.yy, torch.cat([found.yd, found.fy.T], 1), of_output)
        mixing, read = both[:, :channels], both[:, channels:]  # [C, C], [C, F]
        residual = residual - (2 * found.yd - found.yy @ mixing).mul(mixing).sum(0)
        to_residual = to_residual - found.fy @ mixing
        of_features = of_features - found.fy @ read
    root = _root(weights, found.y)
    if found.rows is not None:
        f, y, d = found.rows
        found_filters = filters_from_rows(f, d - change * y, root, size, ridge)
    else:
        if ridge is None:
            variance_left = (residual * root.square()).sum()
            ridge = chosen_ridge(of_features, to_residual * root, variance_left, moments.count)
        found_filters = _filters(of_features, to_residual, root, size, ridge)
    worth, generator, compensator = found_filters
    if mixing is not None and read is not None:
        mixing = (mixing - read @ generator.T @ compensator.T).T
        offset = found.d - mixing @ found.y
        mixing = mixing + torch.eye(channels, dtype=mixing.dtype, device=mixing.device)
    else:
        offset = found.d - change * found.y
    # features count from their means, which go into the offset
    offset = offset - compensator @ (generator @ found.f)
    left = float(((residual * root.square()).sum() - worth.sum()).clamp_min(0.0))
    of_wanted = ((variance + 2 * cross + found.dd) * root.square()).sum()
    error = float(((found.d.square() + found.dd) * root.square()).sum())
    return LinearFit(
        1.0 + change, offset, generator, compensator, worth, left, float(of_wanted), error, mixing
    )


def _filters(
    of_features: Tensor, to_residual: Tensor, root: Tensor, size: int, ridge: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return worth, generator and compensator from covariances, as from rows."""
    solution = solve(of_features, to_residual, ridge)  # B, [F, C]
    explained = solution.T @ to_residual * root * root.unsqueeze(1)
    worth, vectors = torch.linalg.eigh((explained + explained.T) / 2)  # ascending
    chosen = vectors.flip(1)[:, :size]  # [C, m]
    generator = (solution * root @ chosen).T
    return worth.flip(0).clamp_min(0.0), generator, chosen / root.unsqueeze(1)


def _root(weights: Tensor | None, like: Tensor) -> Tensor:
    """Return the roots of the weights, of mean 1 and none of them 0, [C]."""
    if weights is None:
        return torch.ones_like(like)
    weights = weights.to(like)
    mean = weights.mean()
    if not float(mean) > 0.0:
        return torch.ones_like(like)
    return (weights / mean).clamp_min(1e-6).sqrt()
