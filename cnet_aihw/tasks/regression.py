"""Regression of one or more numbers for each sample or each step of a sequence."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cnet_aihw.runtime.inputs import at_least_float32
from cnet_aihw.runtime.typed import checked
from cnet_aihw.tasks.checks import check_choice, check_outputs, check_targets


class Errors:
    """RMSE, mean absolute error or coefficient of determination over all numbers, in float64."""

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self._sums: Tensor | None = None
        self._count = 0
        self._first: Tensor | None = None

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Take in outputs and targets of one shape, [N, ...]."""
        errors = outputs.double() - targets.double()
        if self._first is None:  # sums around it lose no digits to a large mean
            self._first = targets.double().mean(0)
        around = targets.double() - self._first
        found = torch.stack(
            [
                errors.square().sum(0),
                errors.abs().sum(0),
                around.sum(0),
                around.square().sum(0),
            ]
        )
        self._sums = found if self._sums is None else self._sums + found
        self._count += len(targets)

    def compute(self) -> Tensor:
        """Return the score, that of errors in the units of the targets; NaN without a batch."""
        if self._sums is None:
            return torch.tensor(torch.nan, dtype=torch.float64)
        squares, absolute, sums, sums_of_squares = self._sums / self._count
        if self.metric == "RMSE":
            return squares.mean().sqrt()
        if self.metric == "MAE":
            return absolute.mean()
        return (1 - squares / (sums_of_squares - sums.square())).mean()


class Regression:
    """Mean squared error and a score of outputs against targets.

    Outputs and targets have one shape: [N], [N, k], or [N, T, k] for sequences; each number counts
    the same.

    Args:
        unit: unit of the targets, for tables, such as "kWh".
        metric: "RMSE" (root of the mean squared error), "MAE" (mean absolute error), both better
            where lower, or "R2" (coefficient of determination, the mean over a sample's numbers),
            better where higher.

    Raises:
        CnetError: for another metric.
    """

    name = "regression"
    loss_name = "mse"

    @checked
    def __init__(self, unit: str = "", metric: str = "RMSE") -> None:
        check_choice("metric", metric, ("RMSE", "MAE", "R2"))
        self.unit, self.metric = unit, metric
        self.higher_is_better = metric == "R2"

    @property
    def score_range(self) -> tuple[float, float]:
        """The lowest and the highest score."""
        return (-float("inf"), 1.0) if self.metric == "R2" else (0.0, float("inf"))

    def check(self, outputs: Any, targets: Tensor) -> None:
        """Check that targets are floating point numbers in the shape of the outputs.

        Raises:
            CnetError: if not.
        """
        numbers = check_outputs(outputs, (1, 2, 3), "numbers of shape (N,), (N, k) or (N, T, k)")
        kind = "floating point numbers"
        check_targets(targets, numbers.shape[1:], kind, targets.is_floating_point())

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean squared error of a batch."""
        outputs = at_least_float32(outputs)
        return F.mse_loss(outputs, targets.to(outputs.dtype))

    def constant_loss(self, targets: Tensor) -> float:
        """Return the least mean squared error of outputs that do not look at their input."""
        return float((targets.double() - targets.double().mean(0)).square().mean())

    def new_metric(self) -> Errors:
        """Return an empty accumulator of the score."""
        return Errors(self.metric)

    def format(self, score: float) -> str:
        """Write a score with four digits, an error with its unit."""
        return f"{score:.4g}" if self.metric == "R2" else f"{score:.4g} {self.unit}".rstrip()

    def recovery(self, score: float, reference: float) -> float | None:
        """Return reference error / error, or R2 / reference R2: 1 where nothing is lost.

        None where either error, or the reference R2, is not above 0: a ratio has no meaning then.
        """
        if self.metric == "R2":
            return score / reference if reference > 0 else None
        return reference / score if score > 0 and reference > 0 else None
