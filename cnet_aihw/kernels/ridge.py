"""Ridge regression of classes on features, with an intercept that has no penalty."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import check_count, is_number

_ROWS = 4096  # samples that are there in double precision at once


@checked
def fit_ridge(z: Tensor, y: Tensor, classes: int, alpha: float = 0.5) -> tuple[Tensor, Tensor]:
    """Fit a linear read-out to targets 0 and 1 of each class.

    It solves for as many unknowns as there are features or samples, whichever are fewer.

    Args:
        z: features [N, F].
        y: class numbers [N].
        classes: number of classes.
        alpha: penalty of the squared weights.

    Returns:
        Weights [classes, F] and intercepts [classes], float64.

    Raises:
        CnetError: for targets that do not fit, features that are not finite, and a penalty that is
            not above 0.
    """
    if not (is_number(alpha) and alpha > 0.0):
        raise bad_value("alpha", alpha, "a number above 0")
    if z.ndim != 2 or 0 in z.shape or z.is_complex():
        raise bad_value("z", tuple(z.shape), "real features [N, F]")
    check_count("classes", classes, most=10**6)
    if y.ndim != 1 or len(y) != len(z) or y.is_floating_point() or len(y) < 2:
        raise bad_value("y", tuple(y.shape), f"class numbers of {len(z)} samples, at least 2")
    if int(y.min()) < 0 or int(y.max()) >= classes:
        wrong = int(y.min()) if int(y.min()) < 0 else int(y.max())
        raise bad_value("y", wrong, f"class numbers from 0 to {classes - 1}")
    targets = F.one_hot(y.long(), classes).double()
    mean, wanted = z.mean(0, dtype=torch.float64), targets.mean(0)
    if not bool(torch.isfinite(mean).all()):
        raise bad_value("z", "not finite", "finite features", "scale the inputs")
    targets = targets - wanted
    if z.shape[1] <= len(z):
        square = torch.diag_embed(torch.full_like(mean, float(alpha)))
        products = mean.new_zeros(z.shape[1], classes)
        for some, of in zip(z.split(_ROWS), targets.split(_ROWS), strict=True):
            centred = some.double() - mean
            square.addmm_(centred.T, centred)
            products.addmm_(centred.T, of)
        weight = torch.linalg.solve(square, products).T
    else:
        centred = z.double() - mean
        square = centred @ centred.T
        square.diagonal().add_(float(alpha))
        weight = (centred.T @ torch.linalg.solve(square, targets)).T
    return weight, wanted - weight @ mean
