"""The gradient of one optimizer step, on one chip or with the batch divided among several."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.inputs import Inputs, at_least_float32, call, map_tensors, select
from cnet_aihw.tasks.base import mean_of_counted
from cnet_aihw.training.lipschitz import LipschitzPenalty
from cnet_aihw.training.settings import TrainingSettings
from cnet_aihw.training.variation import hold_chip


def enter_training_mode(model: nn.Module, settings: TrainingSettings) -> None:
    """Put a network into training mode; its BatchNorms stay in evaluation mode where frozen."""
    model.train()
    if settings.freeze_batchnorm:
        for norm in (m for m in model.modules() if isinstance(m, _BatchNorm)):
            norm.eval()


@contextmanager
def training_mode(model: nn.Module, settings: TrainingSettings) -> Iterator[None]:
    """Keep a network in training mode inside the block; each module's own mode afterwards."""
    before = [(module, module.training) for module in model.modules()]
    enter_training_mode(model, settings)
    try:
        yield
    finally:
        for module, mode in before:
            module.training = mode


def backward(
    model: nn.Module,
    inputs: Inputs,
    targets: Tensor,
    settings: TrainingSettings,
    number: int,
    loss_of: Callable[[Any, Tensor, Inputs], Tensor],
    see: Callable[[Any, Tensor], None],
    penalty: LipschitzPenalty | None = None,
    counted: Callable[[Tensor], Tensor | int] = len,
) -> tuple[Tensor, Tensor | None]:
    """Add the gradient of a batch's mean loss, and of the penalty, to the parameters' gradients.

    Args:
        model: the network, in training mode.
        inputs: inputs of the batch.
        targets: its targets, [N, ...].
        settings: of these the variation, autocast and the weight of the penalty.
        number: number of the step in the run, from 0, to which its chips belong.
        loss_of: mean loss of (outputs, targets, inputs).
        see: called with outputs, detached, and targets of each part of the batch.
        penalty: the Lipschitz penalty, if any.
        counted: of how many of some targets the loss is the mean; a loss of none counts as 0.

    Raises:
        CnetError: for a loss without a gradient.

    Returns:
        Mean loss of the batch, and the penalty as often as it counts: on average over steps it is
        the penalty.
    """
    variation = settings.variation
    held = variation.steps_per_chip if variation.enabled else 0
    divided = variation.chips_per_step if variation.enabled else 1
    parts = max(1, min(divided, len(targets) // 2))  # BatchNorm has no use for a single sample
    size, longer = divmod(len(targets), parts)  # the first ones take one sample more
    bounds = [part * size + min(part, longer) for part in range(parts + 1)]
    device = targets.device.type
    total = torch.zeros((), device=targets.device)
    for chip, (start, end) in enumerate(pairwise(bounds)):
        some, wanted = inputs, targets
        if parts > 1:
            some, wanted = select(inputs, slice(start, end)), targets[start:end]
        if held and number % held == 0:
            hold_chip(model, settings, number * divided + chip)
        with torch.autocast(device, torch.bfloat16, enabled=settings.bf16):
            outputs = call(model, some)
        outputs = map_tensors(outputs, _at_least_float32)
        loss = loss_of(outputs, wanted, some)
        if parts > 1:
            loss = loss * share_of(wanted, targets, counted)
        loss = mean_of_counted(loss, counted(wanted))
        if not loss.requires_grad:
            raise _no_gradient()
        loss.backward()
        total = loss.detach() if parts == 1 else total + loss.detach()
        see(map_tensors(outputs, Tensor.detach), wanted)
    if penalty is None:
        return total, None
    every, beta = settings.lipschitz.every, settings.lipschitz.beta
    if number % every:
        return total, torch.zeros_like(total)
    return total, every * penalty.backward(every * beta)


def _no_gradient() -> CnetError:
    fix = "let both compute without detach(), no_grad() and whole numbers"
    return CnetError(
        "the loss has no gradient, so that there is nothing to train: the network or the task cuts "
        f"it off; {fix}.",
        key="loss",
        expected="a loss with a gradient",
        fix=fix,
    )


def share_of(
    part: Tensor, whole: Tensor, counted: Callable[[Tensor], Tensor | int]
) -> Tensor | float:
    """Return the weight of a part's mean loss in that of a whole batch, in [0, 1].

    Args:
        part: targets of the part.
        whole: targets of the batch.
        counted: of how many of some targets the loss is the mean.
    """
    some, all_ = counted(part), counted(whole)
    return some / (all_.clamp(min=1) if isinstance(all_, Tensor) else all_)


def _at_least_float32(tensor: Tensor) -> Tensor:
    """Return outputs of autocast in float32, in which losses are taken."""
    return at_least_float32(tensor) if tensor.is_floating_point() else tensor
