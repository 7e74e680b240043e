"""Settings of compensation, readable without torch; they can be a structured configuration."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from cnet_aihw.evaluation.settings import ScanSettings, validate_scan_settings
from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.typed import check_fields, check_type
from cnet_aihw.runtime.values import bad_choice, check_count, check_limit, check_seed, is_number
from cnet_aihw.training.settings import (
    TrainingSettings,
    VariationSettings,
    validate_training_settings,
)

BATCHNORMS = ("frozen", "per_chip")
STARTS = ("closed_form", "identity")
TARGETS, AUTO = ("clean", "mean_over_chips"), "auto"
WEIGHTINGS = ("none", "loss")
FITS = ("per_chip", "shared")
FILLS = ("uniform", "digital")


@dataclass
class PerChipSettings:
    """Settings of a fit of the correctors to each chip, in closed form and without labels (ours).

    The order on a chip is fixed: correctors from the first layer to the last, then BatchNorm, then
    refinement.
    """

    samples: int = 1000
    """Unlabelled inputs, the first ones of the training part."""

    ridge: float | None = None
    """Ridge / mean variance of the features; None: at each layer by generalized cross-validation,
    from 1e-3 on. Few inputs need more: each is one row of a linear layer."""

    batch_size: int = 1000
    """Inputs that a forward pass takes at once."""

    readings: int = 64
    """Least number of passes of a fit on chips that are read with noise, each over a part of the
    inputs: one would correct the noise of that reading, and so add it to all others."""

    refine_steps: int = 0
    """Steps of Adam on the correctors after the closed form, towards the wanted outputs of the
    network; 0: none."""

    refine_lr: float = 1e-3
    """Largest learning rate of these, which falls to 0 along half a cosine."""

    refine_batch: int = 64
    """Inputs of a step."""

    target: str = "clean"
    """Wanted outputs of a layer: those of the "clean" network, or their "mean_over_chips", for
    networks trained under noise. In a job also "auto": for these, what scores better on validation
    chips."""

    target_chips: int = 8
    """Chips of that mean, simulated from the network's noise model."""

    weighting: str = "none"
    """Weight of a channel's error in the choice of filters: the same for all ("none"), or the mean
    squared gradient of the loss in the clean network ("loss")."""

    batchnorm: bool = False
    """Whether BatchNorm's statistics are re-estimated on the corrected chip."""

    at: float | None = None
    """Seconds after programming at which the chip is fitted, once, whenever it is measured; None:
    at each time at which it is measured."""

    seed: int = 0
    """Seed of the order of inputs in refinement, of the chips of the mean, and of the labels that
    are drawn for the gradients."""


def validate_per_chip_settings(settings: PerChipSettings, prefix: str = "per_chip.") -> None:
    """Check all values.

    Args:
        settings: the settings.
        prefix: in front of a field's name in an error.

    Raises:
        CnetError: names the field, its value and the allowed values.
    """
    check_fields(settings, prefix)
    s = settings
    for name, whole, low in (
        ("samples", s.samples, 2),
        ("batch_size", s.batch_size, 2),
        ("readings", s.readings, 1),
        ("refine_steps", s.refine_steps, 0),
        ("refine_batch", s.refine_batch, 1),
        ("target_chips", s.target_chips, 1),
    ):
        check_count(f"{prefix}{name}", whole, low)
    check_seed(f"{prefix}seed", s.seed)
    if s.ridge is not None and not (is_number(s.ridge) and s.ridge >= 0.0):
        raise bad_value(f"{prefix}ridge", s.ridge, "a number of at least 0, or null")
    if not (is_number(s.refine_lr) and s.refine_lr > 0.0):
        raise bad_value(f"{prefix}refine_lr", s.refine_lr, "a number above 0")
    if s.at is not None and not (is_number(s.at) and s.at >= 0.0):
        raise bad_value(f"{prefix}at", s.at, "seconds after programming, or null")
    if s.target not in (*TARGETS, AUTO):
        raise bad_choice(f"{prefix}target", s.target, (*TARGETS, AUTO))
    if s.weighting not in WEIGHTINGS:
        raise bad_choice(f"{prefix}weighting", s.weighting, WEIGHTINGS)
    if not isinstance(s.batchnorm, bool):
        raise bad_value(f"{prefix}batchnorm", s.batchnorm, "true or false")


@dataclass
class FitSettings(TrainingSettings):
    """Settings of a fit: those of a training with other defaults, and a few of its own."""

    name: str = "compensation"
    """Name of the fit in records and tables."""

    optimizer: str = "adam"
    """"sgd", "adam" or "adamw"; the paper, as we read it, names Adam."""

    lr: float = 2e-3
    """Largest learning rate."""

    weight_decay: float = 0.0
    """Weight decay on the compensation."""

    channels_last: bool = True
    """Whether images lie with their channels last in memory; a fit takes a third less time."""

    epochs: int = 3
    """Passes over the training part; 0: none, the start is the result."""

    warmup_epochs: float = 0.1
    """Epochs over which the learning rate rises linearly."""

    grad_clip: float | None = 1.0
    """Largest norm of the gradient; None: not clipped."""

    select: str = "chips"
    """Which epoch's compensation is the result: "chips", "clean" or "last"."""

    start: str = "closed_form"
    """First weights of the correctors: fitted to several chips at once in closed form, where they
    have one ("closed_form", ours), or as they are, at first the "identity"."""

    start_chips: int = 8
    """Chips of the closed form."""

    start_samples: int = 500
    """Inputs of the closed form, the first ones of the training part."""

    variation: VariationSettings = field(
        default_factory=lambda: VariationSettings(enabled=True, steps_per_chip=1, chips_per_step=4)
    )
    """Fresh chips each step, among which the batch is divided (ours; one in the paper, as we read
    it); steps_per_chip holds one longer."""

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
    check_type("shared", settings, FitSettings)
    check_fields(settings, "shared.")
    if settings.epochs == 0:  # nothing to train: schedules do not count
        validate_training_settings(replace(settings, epochs=1, warmup_epochs=0.0))
    else:
        validate_training_settings(settings)
    if settings.start not in STARTS:
        raise bad_choice("shared.start", settings.start, STARTS)
    for name, whole, low in (
        ("start_chips", settings.start_chips, 1),
        ("start_samples", settings.start_samples, 2),
    ):
        check_count(f"shared.{name}", whole, low)
    if settings.batchnorm not in BATCHNORMS:
        raise bad_value("shared.batchnorm", settings.batchnorm, " or ".join(BATCHNORMS))
    if settings.freeze_batchnorm:
        raise bad_value(
            "shared.freeze_batchnorm", True, "False, as shared.batchnorm decides", "leave it out"
        )
    if not 0.0 <= settings.distillation <= 1.0:
        raise bad_value("shared.distillation", settings.distillation, "a share in [0, 1]")
    if not settings.temperature > 0.0:
        raise bad_value("shared.temperature", settings.temperature, "a number above 0")
    if settings.lipschitz.enabled:
        raise bad_value(
            "shared.lipschitz.enabled",
            True,
            "False, as a fit leaves the analog weights as they are",
            "use the penalty in training",
        )
    if not settings.variation.enabled:
        raise bad_value("shared.variation.enabled", False, "True, as a fit needs chips")


@dataclass
class CompensationSettings:
    """Placement, corrector and fit of compensation."""

    enabled: bool = True
    """Whether there is any."""

    corrector: Any = None
    """Kind of corrector, as a Hydra target; a file of conf/compensation/corrector."""

    placement: Any = None
    """Layer -> ratio or "digital": a mapping, text in YAML or JSON, or a file of either. None: it
    is searched, or, without a searcher, found by ``fill``."""

    fill: str = "uniform"
    """Placement within the limits without a searcher: "uniform" (one ratio for all candidates) or
    "digital" (the most sensitive layers stay digital)."""

    limit: float | None = 0.05
    """Largest overhead in weights where no placement is given; None: no limit."""

    limit_macs: float | None = 0.05
    """Largest overhead in MACs where no placement is given; None: no limit."""

    threshold: float = 0.95
    """Share of the clean score that a layer must miss to become a candidate of the shared fit; with
    a fit per chip every layer is one."""

    calibration_samples: int = 1000
    """Unlabelled training inputs on which BatchNorm is re-estimated on each chip, with
    ``shared.batchnorm`` per_chip."""

    scan: ScanSettings = field(default_factory=ScanSettings)
    """Scans over layers."""

    fit: str = "per_chip"
    """Fit of the correctors: to each chip by itself, in closed form and without labels
    ("per_chip"), or once for all chips by training ("shared", the paper's)."""

    per_chip: PerChipSettings = field(default_factory=PerChipSettings)
    """Fit to each chip."""

    shared: FitSettings = field(default_factory=FitSettings)
    """Fit for all chips."""


def validate_compensation_settings(settings: CompensationSettings) -> None:
    """Check all values but those of the shared fit, and corrector and placement.

    Raises:
        CnetError: names the field, its value and the allowed values.
    """
    for name, word, allowed in (("fill", settings.fill, FILLS), ("fit", settings.fit, FITS)):
        if word not in allowed:
            raise bad_choice(f"compensation.{name}", word, allowed)
    validate_scan_settings(settings.scan, "compensation.scan.")
    check_count("compensation.calibration_samples", settings.calibration_samples, 2)
    for name, limit in (("limit", settings.limit), ("limit_macs", settings.limit_macs)):
        if limit is not None:
            fix = "give null for no limit, or choose compensation=none"
            check_limit(f"compensation.{name}", limit, fix)
    if not 0.0 < settings.threshold <= 1.0:
        expected = "a share of the clean score in (0, 1], such as 0.95"
        raise bad_value("compensation.threshold", settings.threshold, expected)
    validate_per_chip_settings(settings.per_chip, "compensation.per_chip.")
