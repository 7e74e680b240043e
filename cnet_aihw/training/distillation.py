"""Distillation: a loss that also aims at the outputs of a teacher, such as the clean network."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnet_aihw.rram import clear_chip, convert_to_digital, snapshot
from cnet_aihw.runtime.fingerprint import tensors_fingerprint
from cnet_aihw.runtime.inputs import call
from cnet_aihw.runtime.torch_device import device_of
from cnet_aihw.runtime.typed import checked
from cnet_aihw.tasks import Task, smoothed
from cnet_aihw.tasks.base import counted, mean_of_counted
from cnet_aihw.training.settings import check_distillation


class Distillation:
    """An objective of :func:`~cnet_aihw.training.train`: the task's loss and the teacher's outputs.

    The loss is ``(1 - share) * loss + share * divergence``. The divergence is the task's own, if it
    has one, as classification does; otherwise the mean squared difference of the outputs.

    Args:
        teacher: a network of the same inputs and outputs; a copy without variation, in evaluation
            mode, is kept.
        share: weight of the divergence, in (0, 1].
        temperature: of the outputs that are compared, above 0; classification alone has one.
        task: the task; None: classification.
        label_smoothing: of the task's loss, where it is classification.

    Raises:
        CnetError: names the value that cannot be.

    Source: Hinton et al., *Distilling the knowledge in a neural network* (2015); for RRAM, with a
    student under variation: Charan et al., IEEE JXCDC 6 (2020) 27.
    """

    @checked
    def __init__(
        self,
        teacher: nn.Module,
        share: float = 0.5,
        temperature: float = 2.0,
        task: Task | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        check_distillation(share, temperature, "")
        # public, as they say which loss it is
        self.share, self.temperature = share, temperature
        self.teacher = tensors_fingerprint(snapshot(teacher))
        self._task = smoothed(task, label_smoothing)
        clean = deepcopy(teacher)
        clear_chip(clean)
        self._network = convert_to_digital(clean, inplace=True).eval().requires_grad_(False)

    def __call__(self, outputs: Any, targets: Tensor, inputs: Any) -> Tensor:
        """Return the loss of a batch."""
        if device_of(self._network) != targets.device:
            self._network.to(targets.device)
        with torch.no_grad():
            wanted = call(self._network, inputs)
        divergence = getattr(self._task, "divergence", None)
        apart = (
            F.mse_loss(outputs, wanted)
            if divergence is None
            else divergence(outputs, wanted, self.temperature)
        )
        loss = mean_of_counted(self._task.loss(outputs, targets), counted(self._task, targets))
        return (1 - self.share) * loss + self.share * apart
