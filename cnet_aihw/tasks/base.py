"""The interface of a task: what is lost, what is good, and how it is written."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor


class Metric(Protocol):
    """Accumulates a score over batches; every metric of torchmetrics is one."""

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Take in one batch."""

    def compute(self) -> Tensor | float:
        """Return the score of all batches so far, a scalar."""


class Task(Protocol):
    """What a network is trained and judged for.

    A task is the only place that knows what outputs and targets mean. Its settings are plain public
    attributes, so that :func:`describe_task` tells tasks apart.
    """

    name: str
    """Short name, such as "classification"."""

    metric: str
    """Name of the score, such as "accuracy" or "RMSE", as tables show it."""

    higher_is_better: bool
    """Direction of the score."""

    loss_name: str
    """Name of the loss in records, such as "cross_entropy"."""

    def check(self, outputs: Any, targets: Tensor) -> None:
        """Check that a network's outputs and the targets of a part fit this task.

        Raises:
            CnetError: if not; says what was expected.
        """

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of a batch, a scalar; differentiable."""

    def new_metric(self) -> Metric:
        """Return an accumulator of the score, with nothing in it."""

    def format(self, score: float) -> str:
        """Write a score for people, such as "93.4 %"."""

    def recovery(self, score: float, reference: float) -> float | None:
        """Return how much of a reference score is kept, 1 for all; None without a meaning."""


def describe_task(task: Task) -> dict[str, Any]:
    """Return all that tells a task apart, as plain values for provenance."""
    settings = {n: v for n, v in sorted(vars(task).items()) if n[0] != "_"}
    kind = type(task)
    return {"task": f"{kind.__module__}.{kind.__qualname__}", **settings}
