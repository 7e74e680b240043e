"""Optimizers, and learning rates as a closed function of the step."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from cnet_aihw.rram import BinaryWeights
from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import check_count
from cnet_aihw.training.bayes_binary import BayesBinary
from cnet_aihw.training.settings import TrainingSettings

_ONECYCLE_RISE = 0.3  # share of the steps; the three numbers are the defaults of torch's OneCycleLR
_ONECYCLE_START = 1 / 25
_ONECYCLE_END = 1 / 25e4


@checked
def make_optimizer(
    settings: TrainingSettings,
    parameters: Iterable[nn.Parameter],
    binary: Sequence[BinaryWeights] = (),
    samples: int = 1,
) -> torch.optim.Optimizer:
    """Return the optimizer of the settings; its learning rate is set at each step.

    Args:
        settings: kind and numbers.
        parameters: what is trained.
        binary: binary weights among them, for "bayes_binary".
        samples: training samples, for "bayes_binary".
    """
    parameters = list(parameters)
    if not parameters:
        raise bad_value("parameters", [], "at least one")
    lr, decay = settings.lr, settings.weight_decay
    if settings.optimizer == "sgd":
        sgd = torch.optim.SGD(
            parameters, lr=lr, momentum=settings.momentum, weight_decay=decay, fused=True
        )
        if settings.momentum:
            sgd.register_step_pre_hook(_begin_momentum)
        return sgd
    if settings.optimizer == "bayes_binary":
        return BayesBinary(parameters, binary, samples, settings.bayes, lr)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimizer]
    return kind(parameters, lr=lr, weight_decay=decay, fused=True)


@checked
def learning_rate(settings: TrainingSettings, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of a step.

    It depends on nothing but its arguments, so that a resumed run has the same.

    Args:
        settings: schedule, largest learning rate, epochs and warm-up.
        step: number of the optimizer step in the whole run, from 0.
        steps_per_epoch: optimizer steps of one epoch.

    Returns:
        The learning rate, above 0.

    Raises:
        CnetError: for a step outside of the run.
    """
    check_count("steps_per_epoch", steps_per_epoch)
    check_count("step", step, 0)
    total = settings.epochs * steps_per_epoch
    if settings.schedule == "onecycle":
        return settings.lr * _onecycle(step, total)
    warmup = round(settings.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return settings.lr * (step + 1) / (warmup + 1)
    if settings.schedule == "constant":
        return settings.lr
    return settings.lr * _cosine(1.0, 0.0, (step - warmup) / (total - warmup))


def _begin_momentum(sgd: torch.optim.Optimizer, *_: Any) -> None:
    """Give a parameter with its first gradient a momentum of zero, from which torch's rule begins.

    The fused kernel takes all momenta or none, but a layer that is not called in each step, such as
    a skipped block or an expert that is given no sample, has its first gradient later than others.
    """
    for parameter in (p for group in sgd.param_groups for p in group["params"]):
        if parameter.grad is not None and "momentum_buffer" not in sgd.state[parameter]:
            sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def _onecycle(step: int, total: int) -> float:
    top = max(_ONECYCLE_RISE * total - 1, 1e-9)  # step (not whole) at which the rate is largest
    if step <= top:
        return _cosine(_ONECYCLE_START, 1.0, step / top)
    return _cosine(1.0, _ONECYCLE_END, (step - top) / (total - 1 - top))


def _cosine(start: float, end: float, position: float) -> float:
    """From start to end along half a cosine; position in [0, 1]."""
    return end + (start - end) * (1 + math.cos(math.pi * position)) / 2
