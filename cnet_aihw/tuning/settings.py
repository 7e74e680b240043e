"""Settings of tuning on a chip, readable without torch."""

from __future__ import annotations

from dataclasses import dataclass

from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.typed import check_fields, check_type
from cnet_aihw.runtime.values import bad_choice, check_count, check_seed, is_number

TUNES = ("progressive", "all", "digital", "correctors")
BACKWARDS = ("model", "exact", "feedback", "random_target", "perturbation")
FEEDBACKS = ("jacobian", "random")
TARGETS = ("labels", "clean")
OPTIMIZERS = ("adam", "sgd")


@dataclass
class TuningSettings:
    """How a network is tuned on one chip."""

    tune: str = "progressive"
    """Parts that are tuned: "progressive" (write layer by layer, tune what is not written yet, and
    digital parts), "all" (write all layers again as they are tuned), "digital" (biases,
    normalisation and digital layers), "correctors" (those of a compensated network)."""

    backward: str = "model"
    """Gradient on written layers: "model" (through the nominal weights, at activations of the
    chip), "exact" (through the chip's weights, which must be readable), "feedback" (direct
    feedback of the error through fixed matrices), "random_target" (the same of the labels),
    "perturbation" (from two forwards, for digital parts alone)."""

    epochs: int = 2
    """Passes over the samples; with "progressive" after each layer that is written."""

    samples: int | None = 2000
    """Samples of the training part that are used, the first ones; null: all."""

    validation_samples: int | None = 1000
    """Samples of the validation part that each epoch is measured on, the first ones; null: all."""

    batch_size: int = 64
    """Samples of a step."""

    optimizer: str = "adam"
    """"adam" or "sgd" (with a momentum of 0.9)."""

    lr: float = 1e-3
    """Learning rate at the beginning; it falls to 0 along half a cosine, with "progressive" after
    each layer that is written."""

    target: str = "labels"
    """Aim of the outputs: the "labels", or the outputs of the "clean" network, which needs none."""

    write_every: int = 1
    """Steps between two writes of the layers, with "all"."""

    max_writes: int | None = None
    """Writes that a cell endures, those before the tuning included; null: no limit."""

    variation: bool = True
    """Whether layers that are not written yet see the variation of their noise model."""

    feedback: str = "jacobian"
    """Matrices of the feedback: the mean "jacobian" of the network before tuning, or "random"."""

    perturbation: float = 1e-2
    """Size of the step to both sides of "perturbation"."""

    angles: bool = False
    """Whether each epoch records the angle between its first gradient and the exact one, which
    needs a chip whose weights can be read."""

    seed: int = 0
    """Seed of the order of samples and of all draws but the chip's own."""


@dataclass
class TuningConfig(TuningSettings):
    """How job=tune tunes each network on some chips."""

    angles: bool = True
    """Whether each epoch records the angle between its first gradient and the exact one."""

    rewrite_sigma: float = 0.0
    """Standard deviation of the logarithm of what a write adds, fresh at each write; the variation
    of ``rram`` lasts from device to device."""

    chips: int = 5
    """Number of chips that are tuned on, the first ones of the evaluation."""

    others: int = 5
    """Number of other chips that each tuned network is measured on."""


def validate_tuning_settings(settings: TuningSettings, prefix: str = "tuning.") -> None:
    """Check all values and that they fit together.

    Raises:
        CnetError: names the field, its value and what is allowed.
    """
    check_type(prefix.rstrip(".") or "settings", settings, TuningSettings)
    check_fields(settings, prefix)
    s = settings
    for name, allowed in (
        *(("tune", TUNES), ("backward", BACKWARDS), ("feedback", FEEDBACKS)),
        *(("target", TARGETS), ("optimizer", OPTIMIZERS)),
    ):
        if getattr(s, name) not in allowed:
            raise bad_choice(prefix + name, getattr(s, name), allowed)
    for name, least in (
        *(("epochs", 1), ("batch_size", 1), ("write_every", 1), ("samples", 1)),
        *(("validation_samples", 1), ("max_writes", 1), ("chips", 1), ("others", 0)),
    ):
        value = getattr(s, name, None)
        if value is not None:
            check_count(prefix + name, value, least)
    for name, positive in (("lr", True), ("perturbation", True), ("rewrite_sigma", False)):
        value = getattr(s, name, 0.1)
        if not is_number(value) or value < 0 or (positive and value == 0):
            expected = "a number above 0" if positive else "a number of at least 0"
            raise bad_value(prefix + name, value, expected)
    check_seed(prefix + "seed", s.seed)
    if s.backward == "perturbation" and s.tune not in ("digital", "correctors"):
        raise CnetError(
            f"{prefix}backward=perturbation with {prefix}tune={s.tune} would write each cell three "
            f"times a step; give {prefix}tune=digital or {prefix}tune=correctors.",
            key=prefix + "tune",
            value=s.tune,
            expected=("digital", "correctors"),
            fix=f"give {prefix}tune=digital or {prefix}tune=correctors",
        )
    if s.backward == "random_target" and s.target == "clean":
        expected = "labels where backward is random_target, which projects them"
        raise bad_value(prefix + "target", s.target, expected)


def planned_writes(settings: TuningSettings, steps: int) -> int:
    """Return how often a cell is written at most.

    Args:
        settings: the settings.
        steps: steps of one epoch.
    """
    if settings.tune != "all":
        return 1
    return 1 + -(-settings.epochs * steps // settings.write_every)
