"""Ridge regression of reduced rank from rows, where these are fewer than the features.

The same solution as from covariances, by matrices of the size of the rows: those of the features,
of which the first linear layer of an ImageNet network has tens of thousands, are never made.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cnet_aihw.compensation.ridge import LEAST, by_eigenvalues, least_ridge


def filters_from_rows(
    features: Tensor, residual: Tensor, root: Tensor, size: int, ridge: float | None
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Fit the best map of rank m from features to a residual.

    With :math:`F F^T / n = U \Lambda U^T` for the n rows F of the features,

    .. math:: F B = U \Lambda (\Lambda + \epsilon I)^{-1} U^T R

    is what the ridge solution B says of the residual R, and B itself is
    :math:`F^T U (\Lambda + \epsilon I)^{-1} U^T R / n`.

    Args:
        features: F, less their means, [n, F].
        residual: R, less its means, [n, C].
        root: roots of the channels' weights, [C].
        size: m.
        ridge: as for :func:`~cnet_aihw.compensation.closed_form.fit_linear`.

    Returns:
        Worth of all filters, [C]; generator, [m, F], and compensator, [C, m], of the first m.
    """
    rows, channels = residual.shape
    values, vectors = torch.linalg.eigh(features @ features.T / rows)
    values = values.clamp_min(0.0)
    turned = vectors.T @ residual * root / rows**0.5  # [n, C]
    mean = values.sum() / features.shape[1]  # of the diagonal of the features' covariance
    if ridge is None and not float(mean) > 0.0:
        ridge = LEAST
    if ridge is None:
        power, variance = values * turned.square().sum(1), residual.square().sum(0) / rows
        tried = by_eigenvalues(values, power, float(mean))
        ridge = least_ridge(tried, float((variance * root.square()).sum()), rows)
    shifted = values + torch.where(mean > 0, float(ridge) * mean, 1.0)
    usable = shifted > 1e-12 * shifted[-1]
    inverse = torch.where(usable, 1.0 / torch.where(usable, shifted, 1.0), 0.0)
    said = (values * inverse).sqrt().unsqueeze(1) * turned
    worth = turned.new_zeros(channels)
    if channels <= rows:
        found, axes = torch.linalg.eigh(said.T @ said)
        worth[:], axes = found.flip(0), axes.flip(1)[:, :size]
    else:
        found, across = torch.linalg.eigh(said @ said.T)
        worth[:rows] = found.flip(0)
        axes = said.T @ across.flip(1)[:, :size]
        more = torch.eye(channels, size, dtype=axes.dtype, device=axes.device)
        axes = torch.linalg.qr(torch.cat([axes, more], 1))[0][:, :size]
    weights = vectors @ (inverse.unsqueeze(1) * (turned @ axes))  # [n, m]
    return worth.clamp_min(0.0), (features.T @ weights).T / rows**0.5, axes / root.unsqueeze(1)
