"""Settings of a search, readable without torch and Ray; they can be structured configurations."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.typed import check_fields
from cnet_aihw.runtime.values import bad_choice, check_count

OBJECTIVES = ("mean", "mean_minus_std", "quantile", "yield")
OVERHEADS = ("weights", "macs", "none")
OVER_LIMIT = ("mask", "penalty")
DIRECTIONS = ("best", "cheapest")
STARTS = ("own", "supernet")
FIRST = ("auto", "none", "spectrum")
EVALUATORS = {"per_chip": ("per_chip",), "shared": ("supernet", "per_placement")}
"""Fit -> the evaluators that belong to it, its own default first."""


@dataclass
class ObjectiveSettings:
    """Worth of a placement: an objective over chips, less the overhead."""

    kind: str = "mean"
    """Statistic of the chips' scores: their "mean" (the paper's, as we read it), "mean_minus_std",
    "quantile", or "yield", the share of chips that reach ``threshold``."""

    k: float = 1.0
    """Standard deviations that "mean_minus_std" subtracts."""

    quantile: float = 0.05
    """Quantile that "quantile" takes, in [0, 1]."""

    threshold: float | None = None
    """Score that a chip must reach, for "yield"."""

    overhead: str = "weights"
    """Overhead that the reward subtracts: "weights" (the paper's, as we read it), "macs", or
    "none": within the limits it costs nothing (ours)."""

    over_limit: str = "mask"
    """Treatment of placements over a limit: "mask", an agent cannot choose them (ours);
    "penalty", it can, and the reward is minus the overhead without any evaluation (the paper, as we
    read it)."""

    direction: str = "best"
    """"best": the worth less the overhead is the reward (the paper's); "cheapest": the least
    overhead among placements whose worth is at most ``drop`` below the clean score."""

    drop: float = 0.01
    """Share of the clean score that may be lost, in [0, 1), for "cheapest"."""


@dataclass
class SpaceSettings:
    """Choices of each candidate layer."""

    ratios: list[float] = field(default_factory=lambda: [0.0, 0.125, 0.25, 0.5, 1.0])
    """Ratios to choose from, in [0, 1]; 0, no compensation, must be among them. A corrector without
    a size takes 0 and 1 alone."""

    sizes: list[int] = field(default_factory=list)
    """Numbers of filters to choose from, besides no compensation, in place of ratios; empty: the
    ratios, or in a job with a fit per chip 0, 1, 2, 4 and 8, and in wide networks 16, 32 and 64 up
    to an eighth of the widest layer's channels. A corrector of low rank takes 0 too: scale and
    offset alone."""

    digital: bool = False
    """Whether keeping the layer digital is a further choice."""


@dataclass
class EvaluatorSettings:
    """Evaluation of a placement, on the training and validation parts of the data."""

    kind: str | None = None
    """"per_chip": each placement is fitted to each chip in closed form, and measured; "supernet":
    all placements share one compensation that is fitted once, and are only measured;
    "per_placement": each placement is fitted, then measured. None: the one that belongs to
    ``compensation.fit``, "per_chip" or "supernet"."""

    steps: int = 300
    """Optimizer steps of the fit of each placement."""

    shared_steps: int = 1200
    """Optimizer steps of the fit that all placements share."""

    start: str = "own"
    """Start of a placement's fit: its "own", as ``compensation.shared.start`` says, or "supernet"
    (the shared fit)."""

    seed: int = 0
    """Seed of these fits; searches with the same one share their evaluations."""

    threads: int = 1
    """Threads of each evaluation; results can depend on it in their last bits."""


@dataclass
class SearchSettings(SpaceSettings):
    """Search for a placement within ``compensation.limit`` and ``compensation.limit_macs``."""

    searcher: Any = None
    """Searcher, as a Hydra target; None: nothing is searched."""

    budget: int = 32
    """Number of different placements that a search may evaluate."""

    seed: int = 0
    """Seed of the searcher."""

    chips: int = 10
    """Chips on which each placement is measured."""

    chips_seed: int = 1000
    """Seed of these chips' seeds; neither the scan's nor the evaluation's."""

    samples: int = 500
    """Samples of the validation part, from its beginning."""

    objective: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    """Reward of a placement."""

    evaluator: EvaluatorSettings = field(default_factory=EvaluatorSettings)
    """Evaluation of a placement."""

    first: str = "auto"
    """First placement that is evaluated: that of the "spectrum", by gains that the evaluator finds
    with a forward pass on each chip, so that no search ends behind it; "none": the searcher's own;
    "auto": the spectrum's where the evaluator finds gains, as "per_chip" does."""

    store: str = "outputs/evaluations"
    """Folder of all evaluations, which searches share."""


def validate_objective_settings(settings: ObjectiveSettings) -> None:
    """Check all values and their combinations.

    Raises:
        CnetError: names the field, its value and the allowed values.
    """
    check_fields(settings, "objective.")
    s = settings
    for name, word, allowed in (
        ("kind", s.kind, OBJECTIVES),
        ("overhead", s.overhead, OVERHEADS),
        ("over_limit", s.over_limit, OVER_LIMIT),
        ("direction", s.direction, DIRECTIONS),
    ):
        if word not in allowed:
            raise bad_choice(f"objective.{name}", word, allowed)
    if not (math.isfinite(s.k) and s.k >= 0):
        raise bad_value("objective.k", s.k, "a number of at least 0")
    if not 0.0 <= s.drop < 1.0:
        raise bad_value("objective.drop", s.drop, "a share in [0, 1)")
    if s.direction == "cheapest" and s.overhead == "none":
        expected = "weights or macs, as objective.direction is cheapest"
        raise bad_value("objective.overhead", s.overhead, expected)
    if not 0.0 <= s.quantile <= 1.0:
        raise bad_value("objective.quantile", s.quantile, "a number in [0, 1]")
    if s.threshold is not None and not math.isfinite(s.threshold):
        raise bad_value("objective.threshold", s.threshold, "a finite score")
    if s.kind == "yield" and s.threshold is None:
        raise bad_value(
            "objective.threshold", None, "a score, as objective.kind is 'yield'",
            "give the score that a chip must reach, such as objective.threshold=0.9",
        )  # fmt: skip


def validate_space_settings(settings: SpaceSettings) -> None:
    """Check that the choices are ratios or sizes, all different, and not only no compensation.

    Raises:
        CnetError: names the ratios and what is expected of them.
    """
    check_fields(settings, "search.")
    ratios, sizes, key = list(settings.ratios), list(settings.sizes), "search.ratios"
    if any(size < 0 for size in sizes) or len(set(sizes)) < len(sizes):
        raise bad_value("search.sizes", sizes, "whole numbers of at least 0, each once")
    if not all(math.isfinite(r) and 0.0 <= r <= 1.0 for r in ratios):
        raise bad_value(key, ratios, "ratios in [0, 1]")
    if len(set(ratios)) < len(ratios):
        raise bad_value(key, ratios, "each ratio once")
    if 0.0 not in ratios:
        raise bad_value(key, ratios, "0 among the ratios, with which a layer stays as it is")
    if len(ratios) == 1 and not (settings.digital or sizes):
        raise bad_value(key, ratios, "a ratio above 0, or search.digital=true")


def validate_search_settings(settings: SearchSettings, fit: str | None) -> None:
    """Check all values but those of the searcher, which checks itself.

    Args:
        settings: the settings.
        fit: fit of the compensation, "per_chip" or "shared", which the evaluator has to have;
            None: without compensation.

    Raises:
        CnetError: names the key, its value and the allowed ones.
    """
    evaluator = settings.evaluator
    if evaluator.start not in STARTS:
        raise bad_choice("search.evaluator.start", evaluator.start, STARTS)
    if settings.first not in FIRST:
        raise bad_choice("search.first", settings.first, FIRST)
    for name, value in (
        ("budget", settings.budget),
        ("chips", settings.chips),
        ("samples", settings.samples),
        ("evaluator.steps", evaluator.steps),
        ("evaluator.shared_steps", evaluator.shared_steps),
        ("evaluator.threads", evaluator.threads),
    ):
        check_count(f"search.{name}", value)
    validate_space_settings(settings)
    validate_objective_settings(settings.objective)
    if settings.objective.kind == "mean_minus_std" and settings.chips < 2:
        fix = "as search.objective.kind is mean_minus_std"
        raise bad_value("search.chips", settings.chips, "at least 2", fix)
    if fit is not None and evaluator.kind not in (None, *EVALUATORS[fit]):
        expected = f"{' or '.join(EVALUATORS[fit])}, as compensation.fit is {fit}"
        raise bad_value("search.evaluator.kind", evaluator.kind, expected)
