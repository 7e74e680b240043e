"""Settings of a fit, readable without torch; they can be a structured configuration."""

from __future__ import annotations

from dataclasses import dataclass, field

from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.training.settings import (
    TrainingSettings,
    VariationSettings,
    validate_training_settings,
)

BATCHNORMS = ("frozen", "per_chip")


@dataclass
class FitSettings(TrainingSettings):
    """Settings of a fit: those of a training with other defaults, and a few of its own."""

    name: str = "compensation"
    """Name of the fit in records and tables."""

    epochs: int = 3
    """Passes over the training part."""

    optimizer: str = "adam"
    """"sgd", "adam" or "adamw"; the paper, as we read it, names Adam."""

    lr: float = 2e-3
    """Largest learning rate."""

    weight_decay: float = 0.0
    """Weight decay on the compensation."""

    channels_last: bool = True
    """Whether images lie with their channels last in memory; a fit takes a third less time."""

    select: str = "last"
    """Which epoch's compensation is the result: "chips", "clean" or "last"."""

    variation: VariationSettings = field(
        default_factory=lambda: VariationSettings(enabled=True, steps_per_chip=1)
    )
    """A fresh chip each step, as in the paper as we read it; steps_per_chip holds it longer."""

    batchnorm: str = "frozen"
    """Statistics that BatchNorm uses in the fit: its own ("frozen"), or those of the batch on each
    chip ("per_chip"; measure with BatchNormReestimation then). Its own are never changed."""

    distillation: float = 0.0
    """Share of the loss that is the divergence from the clean network's outputs, in [0, 1]."""

    temperature: float = 2.0
    """Temperature of those outputs, above 0."""


def validate_fit_settings(settings: FitSettings) -> None:
    """Check all values.

    Raises:
        CnetError: names the field, its value and the allowed values.
    """
    validate_training_settings(settings)
    if settings.batchnorm not in BATCHNORMS:
        raise bad_value("fit.batchnorm", settings.batchnorm, " or ".join(BATCHNORMS))
    if settings.freeze_batchnorm:
        raise bad_value(
            "fit.freeze_batchnorm", True, "False, as fit.batchnorm decides", "leave it out"
        )
    if not 0.0 <= settings.distillation <= 1.0:
        raise bad_value("fit.distillation", settings.distillation, "a share in [0, 1]")
    if not settings.temperature > 0.0:
        raise bad_value("fit.temperature", settings.temperature, "a number above 0")
    if settings.lipschitz.enabled:
        raise bad_value(
            "fit.lipschitz.enabled",
            True,
            "False, as a fit leaves the analog weights as they are",
            "use the penalty in training",
        )
    if not settings.variation.enabled:
        raise bad_value("fit.variation.enabled", False, "True, as a fit needs chips")
