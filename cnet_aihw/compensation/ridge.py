"""Ridge regression from covariances alone, and its penalty from the same covariances."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

LEAST = 1e-3
"""Ridge / mean variance of the features where there are rows enough, and the least otherwise."""

_TRIED = [LEAST * 10 ** (step / 2) for step in range(11)]
_ENOUGH = 4  # rows for each feature; from there on the choice changes next to nothing
_PROBES = 64

WIDE = 1024
"""Features from which on their eigenvalues take much longer than systems of equations."""


def solve(covariance: Tensor, right: Tensor, ridge: float) -> Tensor:
    """Return (covariance + ridge * mean diagonal)^-1 right; of least norm without a ridge.

    Args:
        covariance: of the features, [F, F].
        right: [F, C].
        ridge: at least 0.
    """
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


def chosen_ridge(covariance: Tensor, right: Tensor, variance: Tensor, rows: int) -> float:
    r"""Return the ridge of the least generalized cross-validation.

    With eigenvalues :math:`\lambda` of the covariance and n rows it is that of the least

    .. math:: \frac{\text{RSS}(\epsilon) / n}{(1 - \text{dof}(\epsilon) / n)^2},\quad
        \text{dof}(\epsilon) = 2 + \sum_i \frac{\lambda_i}{\lambda_i + \epsilon},

    where 2 stands for scale and offset. Of more than 1024 features the sum is estimated with random
    signs (Hutchinson 1990), for every second ridge, the largest first, until the error rises. With
    4 rows a feature or more nothing is tried.

    Source: Golub, Heath and Wahba, *Generalized cross-validation as a method for choosing a good
    ridge parameter*, Technometrics 1979.

    Args:
        covariance: of the features, [F, F].
        right: covariances of features and targets, [F, C].
        variance: of the targets, summed over channels.
        rows: n.

    Returns:
        Ridge / mean variance of the features, 1e-3 to 100.
    """
    size = covariance.diagonal().mean() if len(covariance) else 0.0
    if rows >= _ENOUGH * len(covariance) or not float(size) > 0.0:
        return LEAST
    if len(covariance) > WIDE:
        tried = _by_systems(covariance, right, float(size))
        return least_ridge(tried, float(variance), rows, until_worse=True)
    values, vectors = torch.linalg.eigh(covariance)
    power = (vectors.T @ right).square().sum(1)
    tried = by_eigenvalues(values.clamp_min(0.0), power, float(size))
    return least_ridge(tried, float(variance), rows)


def least_ridge(
    tried: Iterable[tuple[float, float, float]],
    variance: float,
    rows: int,
    until_worse: bool = False,
) -> float:
    """Return the ridge of the least generalized cross-validation among those tried.

    Args:
        tried: of each ridge itself, the variance that is explained, and the degrees of freedom.
        variance: of the targets, summed over channels.
        rows: number of rows.
        until_worse: whether the first one that is worse than that before it is the last.
    """
    best, least = _TRIED[-1], math.inf
    for ridge, explained, dof in tried:
        if dof + 2.0 >= rows:
            continue
        error = max(variance - explained, 0.0) / (1.0 - (dof + 2.0) / rows) ** 2
        if error < least:
            best, least = ridge, error
        elif until_worse:
            break
    return best


def by_eigenvalues(
    values: Tensor, power: Tensor, size: float
) -> Iterator[tuple[float, float, float]]:
    """Yield each ridge, the variance that its solution explains, and its degrees of freedom.

    Args:
        values: eigenvalues of the features' covariance, at least 0.
        power: squares of the covariances with the targets along the eigenvectors, summed.
        size: mean diagonal of the covariance.
    """
    for ridge in _TRIED:
        shifted = values + ridge * size
        explained = ((shifted + ridge * size) / shifted.square() * power).sum()
        yield ridge, float(explained), float((values / shifted).sum())


def _by_systems(
    covariance: Tensor, right: Tensor, size: float
) -> Iterator[tuple[float, float, float]]:
    """Yield as :func:`by_eigenvalues` does, with the degrees of freedom from random signs."""
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (len(covariance), _PROBES), generator=generator).to(covariance)
    signs = 2.0 * signs - 1.0
    both = torch.cat([right, signs], 1)
    for ridge in _TRIED[::-2]:
        solved = solve(covariance, both, ridge)
        solution, inverse = solved.split([right.shape[1], _PROBES], 1)
        explained = (right * solution).sum() + ridge * size * solution.square().sum()
        trace = (signs * inverse).sum() / _PROBES
        yield ridge, float(explained), len(covariance) - ridge * size * float(trace)
