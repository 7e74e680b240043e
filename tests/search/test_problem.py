"""The placement problem: costs, limits, counts and rewards are those of the networks built."""

import itertools
import json
from collections import Counter
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cnet_aihw.compensation import (
    PAPER,
    CompensationVariant,
    NetworkCost,
    Placement,
    compensate,
    compensation_cost,
    compensation_parameters,
    network_cost,
)
from cnet_aihw.rram import RRAMRPUConfig, convert_to_analog, count_weights
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.search import (
    CandidateLayer,
    Evaluation,
    ObjectiveSettings,
    PlacementProblem,
    RaySettings,
    SpaceSettings,
    placement_problem,
    validate_ray_settings,
)
from cnet_aihw.zoo import VGG16, LeNet5

LAYERS = ("conv1", "conv2", "fc1", "fc2", "fc3")


def lenet() -> nn.Module:
    return convert_to_analog(LeNet5(), RRAMRPUConfig()).eval()


@cache
def lenet_cost() -> NetworkCost:
    return network_cost(lenet(), torch.zeros(1, 1, 28, 28))


def lenet_problem(limit: float = 0.1, digital: bool = True, **objective: Any) -> PlacementProblem:
    return placement_problem(
        lenet_cost(),
        LAYERS,
        PAPER,
        limit,
        SpaceSettings(digital=digital),
        ObjectiveSettings(**objective),
    )


@st.composite
def problems(draw: st.DrawFn) -> PlacementProblem:
    """Small problems whose overheads are whole numbers / 100, so that many sums are equal."""
    layers, choices = draw(st.integers(1, 4)), draw(st.integers(2, 3))
    row = st.lists(st.integers(1, 9), min_size=choices - 1, max_size=choices - 1)
    costs = tuple((0.0, *(units / 100 for units in draw(row))) for _ in range(layers))
    return PlacementProblem(
        tuple(CandidateLayer(f"l{i}", "linear", 4, 4, 1, i / layers) for i in range(layers)),
        tuple(i / (choices - 1) for i in range(choices)),
        costs,
        costs,
        draw(st.integers(0, 20)) / 100,
        ObjectiveSettings(),
    )


def every_plan(problem: PlacementProblem) -> list[tuple[int, ...]]:
    return list(itertools.product(range(len(problem.choices)), repeat=len(problem.layers)))


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.integers(0, 5)] * 5))
def test_overheads_are_those_of_the_network_that_is_built(plan: tuple[int, ...]) -> None:
    problem = lenet_problem()
    placement = problem.placement(plan)
    cost = compensation_cost(lenet_cost(), placement, PAPER)
    assert problem.overhead_weights(plan) == pytest.approx(cost.overhead_weights, abs=1e-12)
    assert problem.overhead_macs(plan) == pytest.approx(cost.overhead_macs, abs=1e-12)
    model = lenet()
    weights = count_weights(model)
    layers = dict(model.named_modules())
    digital = sum(count_weights(layers[n]) for n, r in placement.items() if r == "digital")
    added = sum(p.numel() for p in compensation_parameters(compensate(model, placement)).values())
    assert problem.overhead_weights(plan) == pytest.approx((added + digital) / weights, abs=1e-12)
    assert problem.plan_of(placement) == plan


def test_a_placement_leaves_out_what_is_left_as_it_is() -> None:
    assert dict(lenet_problem().placement((1, 0, 0, 5, 0))) == {"conv1": 0.125, "fc2": "digital"}
    assert dict(lenet_problem().placement((0,) * 5)) == {}


@settings(max_examples=50, deadline=None)
@given(problems())
def test_a_choice_is_masked_when_no_plan_with_it_fits(problem: PlacementProblem) -> None:
    fitting = [
        plan
        for plan in every_plan(problem)
        if sum(c[i] for c, i in zip(problem.costs, plan, strict=True)) <= problem.limit + 1e-9
    ]
    for plan in fitting:
        for length in range(len(problem.layers)):
            prefix = plan[:length]
            possible = {other[length] for other in fitting if other[:length] == prefix}
            mask = problem.mask(prefix)
            assert {choice for choice, allowed in enumerate(mask) if allowed} == possible


@settings(max_examples=50, deadline=None)
@given(problems())
def test_plans_are_those_that_fit_in_order_and_counted(problem: PlacementProblem) -> None:
    fitting = [plan for plan in every_plan(problem) if problem.fits(plan)]
    assert list(problem.plans()) == fitting
    assert problem.count() == len(fitting)
    assert problem.size == len(every_plan(problem))


@pytest.mark.parametrize("overhead", ["weights", "macs"])
def test_the_plans_of_a_large_network_are_counted(overhead: str) -> None:
    """Against a table of whole numbers of weights, or MACs, spent."""
    model = convert_to_analog(VGG16(width=0.25), RRAMRPUConfig()).eval()
    network = network_cost(model, torch.zeros(1, 3, 32, 32))
    problem = placement_problem(
        network,
        list(network.layers),
        PAPER,
        0.05,
        objective=ObjectiveSettings(overhead=overhead),
    )
    total = network.weights if overhead == "weights" else network.macs
    ways = Counter({0: 1})
    for layer in problem.layers:
        spent: Counter[int] = Counter()
        for choice in problem.choices:
            cost = compensation_cost(network, Placement({layer.name: choice}), PAPER)
            units = (cost.weights if overhead == "weights" else cost.macs)[layer.name]
            for before, count in ways.items():
                if before + units <= 0.05 * total:
                    spent[before + units] += count
        ways = spent
    assert problem.count() == ways.total() < problem.size


def test_the_limit_counts_what_the_objective_names() -> None:
    plan = (4, 0, 0, 0, 0)  # conv1: few weights on a large map
    by_weights, by_macs = lenet_problem(0.02), lenet_problem(0.02, overhead="macs")
    assert by_weights.overhead(plan) == by_weights.overhead_weights(plan)
    assert by_macs.overhead(plan) == by_macs.overhead_macs(plan)
    assert by_weights.fits(plan)
    assert not by_macs.fits(plan)


ACCURACIES = (0.5, 0.9, 0.7, 0.8, 0.6)
WORTH: dict[str, tuple[dict[str, Any], float]] = {
    "mean": ({}, 0.7),
    "mean - std": ({"kind": "mean_minus_std"}, 0.7 - np.sqrt(0.025)),
    "mean - 2 std": ({"kind": "mean_minus_std", "k": 2.0}, 0.7 - 2 * np.sqrt(0.025)),
    "5 % quantile": ({"kind": "quantile"}, 0.52),
    "median": ({"kind": "quantile", "quantile": 0.5}, 0.7),
    "yield": ({"kind": "yield", "threshold": 0.7}, 3 / 5),
}


@pytest.mark.parametrize(("objective", "worth"), WORTH.values(), ids=WORTH)
def test_a_reward_is_the_objective_less_the_overhead(
    objective: dict[str, Any], worth: float
) -> None:
    problem = lenet_problem(**objective)
    plan = problem.plan_of({"conv1": 0.5, "fc3": 0.125})
    evaluation = Evaluation(ACCURACIES, 1.0)
    assert problem.fits(plan)
    expected = worth - problem.overhead_weights(plan)
    assert problem.reward(plan, evaluation) == pytest.approx(expected, abs=1e-12)


def test_over_the_limit_the_reward_is_minus_the_overhead() -> None:
    problem = lenet_problem()
    plan = (4, 4, 4, 4, 4)
    assert not problem.fits(plan)
    assert problem.reward(plan, None) == -problem.overhead(plan)


def test_an_evaluation_comes_back_from_its_record() -> None:
    evaluation = Evaluation(ACCURACIES, 1.5)
    record = json.loads(json.dumps(evaluation.as_record()))
    assert Evaluation.from_record(record) == evaluation
    assert evaluation.q05 == pytest.approx(0.52)
    assert Evaluation((0.5,), 1.0).std == 0.0


def test_layers_stand_in_order_with_their_features() -> None:
    problem = placement_problem(
        lenet_cost(), ["fc3", "conv2"], PAPER, 0.1, sensitivity={"fc3": 0.2, "conv1": 0.5}
    )
    assert problem.layers == (
        CandidateLayer("conv2", "conv2d", 6, 16, 100, 0.2, 0.0),
        CandidateLayer("fc3", "linear", 84, 10, 1, 0.8, 0.2),
    )
    assert problem.choices == (0.0, 0.125, 0.25, 0.5, 1.0)


def test_the_fingerprint_tells_problems_apart() -> None:
    problem = lenet_problem()
    others = [
        replace(problem, limit=0.2),
        replace(problem, objective=ObjectiveSettings(over_limit="penalty")),
        replace(problem, weights=problem.macs),
        replace(problem, macs=problem.weights),
        replace(problem, choices=(*problem.choices[:-1], 0.9)),
        replace(problem, layers=(replace(problem.layers[0], sensitivity=0.1), *problem.layers[1:])),
    ]
    prints = [p.fingerprint() for p in (problem, *others)]
    assert len(set(prints)) == len(prints)
    assert lenet_problem().fingerprint() == problem.fingerprint()
    assert json.loads(json.dumps(problem.as_record())) == problem.as_record()


ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "no layer": ({"layers": []}, "there is no candidate layer"),
    "unknown layer": ({"layers": ["conv3"]}, "layer 'conv3' is none .* nearest: 'conv2', 'conv1'"),
    "limit": (
        {"limit": 1e-4},
        r"limit 0.0001 allows no compensation: the least, 0.125 at 'conv1', co",
    ),
    "limit in MACs": (
        {"limit": 1e-4, "objective": ObjectiveSettings(overhead="macs")},
        "of the network's MACs; raise the limit",
    ),
    "negative limit": ({"limit": -0.1}, "the overhead limit is -0.1"),
    "NaN": ({"limit": float("nan")}, "the overhead limit is nan"),
    "no zero": ({"space": SpaceSettings([0.5])}, r"ratios is \[0.5\]; add 0"),
    "zero alone": ({"space": SpaceSettings([0.0])}, "has 0 alone"),
    "large ratio": (
        {"space": SpaceSettings([0.0, 2.0])},
        r"ratios has 2.0; give ratios in \[0, 1\]",
    ),
    "twice": ({"space": SpaceSettings([0.0, 0.5, 0.5])}, "give each ratio once"),
    "objective": ({"objective": ObjectiveSettings("means")}, r"did you mean 'mean'\?"),
    "measure": ({"objective": ObjectiveSettings(overhead="mac")}, "did you mean 'macs'"),
    "over limit": ({"objective": ObjectiveSettings(over_limit="")}, "give one of mask, penalty"),
    "yield": ({"objective": ObjectiveSettings("yield")}, "objective.threshold is not given"),
    "threshold": ({"objective": ObjectiveSettings(threshold=90)}, r"in \[0, 1\], such as 0.9"),
    "quantile": ({"objective": ObjectiveSettings(quantile=5)}, r"quantile is 5; give .* \[0, 1\]"),
    "k": ({"objective": ObjectiveSettings(k=-1)}, "objective.k is -1"),
}


@pytest.mark.parametrize(("change", "message"), ERRORS.values(), ids=ERRORS)
def test_what_cannot_be_is_said(change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"layers": LAYERS, "variant": CompensationVariant(), "limit": 0.05}
    with pytest.raises(CnetError, match=message):
        placement_problem(lenet_cost(), **{**given, **change})


@pytest.mark.parametrize(
    ("placement", "message"),
    [
        ({"conv3": 0.5}, "'conv3', which is no candidate layer; candidates are conv1"),
        ({"conv1": 0.3}, "gives 'conv1' 0.3, which is no choice"),
        ({"conv1": "digital"}, "choices are 0.0, 0.125, 0.25, 0.5, 1.0"),
    ],
)
def test_a_placement_outside_the_problem_is_said(placement: Any, message: str) -> None:
    with pytest.raises(CnetError, match=message):
        lenet_problem(digital=False).plan_of(placement)


@pytest.mark.parametrize(
    ("ray", "message"),
    [
        (RaySettings(workers=-1), "ray.workers is -1"),
        (RaySettings(num_cpus=0), "ray.num_cpus is 0"),
        (RaySettings(address="auto", num_cpus=2), "the cluster at ray.address=auto has the CPUs"),
        (RaySettings(cpus_per_worker=0), "ray.cpus_per_worker is 0"),
        (RaySettings(gpus_per_worker=-1), "ray.gpus_per_worker is -1"),
        (RaySettings(dashboard_port=0), "ray.dashboard_port is 0"),
    ],
)
def test_ray_settings_that_cannot_be_are_said(ray: RaySettings, message: str) -> None:
    with pytest.raises(CnetError, match=message):
        validate_ray_settings(ray)
