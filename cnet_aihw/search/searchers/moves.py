"""Encodings that fit, drawn at random or next to others; shared by the searchers."""

from __future__ import annotations

from collections.abc import Container, Sequence

import numpy as np

from cnet_aihw.search.budgeted import BudgetSpent, Evaluations
from cnet_aihw.search.problem import Encoding, PlacementProblem

_TRIES = 200  # draws before the encodings are listed, to find one that is not known yet


def with_choice(encoding: Encoding, layer: int, choice: int) -> Encoding:
    """Return the encoding with another choice at one layer."""
    return (*encoding[:layer], choice, *encoding[layer + 1 :])


def fitting_choices(problem: PlacementProblem, encoding: Encoding, layer: int) -> list[int]:
    """Choices of a layer with which the encoding fits, the other layers left as they are."""
    return [choice for choice, fits in enumerate(problem.fitting(encoding, layer)) if fits]


def neighbours(
    problem: PlacementProblem, encoding: Encoding, layers: Sequence[int]
) -> list[Encoding]:
    """All encodings that fit and differ from this one at exactly one of the layers."""
    return [
        with_choice(encoding, layer, choice)
        for layer in layers
        for choice in fitting_choices(problem, encoding, layer)
        if choice != encoding[layer]
    ]


def no_compensation(problem: PlacementProblem) -> Encoding:
    """Return the encoding that leaves all layers as they are; it always fits."""
    return (0,) * len(problem.layers)


def redrawn(
    problem: PlacementProblem, encoding: Encoding, layers: Sequence[int], rng: np.random.Generator
) -> Encoding:
    """Return the encoding with the choices of some layers drawn again, so that it fits."""
    for layer in layers:
        encoding = with_choice(encoding, layer, 0)
    for layer in rng.permutation(np.array(layers, dtype=int)):
        encoding = with_choice(
            encoding, layer, int(rng.choice(fitting_choices(problem, encoding, layer)))
        )
    return encoding


def cut_to_fit(problem: PlacementProblem, encoding: Encoding, rng: np.random.Generator) -> Encoding:
    """Return the encoding with choices lowered by one, at random layers, until it fits."""
    while not problem.fits(encoding):
        layer = int(rng.choice(np.flatnonzero(encoding)))
        encoding = with_choice(encoding, layer, encoding[layer] - 1)
    return encoding


def unseen(
    problem: PlacementProblem, known: Container[Encoding], rng: np.random.Generator
) -> Encoding:
    """Draw an encoding that fits and is not known yet; there must be one.

    In random order, each layer gets any choice that still fits: so no layer is the first to take of
    the limits.
    """
    layers = range(len(problem.layers))
    for _ in range(_TRIES):
        encoding = redrawn(problem, no_compensation(problem), layers, rng)
        if encoding not in known:
            return encoding
    return next(encoding for encoding in problem.encodings() if encoding not in known)


def perturbed(
    problem: PlacementProblem,
    encoding: Encoding,
    known: Container[Encoding],
    rng: np.random.Generator,
) -> Encoding:
    """Draw an unknown encoding near this one, with about a third of its layers drawn again."""
    for _ in range(_TRIES):
        layers = np.flatnonzero(rng.random(len(encoding)) < 1 / 3)
        candidate = redrawn(problem, encoding, layers.tolist(), rng)
        if candidate not in known:
            return candidate
    return unseen(problem, known, rng)


def rewards_of(evaluations: Evaluations, encodings: Sequence[Encoding]) -> list[float]:
    """Return the rewards of encodings, evaluated in parallel if possible.

    Raises:
        BudgetSpent: when the budget covers not all of them; those that it does are evaluated.
    """
    rewards = [reward for reward in evaluations.many(encodings) if reward is not None]
    if len(rewards) < len(encodings):
        raise BudgetSpent(f"all {evaluations.budget} evaluations of the budget are spent.")
    return rewards
