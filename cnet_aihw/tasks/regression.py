"""Regression of one or more numbers for each sample or each step of a sequence."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cnet_aihw.runtime.errors import CnetError


class RootMeanSquare:
    """Root of the mean squared error over all numbers of all outputs."""

    def __init__(self) -> None:
        self._squares: Tensor | None = None
        self._numbers = 0

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Take in outputs and targets of one shape, [N, ...]."""
        squares = (outputs.double() - targets.double()).square().sum()
        self._squares = squares if self._squares is None else self._squares + squares
        self._numbers += targets.numel()

    def compute(self) -> Tensor:
        """Return the root, in the units of the targets; NaN before the first batch."""
        if self._squares is None:
            return torch.tensor(torch.nan, dtype=torch.float64)
        return (self._squares / self._numbers).sqrt()


class Regression:
    """Mean squared error and its root (RMSE, lower is better) of outputs against targets.

    Outputs and targets have one shape: [N], [N, k], or [N, T, k] for sequences; each number counts
    the same.

    Args:
        unit: unit of the targets, for tables, such as "kWh".
    """

    name = "regression"
    metric = "RMSE"
    higher_is_better = False
    loss_name = "mse"
    score_range = (0.0, float("inf"))

    def __init__(self, unit: str = "") -> None:
        self.unit = unit

    def check(self, outputs: Any, targets: Tensor) -> None:
        """Check that targets are floating point numbers in the shape of the outputs.

        Raises:
            CnetError: if not.
        """
        if not isinstance(outputs, Tensor) or not 1 <= outputs.dim() <= 3:
            found = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
            raise CnetError(
                f"the network's outputs are {found}; expected numbers of shape (N,), (N, k) or "
                "(N, T, k).",
                key="outputs",
                value=found,
                expected="(N,), (N, k) or (N, T, k)",
            )
        if not targets.is_floating_point() or targets.shape[1:] != outputs.shape[1:]:
            expected = ("N", *outputs.shape[1:])
            raise CnetError(
                f"the targets are {targets.dtype} of shape {tuple(targets.shape)}; expected "
                f"floating point numbers of shape ({', '.join(map(str, expected))}), as the "
                "network's outputs.",
                key="targets",
                value=(str(targets.dtype), tuple(targets.shape)),
                expected=expected,
            )

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean squared error of a batch."""
        return F.mse_loss(outputs.float(), targets.float())

    def constant_loss(self, targets: Tensor) -> float:
        """Return the least mean squared error of outputs that do not look at their input."""
        return float((targets.double() - targets.double().mean(0)).square().mean())

    def new_metric(self) -> RootMeanSquare:
        """Return an empty accumulator of the RMSE."""
        return RootMeanSquare()

    def format(self, score: float) -> str:
        """Write an RMSE with four digits and the unit."""
        return f"{score:.4g} {self.unit}".rstrip()

    def recovery(self, score: float, reference: float) -> float | None:
        """Return reference RMSE / RMSE: 1 where the error is not larger, 0.5 where it doubles.

        None where either is 0, because then a ratio has no meaning.
        """
        return reference / score if score > 0 and reference > 0 else None
