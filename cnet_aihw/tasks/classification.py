"""Classification into exclusive classes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.inputs import at_least_float32
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import is_number
from cnet_aihw.tasks.base import Task, loss_of_drawn_classes
from cnet_aihw.tasks.checks import check_numbers, check_outputs, check_targets


class CorrectShare:
    """Share of correct predictions."""

    def __init__(self) -> None:
        self._correct: Tensor | None = None
        self._samples = 0

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Take in logits [N, classes] and labels [N]."""
        correct = (outputs.argmax(dim=1) == targets).sum()
        self._correct = correct if self._correct is None else self._correct + correct
        self._samples += len(targets)

    def compute(self) -> Tensor:
        """Return the share, in [0, 1]; NaN before the first batch."""
        if self._correct is None:
            return torch.tensor(torch.nan, dtype=torch.float64)
        return self._correct.double() / self._samples


class Classification:
    """Cross entropy and accuracy of logits [N, classes] against labels [N] (int64).

    Args:
        label_smoothing: share of a label's weight spread over all classes in the loss, in [0, 1).
    """

    name = "classification"
    metric = "accuracy"
    higher_is_better = True
    loss_name = "cross_entropy"
    score_range = (0.0, 1.0)

    def __init__(self, label_smoothing: float = 0.0) -> None:
        if not (is_number(label_smoothing) and 0.0 <= label_smoothing < 1.0):
            raise bad_value("label_smoothing", label_smoothing, "a number in [0, 1)")
        self.label_smoothing = label_smoothing

    def check(self, outputs: Any, targets: Tensor) -> None:
        """Check that outputs are logits and labels are among their classes.

        Raises:
            CnetError: if not.
        """
        logits = check_outputs(outputs, (2,), "logits of shape (N, classes)")
        check_targets(
            targets, (), "one class number per sample, int64", targets.dtype == torch.int64
        )
        check_numbers(targets, logits.shape[1])

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross entropy (natural logarithm) of a batch."""
        return F.cross_entropy(
            at_least_float32(outputs), targets, label_smoothing=self.label_smoothing
        )

    def divergence(self, outputs: Tensor, wanted: Tensor, temperature: float) -> Tensor:
        """Return the Kullback-Leibler divergence from wanted logits, times temperature squared.

        Source: Hinton et al., *Distilling the knowledge in a neural network* (2015).
        """
        given, aim = (F.log_softmax(logits / temperature, 1) for logits in (outputs, wanted))
        return temperature**2 * F.kl_div(given, aim, reduction="batchmean", log_target=True)

    def drawn_loss(self, outputs: Tensor) -> Tensor:
        """Return the summed cross entropy against classes drawn by the outputs' probabilities."""
        return loss_of_drawn_classes(outputs)

    def constant_loss(self, targets: Tensor) -> float:
        """Return the least cross entropy of a prediction that does not look at its input.

        It is ln(classes) where all classes are equally frequent.
        """
        share = torch.bincount(targets.flatten()).double() / targets.numel()
        share = share * (1.0 - self.label_smoothing) + self.label_smoothing / len(share)
        return float(-torch.xlogy(share, share).sum())

    def new_metric(self) -> CorrectShare:
        """Return an empty accumulator of the accuracy."""
        return CorrectShare()

    def format(self, score: float) -> str:
        """Write an accuracy in percent."""
        return f"{100 * score:.2f} %"

    def recovery(self, score: float, reference: float) -> float | None:
        """Return accuracy / reference accuracy."""
        return score / reference if reference > 0 else None


@checked
def smoothed(task: Task | None, label_smoothing: float) -> Task:
    """Return the task of a training: the given one, or classification, with label smoothing.

    Raises:
        CnetError: for label smoothing of a task that has none, or that has its own already.
    """
    if not label_smoothing:
        return task or Classification()
    if task is None or (type(task) is Classification and not task.label_smoothing):
        return Classification(label_smoothing)
    expected = f"0 for the task {task.name}"
    raise bad_value("training.label_smoothing", label_smoothing, expected)
