"""The contract of tasks."""

from __future__ import annotations

import json
import math
from typing import Any

import torch
from torch import Tensor

from cnet_aihw.tasks import Task, describe_task
from cnet_aihw.testing.promises import promise


def check_task(task: Task, outputs: Any, targets: Tensor, perfect: Any) -> None:
    """Check that a task's loss, score and texts agree with each other.

    Args:
        task: the task.
        outputs: outputs of a network for a batch, [N, ...], imperfect ones, float.
        targets: targets of the batch, [N, ...].
        perfect: outputs that have the best score for these targets.

    Raises:
        AssertionError: names the promise that is not kept.
    """
    described = describe_task(task)
    promise(json.loads(json.dumps(described)) == described, task, "settings are plain values")
    for name in ("name", "metric", "loss_name"):
        promise(bool(getattr(task, name)), task, f"{name} is a short text")
    task.check(outputs, targets)
    leaf = outputs.detach().clone().requires_grad_()
    loss = task.loss(leaf, targets)
    promise(loss.ndim == 0 and bool(torch.isfinite(loss)), task, "loss() is a finite scalar")
    loss.backward()
    promise(leaf.grad is not None and bool(leaf.grad.abs().sum() > 0), task, "loss() has gradients")
    whole, parts = _score(task, [outputs], [targets]), None
    half = len(targets) // 2
    parts = _score(task, [outputs[:half], outputs[half:]], [targets[:half], targets[half:]])
    promise(math.isclose(whole, parts, rel_tol=1e-4, abs_tol=1e-6), task, "batches add up")
    best = _score(task, [perfect], [targets])
    better = best > whole if task.higher_is_better else best < whole
    promise(better, task, f"perfect outputs score better ({best:g} and {whole:g})")
    low, high = getattr(task, "score_range", (-math.inf, math.inf))
    promise(low <= whole <= high and low <= best <= high, task, "scores are in score_range")
    promise(task.format(whole) != "", task, "format() writes a score")
    kept = task.recovery(best, best)
    promise(kept is None or math.isclose(kept, 1.0), task, "recovery() of all is 1")


def _score(task: Task, outputs: list[Any], targets: list[Tensor]) -> float:
    metric = task.new_metric()
    for out, target in zip(outputs, targets, strict=True):
        metric.update(out.detach(), target)
    return float(metric.compute())
