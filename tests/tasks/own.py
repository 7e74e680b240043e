"""A task that the package does not know: several labels for each sample."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cnet_aihw.runtime.errors import CnetError


class RightLabels:
    """Share of labels that are right."""

    def __init__(self) -> None:
        self.right, self.all = 0.0, 0

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        self.right += ((outputs > 0) == (targets > 0.5)).sum().item()
        self.all += targets.numel()

    def compute(self) -> float:
        return self.right / self.all


class MultiLabel:
    """Binary cross entropy of logits [N, k] against 0 or 1 in [N, k]."""

    name = "multi-label"
    metric = "right labels"
    higher_is_better = True
    loss_name = "binary_cross_entropy"

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight

    def check(self, outputs: Any, targets: Tensor) -> None:
        if outputs.shape[1:] != targets.shape[1:]:
            raise CnetError("not as many labels as outputs.", key="targets")

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(
            outputs, targets, pos_weight=torch.tensor(self.weight, device=outputs.device)
        )

    def new_metric(self) -> RightLabels:
        return RightLabels()

    def format(self, score: float) -> str:
        return f"{score:.3f}"

    def recovery(self, score: float, reference: float) -> float | None:
        return score / reference if reference > 0 else None
