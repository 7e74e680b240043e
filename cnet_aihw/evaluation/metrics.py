"""One pass over a part: loss and score of a network as it stands."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from cnet_aihw.runtime.device_parts import placed
from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.inputs import call
from cnet_aihw.runtime.parts import Part, as_part
from cnet_aihw.runtime.torch_device import device_of
from cnet_aihw.runtime.typed import checked
from cnet_aihw.tasks import Classification, Metric, Task
from cnet_aihw.tasks.base import check_counted, counted, mean_of_counted


@checked
def measure(
    model: nn.Module, data: Any, batch_size: int = 250, task: Task | None = None
) -> tuple[float, float]:
    """Measure loss and score of a network as its weights are now.

    It runs in evaluation mode; the model's own mode is put back afterwards. BatchNorm statistics
    stay as they are.

    Args:
        model: the network.
        data: inputs and targets, as :func:`~cnet_aihw.runtime.parts.as_part` takes them; moved to
            the model's device.
        batch_size: samples a forward pass takes at once.
        task: loss and score; None: classification.

    Returns:
        Mean loss and score.

    Raises:
        CnetError: for empty data, targets that do not fit the outputs or of which none counts, or
            a batch size below 1.
    """
    part = placed(as_part(data), device_of(model))
    with evaluation_mode(model):
        return pass_over(model, part, batch_size, task or Classification(), check=True)


@checked
def score(model: nn.Module, data: Any, batch_size: int = 250, task: Task | None = None) -> float:
    """Measure the score of a network, as :func:`measure` does."""
    return measure(model, data, batch_size, task)[1]


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Keep every module in evaluation mode inside the block; each one's own mode afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@torch.inference_mode()
def pass_over(
    model: nn.Module, part: Part, batch_size: int, task: Task, *, check: bool = False
) -> tuple[float, float]:
    """Return loss and score over a part on the model's device; it is waited for once, at the end.

    The loss is the mean over all targets that count, however they are divided into batches.

    Args:
        model: the network, in the mode that it is to be measured in.
        part: a part on the model's device.
        batch_size: samples a forward pass takes at once.
        task: loss and score.
        check: whether to check that outputs and targets fit the task, which waits at each batch.

    Raises:
        CnetError: for data without samples, or without targets that count.
    """
    if batch_size < 1:
        raise bad_value("batch_size", batch_size, "a whole number of at least 1")
    total, number = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.int64)
    metric: Metric | None = None
    for inputs, targets in part.batches(batch_size):
        outputs = call(model, inputs)
        if check:
            task.check(outputs, targets)
        if metric is None:
            metric = new_metric(task, targets.device)
            total, number = total.to(targets.device), number.to(targets.device)
        some = counted(task, targets)
        total += mean_of_counted(task.loss(outputs, targets).double(), some) * some
        number += some
        metric.update(outputs, targets)
    if metric is None:
        raise bad_value("data", "empty", "at least one sample")
    loss = float(total / number)
    if math.isnan(loss):
        check_counted(task, number, len(part))
    return loss, float(metric.compute())


def new_metric(task: Task, device: torch.device) -> Metric:
    """Return an empty accumulator of a task's score, on a device where it has one."""
    metric = task.new_metric()
    return metric.to(device) if hasattr(metric, "to") else metric
