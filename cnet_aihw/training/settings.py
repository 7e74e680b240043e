"""Settings of a training, readable without torch; they can be a structured configuration."""

from dataclasses import dataclass, field
from typing import Any

from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.typed import check_fields, check_type
from cnet_aihw.runtime.values import GRADIENTS, bad_choice, check_count, check_seed, is_number

OPTIMIZERS = ("sgd", "adam", "adamw", "bayes_binary")
SCHEDULES = ("cosine", "onecycle", "constant")
SELECTIONS = ("chips", "clean", "last")
GRAMS = ("matrix", "slices")


@dataclass
class LipschitzSettings:
    """The penalty of CorrectNet's step 1: beta * sum over layers of ||W^T W - lambda^2 I||^2."""

    enabled: bool = False
    """Whether the penalty is part of the loss."""

    beta: float = 1e-3
    """Weight of the penalty beside the loss."""

    k: float = 1.0
    """Lipschitz constant wanted of each layer at three sigma: lambda = k / (mu + 3 s)."""

    lambda_: float | None = None
    """Singular value that the penalty pulls to; None: from k and the model's noise model."""

    fold_batchnorm: bool = False
    """Whether a BatchNorm right behind a layer counts into the layer's gain."""

    gram: str = "matrix"
    """Matrices whose Gram matrices are pulled to lambda^2 I: the "matrix" of a whole layer, or for
    a convolution the "slices" [out, in] at each position of its kernel."""

    exclude: list[str] = field(default_factory=list)
    """Layers without the penalty: names, or patterns such as "features.*"."""

    probes: int | None = None
    """Random vectors that estimate the penalty of each layer, without bias, in time that does not
    grow faster than its weights; None: exact."""

    every: int = 1
    """Steps from one penalty to the next; it counts that many times where it counts."""


@dataclass
class VariationSettings:
    """Variation of the chips that the network sees while it is trained."""

    enabled: bool = False
    """Whether training forwards see varied weights."""

    steps_per_chip: int = 0
    """Optimizer steps for which one chip is held; 0: new noise at every forward pass."""

    chips_per_step: int = 1
    """Chips among which a step's batch is divided; more than 1 only where each step has its own."""

    ramp_epochs: float = 0.0
    """Epochs over which the deviation injected grows evenly from nothing to the device's own; under
    the full one from the first step deep and narrow networks learn slowly."""

    least_share: float = 1.0
    """Smallest share of that deviation: each step, or each chip that is held, draws its share
    evenly from this to 1, so that the network learns several deviations. 1: always the whole."""

    gradient: str = "auto"
    """How the gradient passes the variation: "reparametrized" (through the factor),
    "straight_through" (as if it were not there), "auto" (the first where it is a factor)."""

    table: int = 0
    """Factors that are drawn once, of which each step reads a stretch for each layer from a random
    place, in place of a fresh draw; 0: fresh draws. Faster for wide layers and small batches."""

    noise_model: Any = None
    """Noise model seen in training; None: the model's own."""


@dataclass
class BayesSettings:
    """The posterior that the optimizer bayes_binary fits to binary weights."""

    rate: float = 1.0
    """Learning rate of log-odds / that of all else, which is trained with Adam."""

    data_weight: float = 1.0
    """Times that each training sample counts: 1 gives Bayes' rule, more a colder posterior."""

    prior: float = 0.0
    """Log-odds / 2 of +1 before training, of every weight."""

    largest: float = 5.0
    """Largest log-odds / 2, either way; 5 leaves the rarer sign a probability of 4.5e-5."""


@dataclass
class TrainingSettings:
    """One training run."""

    name: str = "plain"
    """Name of the run in records and tables."""

    epochs: int = 10
    """Passes over the training part; 0: the weights are measured and kept as they are."""

    batch_size: int = 128
    """Samples a step. A single sample left over at the end of an epoch is skipped."""

    optimizer: str = "sgd"
    """"sgd", "adam", "adamw", or "bayes_binary" (a posterior over binary weights of a network on
    stochastic cells; all else with adam)."""

    lr: float = 0.05
    """Largest learning rate."""

    momentum: float = 0.9
    """Momentum of SGD; the others do not use it."""

    weight_decay: float = 5e-4
    """Weight decay on all trained parameters (decoupled with adamw)."""

    schedule: str = "cosine"
    """"cosine" (to 0), "onecycle" (up for 30 % of the steps, then down) or "constant"."""

    warmup_epochs: float = 0.0
    """Epochs over which the learning rate rises linearly; not with onecycle, which has its own."""

    label_smoothing: float = 0.0
    """Share of a label's weight spread over all classes, in [0, 1). Where a task is
    given, its own settings count and this must be 0."""

    grad_clip: float | None = None
    """Largest norm of the gradient; None: not clipped."""

    bf16: bool = False
    """Whether forward passes run in bfloat16 where that is safe (autocast)."""

    channels_last: bool = False
    """Whether images lie with their channels last in memory: most convolutions are faster; results
    differ in rounding, and in what dropout draws."""

    freeze_batchnorm: bool = False
    """Whether BatchNorm layers keep their running statistics, as in evaluation."""

    seed: int = 0
    """Seed of the order of samples, of augmentation, of the variation in training."""

    patience: int | None = None
    """Epochs without a better validation score after which the run stops; None: never."""

    select: str = "chips"
    """Which epoch's weights are the result: best validation score on "chips" (clean score for a
    network without analog layers), best "clean" one, or the "last" epoch's."""

    validation_chips: int = 5
    """Chips, the same ones every time, on which the validation part is measured."""

    validate_every: int = 1
    """Epochs between measurements on chips; the last epoch is always measured."""

    checkpoint_seconds: float = 60.0
    """Longest time in seconds between two checkpoints within an epoch."""

    lipschitz: LipschitzSettings = field(default_factory=LipschitzSettings)
    """The Lipschitz penalty."""

    variation: VariationSettings = field(default_factory=VariationSettings)
    """Variation in training."""

    bayes: BayesSettings = field(default_factory=BayesSettings)
    """The posterior, with the optimizer bayes_binary."""


def validate_training_settings(settings: TrainingSettings) -> None:
    """Check all values and that they fit together.

    Raises:
        CnetError: names the field, its value and what is allowed.
    """
    check_type("training", settings, TrainingSettings)
    check_fields(settings, "training.")
    s, lipschitz, variation = settings, settings.lipschitz, settings.variation
    for name, value, low in (
        ("epochs", s.epochs, 0),
        ("batch_size", s.batch_size, 1),
        ("validation_chips", s.validation_chips, 0),
        ("validate_every", s.validate_every, 1),
        ("patience", s.patience, 1),
        ("variation.steps_per_chip", variation.steps_per_chip, 0),
        ("variation.chips_per_step", variation.chips_per_step, 1),
        ("variation.table", variation.table, 0),
        ("lipschitz.every", lipschitz.every, 1),
        ("lipschitz.probes", lipschitz.probes, 1),
    ):
        if value is not None:  # as patience and probes may be; others have been checked
            check_count(f"training.{name}", value, low)
    check_seed("training.seed", s.seed)
    for name, number, positive in (
        ("lr", s.lr, True),
        ("grad_clip", s.grad_clip, True),
        ("momentum", s.momentum, False),
        ("weight_decay", s.weight_decay, False),
        ("warmup_epochs", s.warmup_epochs, False),
        ("variation.ramp_epochs", variation.ramp_epochs, False),
        ("checkpoint_seconds", s.checkpoint_seconds, False),
        ("lipschitz.beta", lipschitz.beta, False),
        ("lipschitz.k", lipschitz.k, True),
        ("lipschitz.lambda_", lipschitz.lambda_, True),
        ("bayes.rate", s.bayes.rate, True),
        ("bayes.data_weight", s.bayes.data_weight, True),
        ("bayes.largest", s.bayes.largest, True),
    ):
        if number is None and name in ("grad_clip", "lipschitz.lambda_"):
            continue
        if not is_number(number) or number < 0 or (positive and number == 0):
            raise bad_value(
                f"training.{name}",
                number,
                "a number above 0" if positive else "a number of at least 0",
            )
    for name, share in (("momentum", s.momentum), ("label_smoothing", s.label_smoothing)):
        if not (is_number(share) and 0.0 <= share < 1.0):
            raise bad_value(f"training.{name}", share, "a number in [0, 1)")
    least = variation.least_share
    if not (is_number(least) and 0.0 <= least <= 1.0):
        raise bad_value("training.variation.least_share", least, "a share in [0, 1]")
    for name, word, allowed in (
        ("optimizer", s.optimizer, OPTIMIZERS),
        ("schedule", s.schedule, SCHEDULES),
        ("select", s.select, SELECTIONS),
        ("variation.gradient", variation.gradient, GRADIENTS),
        ("lipschitz.gram", lipschitz.gram, GRAMS),
    ):
        if word not in allowed:
            raise bad_choice(f"training.{name}", word, allowed)
    if s.warmup_epochs >= s.epochs > 0:
        raise bad_value(
            "training.warmup_epochs", s.warmup_epochs, f"fewer than the {s.epochs} epochs"
        )
    if variation.ramp_epochs > s.epochs:
        expected = f"at most the {s.epochs} epochs"
        raise bad_value("training.variation.ramp_epochs", variation.ramp_epochs, expected)
    if variation.chips_per_step > 1 and variation.steps_per_chip > 1:
        expected = "1 where a chip is held for several steps"
        raise bad_value("training.variation.chips_per_step", variation.chips_per_step, expected)
    if s.optimizer == "bayes_binary":
        _check_bayes(s)
    if s.schedule == "onecycle" and s.warmup_epochs > 0:
        raise bad_value("training.warmup_epochs", s.warmup_epochs, "0 with the schedule onecycle")
    if s.select == "chips" and s.validation_chips == 0:
        raise CnetError(
            "training.select is 'chips' but training.validation_chips is 0; "
            "measure at least one chip, or select 'clean' or 'last'.",
            key="training.validation_chips",
            value=0,
            expected="at least one chip",
            fix="measure at least one chip, or select 'clean' or 'last'",
        )


def _check_bayes(s: TrainingSettings) -> None:
    """Check what a posterior over binary weights needs."""
    if not is_number(s.bayes.prior) or abs(s.bayes.prior) > s.bayes.largest:
        expected = f"a number within +-training.bayes.largest, {s.bayes.largest:g}"
        raise bad_value("training.bayes.prior", s.bayes.prior, expected)
    for name, value, expected in (
        ("bayes.largest", None if s.bayes.largest <= 7 else s.bayes.largest, "at most 7"),
        ("variation.enabled", None if s.variation.enabled else False, "true: weights are sampled"),
        ("variation.steps_per_chip", s.variation.steps_per_chip or None, "0: fresh samples"),
        ("lipschitz.enabled", s.lipschitz.enabled or None, "false"),
        ("weight_decay", s.weight_decay or None, "0: the prior takes its place"),
    ):
        if value is not None:
            expected = f"{expected}, with the optimizer bayes_binary"
            raise bad_value(f"training.{name}", value, expected, "see training=bayes_binary")


def check_distillation(share: float, temperature: float, prefix: str) -> None:
    """Check the values of a distillation.

    Args:
        share: weight of the divergence.
        temperature: of the outputs.
        prefix: what names of values begin with.

    Raises:
        CnetError: names the value that cannot be.
    """
    if not 0.0 < share <= 1.0:
        raise bad_value(f"{prefix}share", share, "a share above 0 and at most 1")
    if not temperature > 0.0:
        raise bad_value(f"{prefix}temperature", temperature, "a number above 0")
