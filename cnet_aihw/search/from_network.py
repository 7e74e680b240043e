"""The placement problem of a network, from shapes alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches

from cnet_aihw.compensation import (
    DIGITAL,
    PAPER,
    CompensationCost,
    Corrector,
    LayerShape,
    NetworkCost,
    OverLimit,
    Placement,
    compensation_cost,
    over_limit,
    with_size,
)
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.typed import checked
from cnet_aihw.search.counting import TOLERANCE
from cnet_aihw.search.problem import KINDS, CandidateLayer, Choice, PlacementProblem
from cnet_aihw.search.settings import (
    ObjectiveSettings,
    SpaceSettings,
    validate_objective_settings,
    validate_space_settings,
)


@checked
def placement_problem(
    network: NetworkCost,
    layers: Sequence[str],
    corrector: Corrector = PAPER,
    limit: float | None = 0.05,
    space: SpaceSettings | None = None,
    objective: ObjectiveSettings | None = None,
    sensitivity: Mapping[str, float] | None = None,
    *,
    limit_macs: float | None = 0.05,
    reference: float | None = None,
    higher_is_better: bool = True,
) -> PlacementProblem:
    """State the problem of where compensation goes, from shapes alone: nothing is built or run.

    Args:
        network: costs of the network.
        layers: candidate layers, in any order.
        corrector: kind of corrector; one without a size takes the ratios 0 and 1 alone.
        limit: largest overhead in weights; None: no limit.
        space: choices of each layer.
        objective: worth of a placement.
        sensitivity: score lost when a layer alone varies, for those where it is known.
        limit_macs: largest overhead in MACs; None: no limit.
        reference: clean score that rewards are relative to, above 0; None: rewards take scores as
            they are (the paper, for accuracies).
        higher_is_better: direction of the score; if lower is better, and where the cheapest
            placement is asked for, the reference is needed.

    Returns:
        The problem.

    Raises:
        CnetError: for impossible settings, no candidate layer, one that the network does not run on
            a crossbar, and limits within which no layer could be given anything.
    """
    space, objective = space or SpaceSettings(), objective or ObjectiveSettings()
    validate_space_settings(space)
    validate_objective_settings(objective)
    for name, value in (("limit", limit), ("limit_macs", limit_macs)):
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise bad_value(name, value, "a share of at least 0, such as 0.05, or None")
    if reference is None and not higher_is_better:
        raise bad_value("reference", None, "the clean score, as lower scores are better")
    if reference is None and objective.direction == "cheapest":
        raise bad_value("reference", None, "the clean score, as objective.direction is cheapest")
    if reference is not None and not (math.isfinite(reference) and reference > 0):
        raise bad_value("reference", reference, "a clean score above 0")
    _check_layers(network, layers)
    order = list(network.layers)
    names = sorted(set(layers), key=order.index)
    amounts: list[Choice] = sorted(float(r) for r in space.ratios)
    if space.sizes:
        amounts = [0.0, *(with_size(int(filters)) for filters in sorted(space.sizes))]
    choices: tuple[Choice, ...] = (
        *amounts,
        *([DIGITAL] if space.digital else []),
    )
    costs = [
        [compensation_cost(network, Placement({n: c}), corrector) for c in choices] for n in names
    ]
    repeats = tuple(_repeats(corrector, network.layers[name].shape, choices) for name in names)
    problem = PlacementProblem(
        tuple(_candidate(network, n, order, sensitivity or {}) for n in names),
        choices,
        tuple(tuple(cost.overhead_weights for cost in row) for row in costs),
        tuple(tuple(cost.overhead_macs for cost in row) for row in costs),
        None if limit is None else float(limit),
        None if limit_macs is None else float(limit_macs),
        replace(objective),
        reference,
        higher_is_better,
        repeats if any(repeats) else (),
    )
    _check_limits(problem)
    return problem


def _candidate(
    network: NetworkCost, name: str, order: list[str], sensitivity: Mapping[str, float]
) -> CandidateLayer:
    layer = network.layers[name]
    return CandidateLayer(
        name,
        KINDS[layer.shape.dims],
        layer.shape.in_channels,
        layer.shape.out_channels,
        layer.positions,
        order.index(name) / len(order),
        float(sensitivity.get(name, 0.0)),
    )


def _repeats(corrector: Corrector, shape: LayerShape, choices: Sequence[Choice]) -> tuple[int, ...]:
    """Return the choices that give a layer the same corrector as one before them."""
    seen: set[int] = set()
    repeats = []
    for index, choice in enumerate(choices):
        if choice in (0.0, DIGITAL):
            continue
        size = corrector.size(shape, choice)
        if size in seen:
            repeats.append(index)
        seen.add(size)
    return tuple(repeats)


def _check_layers(network: NetworkCost, layers: Sequence[str]) -> None:
    if not layers:
        raise CnetError(
            "no candidate layer is given, so nothing can be searched; name layers.",
            key="layers",
            value=list(layers),
            expected="at least one layer",
        )
    analog = [name for name, layer in network.layers.items() if layer.analog]
    for name in layers:
        if name not in analog:
            nearest = get_close_matches(name, analog, n=3, cutoff=0.0)
            raise CnetError(
                f"the candidate layer {name!r} is not one that the network runs on a crossbar; "
                f"the nearest are {', '.join(map(repr, nearest))}.",
                key="layers",
                value=name,
                expected=tuple(nearest),
            )


def _check_limits(problem: PlacementProblem) -> None:
    """Check that at least one choice of one layer stays within both limits."""
    least: tuple[float, str, str, OverLimit] | None = None
    for row in zip(problem.layers, problem.weights, problem.macs, strict=True):
        for choice, weights, macs in list(zip(problem.choices, *row[1:], strict=True))[1:]:
            cost = CompensationCost({}, {}, weights, macs)
            over = over_limit(cost, problem.limit, problem.limit_macs)
            if over is None:
                return
            found = over.overhead / max(over.limit, TOLERANCE), row[0].name, str(choice), over
            least = found if least is None else min(least, found, key=lambda one: one[0])
    assert least is not None
    _, name, choice_name, over = least
    raise CnetError(
        f"the overhead limits allow no compensation: the least, {choice_name} at {name!r}, costs "
        f"{over}; raise the limit, or give smaller choices or another corrector.",
        key=over.key,
        value=over.limit,
        expected=f"at least {over.overhead:.4g}",
    )
