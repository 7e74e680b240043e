"""One chip, fitted, measured, and its correctors saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnet_aihw.compensation.saving import save_chip_correctors
from cnet_aihw.evaluation import ChipCalibration, MeasuredChip, measured_chips
from cnet_aihw.evaluation.measurement import Score
from cnet_aihw.evaluation.settings import EvaluationSettings, times_of
from cnet_aihw.runtime.parts import Part
from cnet_aihw.runtime.torch_device import moved_to, resolve_device
from cnet_aihw.runtime.typed import checked
from cnet_aihw.tasks import Task


@checked
def save_one_chip(
    model: nn.Module,
    data: Any,
    chip: int,
    path: str | Path,
    settings: EvaluationSettings,
    *,
    task: Task,
    calibration: ChipCalibration | None,
    device: str | torch.device = "auto",
) -> MeasuredChip:
    """Program a chip of an evaluation, fit its correctors, save and measure them.

    Args:
        model: converted model without compensation.
        data: inputs and targets.
        chip: number of the chip in an evaluation with these settings.
        path: file of the correctors, as
            :func:`~cnet_aihw.compensation.save_chip_correctors` writes it.
        settings: of these the seed, the batch size and the first time.
        task: loss and score.
        calibration: what puts the correctors on and fits them, a
            :class:`~cnet_aihw.compensation.WithCompensation`.
        device: "auto", "cpu" or a CUDA device.
    """
    measurement = _SavingScore(task, path)
    with moved_to(model, resolve_device(device)):
        (found,) = measured_chips(
            model,
            data,
            measurement,
            [(chip, times_of(settings.t_inference)[0])],
            seed=settings.seed,
            batch_size=settings.batch_size,
            calibration=calibration,
        )
    return found


class _SavingScore(Score):
    """The score of a chip, whose correctors are saved before."""

    def __init__(self, task: Task, path: str | Path) -> None:
        super().__init__(task)
        self.path = path

    def __call__(self, model: nn.Module, part: Part, batch_size: int) -> dict[str, float]:
        """Save the correctors, then measure."""
        save_chip_correctors(model, self.path)
        return super().__call__(model, part, batch_size)
