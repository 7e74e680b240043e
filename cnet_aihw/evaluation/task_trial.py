"""The trial of a task on the first samples, before any work."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.origin import fault
from cnet_aihw.runtime.values import is_number
from cnet_aihw.tasks import Task


def try_task(task: Task, outputs: Any, targets: Tensor) -> None:
    """Check that a task's loss, score and texts are of the kinds that its interface says.

    Args:
        task: the task, which takes these outputs.
        outputs: outputs of a network for some samples.
        targets: their targets.

    Raises:
        CnetError: names the task's class, its method, and what it gives.
    """
    with torch.no_grad(), failing(task, "loss"):
        loss: Any = task.loss(outputs, targets)
    if not isinstance(loss, Tensor) or loss.dim() > 0:
        raise _wrong(task, "loss", loss, "a scalar tensor")
    score = _score(task, outputs, targets)
    with failing(task, "format"):
        text: Any = task.format(score)
    if not isinstance(text, str):
        raise _wrong(task, "format", text, "text")
    with failing(task, "recovery"):
        recovery: Any = task.recovery(1.0, 1.0)
    if recovery is not None and not is_number(recovery):
        raise _wrong(task, "recovery", recovery, "a number, or None")


@contextmanager
def failing(task: object, method: str) -> Iterator[None]:
    """Say in one sentence which method of a task fails inside the block.

    Raises:
        CnetError: for any other error.
    """
    try:
        yield
    except CnetError:
        raise
    except Exception as error:
        kind = type(task).__name__
        raise CnetError(
            f"{kind}.{method} fails on the outputs and targets of the first samples "
            f"({fault(error)}); mend it, the network or the data, or choose another task.",
            key="task",
            value=kind,
            fix="mend it, the network or the data, or choose another task",
        ) from error


def _score(task: Task, outputs: Any, targets: Tensor) -> float:
    with warnings.catch_warnings(), failing(task, "new_metric"):
        warnings.simplefilter("ignore")  # of scores that take more samples
        metric: Any = task.new_metric()
        for name in ("update", "compute"):
            if not callable(getattr(metric, name, None)):
                raise _wrong(task, "new_metric", metric, f"an object with a method {name}")
        if hasattr(metric, "to"):
            metric = metric.to(targets.device)
        metric.update(outputs, targets)
        if len(targets) < 2:
            return 0.5  # which some scores, such as R2, are not defined for
        score: Any = metric.compute()
    number = score.item() if isinstance(score, Tensor) and score.numel() == 1 else score
    try:
        return float(number)
    except (TypeError, ValueError, RuntimeError) as error:
        raise _wrong(task, "new_metric().compute", score, "a number") from error


def _wrong(task: Task, method: str, found: Any, expected: str) -> CnetError:
    kind = type(task).__name__
    shown = f"a tensor {tuple(found.shape)}" if isinstance(found, Tensor) else repr(found)
    fix = "cnet_aihw.testing.check_task shows all that a task promises"
    return CnetError(
        f"{kind}.{method} gives {shown}; expected {expected}; {fix}.",
        key="task",
        value=kind,
        expected=expected,
        fix=fix,
    )
