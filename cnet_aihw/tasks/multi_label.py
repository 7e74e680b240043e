"""Several labels at once: each class is there or not."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.inputs import at_least_float32
from cnet_aihw.runtime.typed import checked
from cnet_aihw.tasks.base import Metric
from cnet_aihw.tasks.checks import (
    BuiltAtFirstBatch,
    check_choice,
    check_outputs,
    check_targets,
)


class LabelMean:
    """Mean over labels of a score from torchmetrics; labels without any sample do not count.

    torchmetrics' own mean over labels counts such a label as 0.

    Args:
        metric: "mAP" or "F1".
    """

    def __init__(self, metric: str) -> None:
        self.metric = metric
        # torchmetrics takes logits of a batch that all lie in [0, 1] for probabilities
        self._scores = BuiltAtFirstBatch(self._build, lambda x, y: (x.double().sigmoid(), y.long()))
        self._samples: Tensor | None = None

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Take in logits and targets of one batch, [N, labels]."""
        self._scores.update(outputs, targets)
        found = (targets != 0).sum(0)
        self._samples = found if self._samples is None else self._samples + found

    def compute(self) -> Tensor:
        """Return the mean; NaN where no label has a sample."""
        if self._samples is None:
            return torch.tensor(torch.nan, dtype=torch.float64)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "No positive samples")  # they are left out
            scores = torch.as_tensor(self._scores.compute())
        counted = self._samples > 0
        return torch.where(counted, scores.double(), 0.0).sum() / counted.sum()

    def _build(self, outputs: Tensor) -> Metric:
        from torchmetrics import classification

        kinds = {
            "mAP": classification.MultilabelAveragePrecision,
            "F1": classification.MultilabelF1Score,
        }
        made: Metric = kinds[self.metric](outputs.shape[1], average=None, validate_args=False)
        return made


class MultiLabel:
    """Binary cross entropy of logits [N, labels] against targets of 0 and 1 in the same shape.

    Args:
        metric: "mAP" (mean over labels of the average precision, which keeps all outputs) or "F1"
            (mean over labels, at a probability of 0.5); labels without any sample do not count.

    Raises:
        CnetError: for another metric.
    """

    name = "multi-label classification"
    higher_is_better = True
    loss_name = "binary_cross_entropy"
    score_range = (0.0, 1.0)

    @checked
    def __init__(self, metric: str = "mAP") -> None:
        check_choice("metric", metric, ("mAP", "F1"))
        self.metric = metric

    def check(self, outputs: Any, targets: Tensor) -> None:
        """Check that targets are 0 and 1 in the shape of the outputs.

        Raises:
            CnetError: if not.
        """
        logits = check_outputs(outputs, (2,), "logits of shape (N, labels)")
        check_targets(targets, logits.shape[1:], "0 and 1", True)
        if not ((targets == 0) | (targets == 1)).all():
            found = (float(targets.min()), float(targets.max()))
            raise CnetError(
                f"the targets go from {found[0]:g} to {found[1]:g}; expected 0 or 1 for each label "
                "of each sample.",
                key="targets",
                value=found,
                expected="0 or 1",
            )

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean binary cross entropy over all labels of a batch."""
        logits = at_least_float32(outputs)
        return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype))

    def drawn_loss(self, outputs: Tensor) -> Tensor:
        """Return the summed cross entropy against labels drawn from their own probabilities."""
        logits = at_least_float32(outputs)
        labels = torch.bernoulli(logits.detach().sigmoid())
        return F.binary_cross_entropy_with_logits(logits, labels, reduction="sum")

    def constant_loss(self, targets: Tensor) -> float:
        """Return the mean entropy of the labels, the least loss that does not look at inputs."""
        share = targets.double().mean(0)
        return float(-(torch.xlogy(share, share) + torch.xlogy(1 - share, 1 - share)).mean())

    def new_metric(self) -> LabelMean:
        """Return an empty accumulator of the score."""
        return LabelMean(self.metric)

    def format(self, score: float) -> str:
        """Write a score in percent."""
        return f"{100 * score:.2f} %"

    def recovery(self, score: float, reference: float) -> float | None:
        """Return score / reference score."""
        return score / reference if reference > 0 else None
