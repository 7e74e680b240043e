"""Settings of uncertainty over chips, readable without torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.typed import check_fields, check_type
from cnet_aihw.runtime.values import MOST_CHIPS, bad_choice, check_count, is_whole

SOURCES = ("chips", "readings", "cells")
"""Origins of samples: one reading of each of several chips; several readings of one chip; several
readings of the stochastic cells of one chip."""

CORRECTIONS = ("none", "temperature", "logit_affine")
"""Corrections of a chip's logits: none, one temperature, a scale and an offset for each class."""

BASELINES = ("deterministic", "temperature", "mc_dropout", "laplace")
"""Digital baselines of a single network."""


@dataclass
class UncertaintySettings:
    """Samples of predictions on chips, and what is measured of them."""

    source: str = "chips"
    """Origin of the samples: "chips" (several chips), "readings" (of one chip, whose devices or
    periphery have read noise) or "cells" (readings of stochastic cells)."""

    samples: list[int] = field(default_factory=lambda: [1, 4, 16])
    """Samples of a prediction; every number is measured, on the same samples."""

    chips: int = 5
    """Chips that are measured, each with samples of its own; for source=chips sets of chips."""

    correction: list[str] = field(default_factory=lambda: ["none", "temperature"])
    """Corrections of each chip's logits, fitted to the validation part: "none", "temperature"
    or "logit_affine" (a scale and an offset for each class)."""

    fit_samples: int = 16
    """Samples whose mean prediction a correction is fitted to, where one chip gives several; with
    fewer samples corrected predictions are not measured."""

    fit_inputs: int = 1000
    """Inputs of the validation part, the first ones, that a correction is fitted to."""

    ood: Any = None
    """Data of another kind, whose test part is to be distinguished, a Hydra target; null: none."""

    ood_inputs: int = 1000
    """Inputs of it, the first ones."""

    baselines: list[str] = field(default_factory=lambda: ["deterministic", "temperature"])
    """Digital baselines: "deterministic", "temperature", "mc_dropout" (where the network has
    dropout) and "laplace" (of the last layer)."""


def validate_uncertainty_settings(settings: UncertaintySettings) -> None:
    """Check all values but the data of another kind.

    Raises:
        CnetError: names the field, its value and what is allowed.
    """
    check_type("bayes", settings, UncertaintySettings)
    check_fields(settings, "bayes.")
    if settings.source not in SOURCES:
        raise bad_choice("bayes.source", settings.source, SOURCES)
    samples_of(settings.samples, "bayes.samples")
    for name in ("chips", "fit_samples", "fit_inputs", "ood_inputs"):
        check_count(f"bayes.{name}", getattr(settings, name))
    check_count("bayes.chips", settings.chips, most=MOST_CHIPS)
    for key, words, allowed in (
        ("bayes.correction", settings.correction, CORRECTIONS),
        ("bayes.baselines", settings.baselines, BASELINES),
    ):
        for word in words:
            if word not in allowed:
                raise bad_choice(key, word, allowed)
    if not settings.correction:
        raise bad_value("bayes.correction", [], f"one or more of {', '.join(CORRECTIONS)}")


def samples_of(samples: Any, key: str = "samples") -> list[int]:
    """Return numbers of samples, each once, in ascending order.

    Raises:
        CnetError: for a number below 1, or none.
    """
    given: list[int] = []
    if isinstance(samples, Iterable) and not isinstance(samples, str):
        given = list(samples)
    elif is_whole(samples):
        given = [samples]
    for count in given:
        check_count(key, count)
    if not given:
        raise bad_value(key, samples, "one or more whole numbers of at least 1")
    return sorted(set(given))
