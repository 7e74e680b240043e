"""Measurements, which are made on each chip; the score of a task is one of them."""

from __future__ import annotations

import weakref
from typing import Any, Protocol

from torch import nn

from cnet_aihw.evaluation.metrics import pass_over
from cnet_aihw.runtime.parts import Part
from cnet_aihw.runtime.typed import checked
from cnet_aihw.tasks import Classification, Task, describe_task


class Measurement(Protocol):
    """Something done on a chip once it is programmed and calibrated; each result is a record."""

    name: str
    """Short name, such as "score"."""

    def __call__(self, model: nn.Module, part: Part, batch_size: int) -> dict[str, float]:
        """Measure a network as it stands.

        Args:
            model: the network, in evaluation mode.
            part: a part on the model's device.
            batch_size: samples a forward pass takes at once.

        Returns:
            Named numbers. "score" and "loss" are among them where :func:`evaluate_chips` is to make
            statistics of them. A number that is not finite marks the chip as failed.
        """

    def describe(self) -> dict[str, Any]:
        """Return all that tells the measurement apart, as plain values for provenance."""


class Score:
    """Loss and score of a task.

    Args:
        task: the task; None: classification.
    """

    name = "score"

    @checked
    def __init__(self, task: Task | None = None) -> None:
        self.task: Task = task or Classification()
        self._checked: Any = None  # the part whose targets were found to fit

    def __call__(self, model: nn.Module, part: Part, batch_size: int) -> dict[str, float]:
        """Measure; the first time that a part is measured, its targets are checked."""
        known = self._checked is not None and self._checked() is part
        loss, score = pass_over(model, part, batch_size, self.task, check=not known)
        self._checked = weakref.ref(part)
        return {"score": score, "loss": loss}

    def describe(self) -> dict[str, Any]:
        """Return the task's settings."""
        return describe_task(self.task)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what was checked, since a reference does not go to another process."""
        return {**self.__dict__, "_checked": None}
