"""The validation part after each epoch: clean, on chips, and which epoch is the best so far."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cnet_aihw.evaluation import accuracy, evaluate_chips
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.training.settings import TrainingSettings
from cnet_aihw.training.variation import injected_time


@dataclass(frozen=True)
class Validation:
    """Accuracies of one epoch's weights on the validation part, in [0, 1]."""

    epoch: int
    """The epoch, from 0."""

    clean_accuracy: float
    """Without variation."""

    chip_accuracy: float | None = None
    """Mean over the validation chips; None where they were not due or there are none."""

    chip_std: float | None = None
    """Standard deviation over them; None for one chip."""

    def score(self, settings: TrainingSettings) -> float:
        """What epochs are compared by."""
        if settings.select == "clean" or self.chip_accuracy is None:
            return self.clean_accuracy
        return self.chip_accuracy


def has_chips(settings: TrainingSettings, analog: bool) -> bool:
    """Whether validation measures chips at all."""
    return analog and settings.validation_chips > 0


def is_due(settings: TrainingSettings, epoch: int) -> bool:
    """Whether chips are measured after an epoch."""
    return (epoch + 1) % settings.validate_every == 0 or epoch == settings.epochs - 1


def validate(
    model: nn.Module,
    data: tuple[Tensor, Tensor],
    settings: TrainingSettings,
    epoch: int,
    device: torch.device,
    analog: bool,
) -> Validation:
    """Measure the network as it is; chips, always the same seeds, where they are due."""
    if not (has_chips(settings, analog) and is_due(settings, epoch)):
        return Validation(epoch, accuracy(model, data))
    chips = evaluate_chips(
        model,
        data,
        chips=settings.validation_chips,
        seed=derive_seed(settings.seed, "validation"),
        t_inference=injected_time(model),
        device=device,
    )
    assert chips.clean is not None
    return Validation(epoch, chips.clean, chips.mean, chips.std)


def counts(new: Validation, settings: TrainingSettings, analog: bool) -> bool:
    """Whether an epoch can be compared; not so where chips decide and were not due."""
    by_chips = has_chips(settings, analog) and settings.select != "clean"
    return new.chip_accuracy is not None or not by_chips


def is_better(new: Validation, best: Validation | None, settings: TrainingSettings) -> bool:
    """Whether an epoch that counts beats the best one before it."""
    return best is None or new.score(settings) > best.score(settings)
