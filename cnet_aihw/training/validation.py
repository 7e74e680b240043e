"""Validation after each epoch: clean, on chips, and the comparison of epochs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from cnet_aihw.evaluation import AllChipsFailed, Score, evaluate_chips
from cnet_aihw.evaluation.calibration import ChipCalibration
from cnet_aihw.evaluation.chip_run import measure_clean, measuring
from cnet_aihw.runtime.parts import Part
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.tasks import Task
from cnet_aihw.tasks import is_better as is_better_score
from cnet_aihw.training.settings import TrainingSettings
from cnet_aihw.training.variation import injected_time

_BATCH = 250  # samples a forward pass takes at once


@dataclass(frozen=True)
class Validation:
    """Scores of one epoch's weights on the validation part."""

    epoch: int
    """The epoch, from 0."""

    clean_score: float
    """Score without variation."""

    chip_score: float | None = None
    """Mean over the validation chips; None where they were not due, all failed or there are
    none."""

    chip_std: float | None = None
    """Standard deviation over them; None for one chip."""

    def score(self, settings: TrainingSettings) -> float:
        """Return the score that epochs are compared by."""
        if settings.select == "clean" or self.chip_score is None:
            return self.clean_score
        return self.chip_score


def has_chips(settings: TrainingSettings, analog: bool) -> bool:
    """Say whether validation measures chips at all."""
    return analog and settings.validation_chips > 0


def is_due(settings: TrainingSettings, epoch: int) -> bool:
    """Say whether chips are measured after an epoch."""
    return (epoch + 1) % settings.validate_every == 0 or epoch == settings.epochs - 1


def validate(
    model: nn.Module,
    part: Part,
    settings: TrainingSettings,
    epoch: int,
    *,
    task: Task,
    calibration: ChipCalibration | None,
    device: torch.device,
    analog: bool,
) -> Validation:
    """Measure the network as it is; chips, always the same seeds, where they are due.

    The chips are calibrated as they are to be used, so that the score is what
    :func:`~cnet_aihw.evaluation.evaluate_chips` gives with that calibration.
    """
    seed = derive_seed(settings.seed, "validation")
    if has_chips(settings, analog) and is_due(settings, epoch):
        try:
            chips = evaluate_chips(
                model,
                part,
                task=task,
                chips=settings.validation_chips,
                seed=seed,
                batch_size=_BATCH,
                t_inference=injected_time(model),
                calibration=calibration,
                device=device,
            )
        except AllChipsFailed:
            pass  # the epoch has its clean score alone
        else:
            assert chips.clean is not None
            return Validation(epoch, chips.clean, chips.mean, chips.std)
    with measuring(model, device):  # the same number as beside chips
        values = measure_clean(model, part, Score(task), seed, _BATCH)
    return Validation(epoch, values["score"])


def counts(new: Validation, settings: TrainingSettings, analog: bool) -> bool:
    """Say whether an epoch can be compared; not so where chips decide and were not measured."""
    by_chips = has_chips(settings, analog) and settings.select != "clean"
    return new.chip_score is not None or not by_chips


def is_better(
    new: Validation, best: Validation | None, settings: TrainingSettings, task: Task
) -> bool:
    """Say whether an epoch that counts beats the best one before it."""
    return best is None or is_better_score(task, new.score(settings), best.score(settings))
