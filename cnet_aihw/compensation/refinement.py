"""Refinement of correctors on one chip, towards wanted outputs of the network, without labels."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from cnet_aihw.compensation.settings import PerChipSettings
from cnet_aihw.runtime.inputs import Inputs, call, samples_in, select
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.tasks import Task


def refine(
    model: nn.Module,
    x: Inputs,
    wanted: Tensor,
    settings: PerChipSettings,
    task: Task,
    parameters: list[nn.Parameter],
) -> float:
    """Move weights of correctors towards wanted outputs, by steps of Adam on the programmed chip.

    Args:
        model: a compensated model in evaluation mode, programmed.
        x: unlabelled inputs, on the model's device.
        wanted: the network's wanted outputs on them, [N, ...].
        settings: steps, learning rate, batch and seed.
        task: says how far outputs are from wanted ones, where it has a divergence; otherwise the
            mean squared difference counts.
        parameters: the weights.

    Returns:
        Forward passes over all inputs that it took.
    """
    before = [(parameter.requires_grad, parameter.grad) for parameter in parameters]
    distance = getattr(task, "divergence", None) or _square_distance
    generator = torch.Generator().manual_seed(derive_seed(settings.seed, "refine"))
    optimizer = torch.optim.Adam(parameters, lr=settings.refine_lr)
    order = torch.empty(0, dtype=torch.long)
    steps, size = settings.refine_steps, min(settings.refine_batch, samples_in(x))
    try:
        for parameter in parameters:
            parameter.requires_grad_(True)
        for step in range(steps):
            if len(order) < size:
                order = torch.cat([order, torch.randperm(len(wanted), generator=generator)])
            chosen, order = order[:size].to(wanted.device), order[size:]
            lr = settings.refine_lr * (1 + math.cos(math.pi * step / steps)) / 2
            optimizer.param_groups[0]["lr"] = lr
            with torch.enable_grad():
                loss = distance(call(model, select(x, chosen)), wanted[chosen], 1.0)
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            optimizer.step()
    finally:
        for parameter, (required, earlier) in zip(parameters, before, strict=True):
            parameter.grad = earlier
            parameter.requires_grad_(required)
    return steps * size / samples_in(x)


def _square_distance(outputs: Tensor, wanted: Tensor, temperature: float) -> Tensor:
    """Return the mean squared difference; there is a temperature for classes alone."""
    return (outputs - wanted).square().mean()
