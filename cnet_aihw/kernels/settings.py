"""Settings of kernel features on chips, readable without torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.typed import check_fields, check_type
from cnet_aihw.runtime.values import bad_choice, check_count, check_seed, is_number

KERNELS = ("rbf", "arc_cosine", "softmax")
"""Kernels: exp(-g |x - y|^2); 1 - angle / pi, the arc-cosine kernel of order 0; exp(2 g x.y)."""

FEATURES = ("rff", "orf", "sorf")
"""Random features: Gaussian rows, orthogonal rows, rows of products of Hadamard matrices."""

READOUTS = ("digital", "chip")
"""Features that the read-out is fitted to: those without variation, or those that each chip
gives."""


@dataclass
class KernelSettings:
    """Kernels, features, and how they are measured on chips."""

    kernel: list[str] = field(default_factory=lambda: ["rbf"])
    """Kernels: ``rbf``, ``arc_cosine`` (order 0), ``softmax``."""

    features: list[str] = field(default_factory=lambda: ["rff"])
    """Random projections: ``rff`` (Gaussian), ``orf`` (orthogonal), ``sorf`` (Hadamard)."""

    log2_ratio: list[float] = field(default_factory=lambda: [1.0, 3.0, 5.0])
    """Logarithms to base 2 of rows of the projection / columns of the data."""

    gamma: float | None = None
    """Bandwidth g; null: 1 / (columns * variance of the training data), for softmax
    1 / (2 * columns * mean square)."""

    match: bool = False
    """Whether the projection is scaled before it is programmed, so that the variation does not
    widen its rows."""

    readout: str = "digital"
    """Features that the read-out is fitted to: ``digital`` (without variation) or ``chip`` (those
    that each chip gives, again for each)."""

    readout_on_crossbar: bool = False
    """Whether the read-out lies on a crossbar too."""

    alpha: float = 0.5
    """Penalty of the ridge regression; its intercept has none."""

    seeds: int = 5
    """Number of random projections."""

    seed: int = 0
    """Seed of the first of them; the chips have that of the evaluation."""

    samples: int | None = None
    """Samples of the training part, from its beginning; null: all."""

    test_samples: int | None = None
    """Samples of the test part, from its beginning; null: all."""

    kernel_samples: int = 300
    """Samples of the test part between which the error of the kernel is measured."""

    baselines: bool = True
    """Whether scikit-learn's methods are measured too: kernel ridge regression, Nystroem,
    RBFSampler, and the linear ridge."""

    exact_samples: int = 4000
    """Most training samples of the kernel ridge regression."""


def validate_kernel_settings(settings: KernelSettings, prefix: str = "kernel.") -> None:
    """Check all values.

    Raises:
        CnetError: names the field, its value and what is allowed.
    """
    check_type("kernel", settings, KernelSettings)
    check_fields(settings, prefix)
    for name, allowed in (("kernel", KERNELS), ("features", FEATURES)):
        values = getattr(settings, name)
        for value in values:
            if value not in allowed:
                raise bad_choice(f"{prefix}{name}", value, allowed)
        if not values or len(set(values)) < len(values):
            expected = f"one or more of {', '.join(allowed)}, each once"
            raise bad_value(f"{prefix}{name}", list(values), expected)
    ratios = list(settings.log2_ratio)
    if not ratios or len(set(ratios)) < len(ratios) or not all(-20 <= r <= 20 for r in ratios):
        expected = "one or more different numbers from -20 to 20"
        raise bad_value(f"{prefix}log2_ratio", list(ratios), expected)
    if settings.readout not in READOUTS:
        raise bad_choice(f"{prefix}readout", settings.readout, READOUTS)
    if settings.readout == "chip" and settings.readout_on_crossbar:
        raise bad_value(
            f"{prefix}readout_on_crossbar",
            True,
            "false, as readout=chip fits a digital read-out to each chip",
        )
    if settings.gamma is not None and not (is_number(settings.gamma) and settings.gamma > 0):
        raise bad_value(f"{prefix}gamma", settings.gamma, "a number above 0, or null")
    if not (is_number(settings.alpha) and settings.alpha > 0):
        raise bad_value(f"{prefix}alpha", settings.alpha, "a number above 0")
    for name in ("seeds", "kernel_samples", "exact_samples"):
        check_count(f"{prefix}{name}", getattr(settings, name), 2 if "samples" in name else 1)
    for name in ("samples", "test_samples"):
        if getattr(settings, name) is not None:
            check_count(f"{prefix}{name}", getattr(settings, name), 2)
    check_seed(f"{prefix}seed", settings.seed)
