"""Segmentation: a class for each pixel, judged by overlap."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cnet_aihw.runtime.inputs import at_least_float32
from cnet_aihw.runtime.typed import checked
from cnet_aihw.tasks.base import Metric, loss_of_drawn_classes
from cnet_aihw.tasks.checks import (
    BuiltAtFirstBatch,
    check_choice,
    check_numbers,
    check_outputs,
    check_targets,
)


class Segmentation:
    """Cross entropy of logits [N, classes, H, W] against class numbers [N, H, W] (int64).

    Args:
        metric: "mIoU" (mean over classes of intersection over union) or "Dice" (of Dice's
            coefficient); a class that is neither in targets nor in predictions does not count.
        ignored: number of pixels that do not count.

    Raises:
        CnetError: for another metric.
    """

    name = "segmentation"
    higher_is_better = True
    loss_name = "cross_entropy"
    score_range = (0.0, 1.0)

    @checked
    def __init__(self, metric: str = "mIoU", ignored: int = 255) -> None:
        check_choice("metric", metric, ("mIoU", "Dice"))
        self.metric, self.ignored = metric, ignored

    def check(self, outputs: Any, targets: Tensor) -> None:
        """Check that outputs are logits for each pixel and targets are class numbers.

        Raises:
            CnetError: if not.
        """
        logits = check_outputs(outputs, (4,), "logits of shape (N, classes, H, W)")
        check_targets(targets, logits.shape[2:], "int64", targets.dtype == torch.int64)
        check_numbers(targets, logits.shape[1], self.ignored)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross entropy (natural logarithm) over the pixels of a batch."""
        return F.cross_entropy(at_least_float32(outputs), targets, ignore_index=self.ignored)

    def counted(self, targets: Tensor) -> Tensor:
        """Return how many targets are not ignored, a scalar."""
        return (targets != self.ignored).sum()

    def divergence(self, outputs: Tensor, wanted: Tensor, temperature: float) -> Tensor:
        """Return the mean Kullback-Leibler divergence of a pixel from wanted logits."""
        given, aim = (F.log_softmax(logits / temperature, 1) for logits in (outputs, wanted))
        pixels = given.numel() / given.shape[1]
        return temperature**2 * F.kl_div(given, aim, reduction="sum", log_target=True) / pixels

    def drawn_loss(self, outputs: Tensor) -> Tensor:
        """Return the summed cross entropy against classes drawn by the outputs' probabilities."""
        return loss_of_drawn_classes(outputs.movedim(1, -1))

    def constant_loss(self, targets: Tensor) -> float:
        """Return the entropy of the classes, the least loss that does not look at the image."""
        share = torch.bincount(targets[targets != self.ignored]).double()
        share = share / share.sum()
        return float(-torch.xlogy(share, share).sum())

    def new_metric(self) -> Metric:
        """Return an empty accumulator of the overlap, one of torchmetrics."""

        def built(outputs: Tensor) -> Metric:
            from torchmetrics import classification

            kinds = {
                "mIoU": classification.MulticlassJaccardIndex,
                "Dice": classification.MulticlassF1Score,
            }
            made: Metric = kinds[self.metric](
                outputs.shape[1], average="macro", ignore_index=self.ignored, validate_args=False
            )
            return made

        return BuiltAtFirstBatch(built)

    def format(self, score: float) -> str:
        """Write an overlap in percent."""
        return f"{100 * score:.2f} %"

    def recovery(self, score: float, reference: float) -> float | None:
        """Return overlap / reference overlap."""
        return score / reference if reference > 0 else None
