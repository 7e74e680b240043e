"""The interface of a task: what is minimised, what is good, and how it is written."""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.fingerprint import exact_text, holds_table, without_addresses
from cnet_aihw.runtime.inputs import at_least_float32
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import is_number


class Metric(Protocol):
    """Accumulates a score over batches; every metric of torchmetrics is one.

    A metric with a method ``to`` is moved to the outputs' device before the first batch.
    """

    def update(self, outputs: Any, targets: Tensor) -> None:
        """Take in one batch."""

    def compute(self) -> Tensor | float:
        """Return the score of all batches so far, a scalar."""


class Task(Protocol):
    """Purpose that a network is trained and judged for.

    A task is the only place that knows what outputs and targets mean. Its settings are plain public
    attributes of the instance, by which :func:`describe_task` tells tasks apart. A task may also
    have ``score_range``, the lowest and the highest score that there can be,
    ``constant_loss(targets)``, the least loss of outputs that do not look at their input,
    ``counted(targets)``, of how many targets its loss is the mean, as a scalar tensor, where that
    is not as many for each sample, ``divergence(outputs, wanted, temperature)``, how far outputs
    are from wanted ones, in place of the mean square, and ``drawn_loss(outputs)``, the summed loss
    against targets drawn from what the outputs say of them, in place of the normal distribution.
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
        """Check that a network's outputs and targets fit this task.

        Args:
            outputs: what the network gives for one batch, or for the first samples of a part.
            targets: the targets of these samples, or of all samples of the part.

        Raises:
            CnetError: if not; says what was expected.
        """

    def loss(self, outputs: Any, targets: Tensor) -> Tensor:
        """Return the mean loss of a batch, a scalar; differentiable."""

    def new_metric(self) -> Metric:
        """Return an accumulator of the score, with nothing in it."""

    def format(self, score: float) -> str:
        """Write a score for people, such as "93.4 %"."""

    def recovery(self, score: float, reference: float) -> float | None:
        """Return how much of a reference score is kept, 1 for all; None without a meaning."""


def loss_of_drawn_classes(logits: Tensor) -> Tensor:
    """Return the summed cross entropy against classes that are drawn from the logits themselves.

    Args:
        logits: [..., classes].
    """
    rows = at_least_float32(logits).flatten(0, -2)
    with torch.no_grad():
        classes = torch.multinomial(rows.softmax(1), 1).flatten()
    return functional.cross_entropy(rows, classes, reduction="sum")


@checked
def describe_task(task: Task) -> dict[str, Any]:
    """Return all that tells a task apart, as plain values for provenance."""
    settings = {n: _plain(v) for n, v in sorted(vars(task).items()) if n[0] != "_"}
    kind = type(task)
    return {"task": f"{kind.__module__}.{kind.__qualname__}", **settings}


def counted(task: Task, targets: Tensor) -> Tensor | int:
    """Return of how many targets a task's loss is the mean: the weight of a batch among others.

    Args:
        task: the task.
        targets: the targets of a batch, [N, ...].

    Returns:
        The samples, or what the task's own ``counted`` says.
    """
    own = getattr(task, "counted", None)
    return len(targets) if own is None else own(targets)


def check_counted(task: Task, count: Tensor | int, samples: int) -> None:
    """Refuse data of whose targets none counts.

    Args:
        task: the task.
        count: of how many targets, as `counted` gives it.
        samples: of the data.

    Raises:
        CnetError: if it is 0.
    """
    if not count:
        raise CnetError(
            f"none of the targets of the {samples} samples counts for {task.name}, as all have the "
            "number that it ignores; check the targets.",
            key="data",
            value=samples,
            expected="at least one target that is not ignored",
            fix="check the targets",
        )


def mean_of_counted(loss: Tensor, count: Tensor | int) -> Tensor:
    """Return a mean loss; 0 where no target counts, as a mean over nothing is not a number.

    Args:
        loss: the mean, a scalar.
        count: of how many targets, as `counted` gives it.
    """
    return torch.where(count > 0, loss, 0.0) if isinstance(count, Tensor) else loss


@checked
def is_better(task: Task, score: float, other: float) -> bool:
    """Say whether a score is better than another one."""
    return score > other if task.higher_is_better else score < other


@checked
def reaches(task: Task, score: float, threshold: float) -> bool:
    """Say whether a score is at least as good as a threshold."""
    return score >= threshold if task.higher_is_better else score <= threshold


@checked
def check_score(task: Task, key: str, value: object) -> None:
    """Check that a value can be a score of a task.

    Args:
        task: the task.
        key: name of the setting that has the value.
        value: the value.

    Raises:
        CnetError: if it is not a number, or outside the task's ``score_range``.
    """
    low, high = getattr(task, "score_range", (-math.inf, math.inf))
    if not (is_number(value) and low <= value <= high):
        bounds = f" in [{low:g}, {high:g}]" if math.isfinite(low) else ""
        raise bad_value(key, value, f"a score ({task.metric}){bounds}", "or leave it out")


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    value = without_addresses(value)
    return exact_text(value) if holds_table(value) else str(value)
