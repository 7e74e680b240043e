"""Plans that fit, drawn at random or next to others; what the searchers have in common."""

from __future__ import annotations

from collections.abc import Container, Sequence

import numpy as np

from cnet_aihw.search.budgeted import BudgetSpent, Evaluations
from cnet_aihw.search.problem import TOLERANCE, PlacementProblem, Plan

_TRIES = 200  # draws before the plans are listed, to find one that is not known yet


def with_choice(plan: Plan, layer: int, choice: int) -> Plan:
    """Return the plan with another choice at one layer."""
    return (*plan[:layer], choice, *plan[layer + 1 :])


def fitting_choices(problem: PlacementProblem, plan: Plan, layer: int) -> list[int]:
    """Choices of a layer with which the plan fits, the other layers left as they are."""
    left = problem.limit + TOLERANCE - problem.overhead(with_choice(plan, layer, 0))
    return [choice for choice, cost in enumerate(problem.costs[layer]) if cost <= left]


def neighbours(problem: PlacementProblem, plan: Plan, layers: Sequence[int]) -> list[Plan]:
    """All plans that fit and differ from this one at exactly one of the layers."""
    return [
        with_choice(plan, layer, choice)
        for layer in layers
        for choice in fitting_choices(problem, plan, layer)
        if choice != plan[layer]
    ]


def no_compensation(problem: PlacementProblem) -> Plan:
    """Return the plan that leaves all layers as they are; it always fits."""
    return (0,) * len(problem.layers)


def redrawn(
    problem: PlacementProblem, plan: Plan, layers: Sequence[int], rng: np.random.Generator
) -> Plan:
    """Return the plan with the choices of some layers drawn anew, so that it fits."""
    for layer in layers:
        plan = with_choice(plan, layer, 0)
    for layer in rng.permutation(np.array(layers, dtype=int)):
        plan = with_choice(plan, layer, int(rng.choice(fitting_choices(problem, plan, layer))))
    return plan


def cut_to_fit(problem: PlacementProblem, plan: Plan, rng: np.random.Generator) -> Plan:
    """Return the plan with choices lowered by one, at random layers, until it fits."""
    while not problem.fits(plan):
        layer = int(rng.choice(np.flatnonzero(plan)))
        plan = with_choice(plan, layer, plan[layer] - 1)
    return plan


def unseen(problem: PlacementProblem, known: Container[Plan], rng: np.random.Generator) -> Plan:
    """Draw a plan that fits and is not known yet; there must be one.

    In random order, each layer gets any choice that still fits: so no layer is the first to take of
    the limit.
    """
    layers = range(len(problem.layers))
    for _ in range(_TRIES):
        plan = redrawn(problem, no_compensation(problem), layers, rng)
        if plan not in known:
            return plan
    return next(plan for plan in problem.plans() if plan not in known)


def perturbed(
    problem: PlacementProblem, plan: Plan, known: Container[Plan], rng: np.random.Generator
) -> Plan:
    """Draw a plan that is not known yet near this one: about a third of its layers anew."""
    for _ in range(_TRIES):
        layers = np.flatnonzero(rng.random(len(plan)) < 1 / 3)
        candidate = redrawn(problem, plan, layers.tolist(), rng)
        if candidate not in known:
            return candidate
    return unseen(problem, known, rng)


def rewards_of(evaluations: Evaluations, plans: Sequence[Plan]) -> list[float]:
    """Return the rewards of plans, evaluated side by side where possible.

    Raises:
        BudgetSpent: when the budget covers not all of them; those that it does are evaluated.
    """
    rewards = [reward for reward in evaluations.many(plans) if reward is not None]
    if len(rewards) < len(plans):
        raise BudgetSpent(f"all {evaluations.budget} evaluations of the budget are spent.")
    return rewards
