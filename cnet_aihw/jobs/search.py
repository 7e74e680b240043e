"""What the configuration says of a search, checked before any work; reads no torch and no Ray."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.search.settings import (
    ObjectiveSettings,
    SpaceSettings,
    validate_objective_settings,
    validate_space_settings,
)

EVALUATORS = ("shared", "fit")
STARTS = ("identity", "shared")


@dataclass
class EvaluatorConfig:
    """How a placement is evaluated, with the training and validation parts of the data."""

    kind: str = "shared"
    """"shared": all placements share one compensation that is fitted once, and are only measured;
    "fit": each placement is fitted, then measured."""

    steps: int = 300
    """Optimizer steps of the fit of each placement."""

    shared_steps: int = 1200
    """Optimizer steps of the fit that all placements share."""

    start: str = "identity"
    """What a fit of a placement starts from: "identity", or "shared" (a shared fit)."""

    seed: int = 0
    """Seed of these fits; searches with the same one take up each other's evaluations."""

    threads: int = 1
    """Threads that each evaluation computes with; results can depend on it in their last bits."""


@dataclass
class SearchConfig(SpaceSettings):
    """How a placement is searched, within ``compensation.limit``."""

    searcher: Any = None
    """What proposes placements, as a Hydra target; None: nothing is searched."""

    budget: int = 32
    """How many different placements a search may evaluate."""

    seed: int = 0
    """Seed of the searcher."""

    chips: int = 10
    """Chips on which each placement is measured."""

    chips_seed: int = 1000
    """Seed of these chips' seeds; neither the scan's nor the evaluation's."""

    samples: int = 500
    """Samples of the validation part, from its beginning."""

    objective: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    """What a placement is worth."""

    evaluator: EvaluatorConfig = field(default_factory=EvaluatorConfig)
    """How a placement is evaluated."""

    store: str = "outputs/evaluations"
    """Folder of all evaluations, which searches share."""


def validate_search(config: SearchConfig) -> None:
    """Check all values but those of the searcher, which it checks itself.

    Raises:
        CnetError: names the key, its value and what is allowed.
    """
    evaluator, objective = config.evaluator, config.objective
    for name, value, least in (
        ("budget", config.budget, 1),
        ("chips", config.chips, 1),
        ("samples", config.samples, 1),
        ("evaluator.steps", evaluator.steps, 1),
        ("evaluator.shared_steps", evaluator.shared_steps, 1),
        ("evaluator.threads", evaluator.threads, 1),
    ):
        if value < least:
            raise CnetError(f"search.{name} is {value}; give a whole number of at least {least}.")
    for name, word, allowed in (
        ("kind", evaluator.kind, EVALUATORS),
        ("start", evaluator.start, STARTS),
    ):
        if word not in allowed:
            raise CnetError(f"search.evaluator.{name} is {word!r}; give {' or '.join(allowed)}.")
    validate_space_settings(config)
    try:
        validate_objective_settings(objective)
    except CnetError as error:  # in a job, the objective is called search.objective
        raise CnetError(re.sub(r"\bobjective\.(?=\w)", "search.objective.", str(error))) from error
    if objective.kind == "mean_minus_std" and config.chips < 2:
        raise CnetError(
            f"search.objective.kind is mean_minus_std, but search.chips is {config.chips}; measure "
            "at least 2 chips."
        )


def check_chips_are_new(config: SearchConfig, scan_seed: int, evaluation_seed: int) -> None:
    """Check that what a search sees is not what chose its layers, nor what it is judged by.

    Raises:
        CnetError: if two of the seeds are the same.
    """
    for name, seed in (
        ("compensation.scan.seed", scan_seed),
        ("evaluation.seed", evaluation_seed),
    ):
        if config.chips_seed == seed:
            raise CnetError(
                f"search.chips_seed is {seed}, and so is {name}, so that the search would see the "
                "same chips; give another one."
            )
