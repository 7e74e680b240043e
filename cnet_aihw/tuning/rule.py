"""The rule of a run that gives gradients, and its angle to the exact one."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from cnet_aihw.runtime.inputs import Inputs, call, main_output
from cnet_aihw.runtime.parts import Part
from cnet_aihw.runtime.random_state import derive_seed, forked_random_state
from cnet_aihw.runtime.torch_device import device_of
from cnet_aihw.tasks import Task
from cnet_aihw.tasks.base import counted, mean_of_counted
from cnet_aihw.tuning.gradients import (
    angle_between,
    by_feedback,
    feedback_matrices,
    perturbation_gradient,
    random_signs,
    through_network,
)
from cnet_aihw.tuning.on_chip import NetworkOnChip
from cnet_aihw.tuning.settings import TuningSettings

_FEEDBACK_SAMPLES = 64
"""Inputs over which Jacobians are averaged."""


class GradientRule:
    """Gradients of a run's loss by its rule.

    Args:
        network: the network, before tuning; nothing of it is on the chip yet.
        settings: of these the rule, the target and what belongs to them.
        task: the loss.
        train: the samples that the network is tuned on.
    """

    def __init__(
        self, network: NetworkOnChip, settings: TuningSettings, task: Task, train: Part
    ) -> None:
        self.network, self.settings, self.task = network, settings, task
        clean = settings.target == "clean"
        self.clean = deepcopy(network.model).requires_grad_(False) if clean else None
        self.matrices: dict[str, Tensor] = {}
        if settings.backward in ("feedback", "random_target"):
            some = train.first(_FEEDBACK_SAMPLES).batches(_FEEDBACK_SAMPLES)
            inputs = next(iter(some))[0]
            with network.computing():
                self.matrices = feedback_matrices(network, inputs, settings.feedback, settings.seed)

    def add_gradients(
        self, inputs: Inputs, targets: Tensor, tuned: list[nn.Parameter], step: int
    ) -> Tensor:
        """Add gradients of a batch to the parameters that are tuned; return the loss.

        Args:
            inputs: inputs of the batch.
            targets: its targets, [N, ...].
            tuned: the parameters.
            step: number of the step in the run.
        """
        settings, network = self.settings, self.network
        if settings.backward == "perturbation":
            signs = random_signs(tuned, derive_seed(settings.seed, "perturbation", step))
            return perturbation_gradient(
                lambda: self.loss(network.outputs(inputs), targets, inputs),
                *(tuned, signs, settings.perturbation),
            )
        if settings.backward in ("feedback", "random_target"):
            projected = settings.backward == "random_target"
            return by_feedback(network, inputs, targets, self.loss, self.matrices, projected)
        exact = settings.backward == "exact"
        return through_network(network, inputs, targets, self.loss, exact)

    def loss(self, outputs: Any, targets: Tensor, inputs: Inputs) -> Tensor:
        """Return the mean loss: of the task, or the distance from the clean network's outputs."""
        if self.clean is None:
            return mean_of_counted(self.task.loss(outputs, targets), counted(self.task, targets))
        with torch.no_grad():
            wanted = main_output(call(self.clean, inputs))
        outputs = main_output(outputs)
        divergence = getattr(self.task, "divergence", None)
        if divergence is None:
            return (outputs - wanted).square().mean()
        found: Tensor = divergence(outputs, wanted, 1.0)
        return found * (found.detach() != 0.0)  # rounding is not a direction, which Adam would take

    def angle(
        self, inputs: Inputs, targets: Tensor, tuned: list[nn.Parameter], step: int
    ) -> float | None:
        """Return the angle in degrees between the rule's gradient of a batch and the exact one."""
        found = []
        for exact in (False, True):
            for parameter in tuned:
                parameter.grad = None
            with forked_random_state(device_of(self.network.model)):  # both draw the same variation
                if exact:
                    through_network(self.network, inputs, targets, self.loss, True)
                else:
                    self.add_gradients(inputs, targets, tuned, step)
            found.append([None if p.grad is None else p.grad.clone() for p in tuned])
        return angle_between(*found)
