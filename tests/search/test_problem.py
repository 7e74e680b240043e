"""The placement problem: costs, limits, counts and rewards are those of the networks built."""

import itertools
import json
from collections import Counter
from dataclasses import replace
from functools import cache
from math import inf
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cnet_aihw.cluster import RaySettings, validate_ray_settings
from cnet_aihw.compensation import (
    PAPER,
    Affine,
    LowRank,
    NetworkCost,
    Placement,
    compensate,
    compensated_layers,
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
    SpaceSettings,
    counting,
    placement_problem,
)
from cnet_aihw.search.counting import count_within
from cnet_aihw.zoo import VGG16, LeNet5

LAYERS = ("conv1", "conv2", "fc1", "fc2", "fc3")


def lenet() -> nn.Module:
    return convert_to_analog(LeNet5(), RRAMRPUConfig()).eval()


@cache
def lenet_cost() -> NetworkCost:
    return network_cost(lenet(), torch.zeros(1, 1, 28, 28))


def lenet_problem(
    limit: float | None = 0.1,
    digital: bool = True,
    limit_macs: float | None = None,
    **objective: Any,
) -> PlacementProblem:
    return placement_problem(
        lenet_cost(),
        LAYERS,
        PAPER,
        limit,
        SpaceSettings(digital=digital),
        ObjectiveSettings(**objective),
        limit_macs=limit_macs,
    )


@st.composite
def problems(draw: st.DrawFn) -> PlacementProblem:
    """Small problems whose overheads are whole numbers / 100, so that many sums are equal."""
    layers, choices = draw(st.integers(1, 4)), draw(st.integers(2, 3))
    row = st.lists(st.integers(1, 9), min_size=choices - 1, max_size=choices - 1)
    weights, macs = (
        tuple((0.0, *(units / 100 for units in draw(row))) for _ in range(layers)) for _ in range(2)
    )
    limit = st.none() | st.integers(0, 20)
    limits = [None if units is None else units / 100 for units in (draw(limit), draw(limit))]
    return PlacementProblem(
        tuple(CandidateLayer(f"l{i}", "linear", 4, 4, 1, i / layers) for i in range(layers)),
        tuple(i / (choices - 1) for i in range(choices)),
        weights,
        macs,
        *limits,
        ObjectiveSettings(),
    )


def every_encoding(problem: PlacementProblem) -> list[tuple[int, ...]]:
    return list(itertools.product(range(len(problem.choices)), repeat=len(problem.layers)))


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.integers(0, 5)] * 5))
def test_overheads_are_those_of_the_network_that_is_built(encoding: tuple[int, ...]) -> None:
    problem = lenet_problem()
    placement = problem.placement(encoding)
    cost = compensation_cost(lenet_cost(), placement, PAPER)
    assert problem.overhead_weights(encoding) == pytest.approx(cost.overhead_weights, abs=1e-12)
    assert problem.overhead_macs(encoding) == pytest.approx(cost.overhead_macs, abs=1e-12)
    model = lenet()
    weights = count_weights(model)
    layers = dict(model.named_modules())
    digital = sum(count_weights(layers[n]) for n, r in placement.items() if r == "digital")
    added = sum(p.numel() for p in compensation_parameters(compensate(model, placement)).values())
    assert problem.overhead_weights(encoding) == pytest.approx(
        (added + digital) / weights, abs=1e-12
    )
    assert problem.encode(placement) == encoding


def test_a_placement_leaves_out_what_is_left_as_it_is() -> None:
    assert dict(lenet_problem().placement((1, 0, 0, 5, 0))) == {"conv1": 0.125, "fc2": "digital"}
    assert dict(lenet_problem().placement((0,) * 5)) == {}


@settings(max_examples=50, deadline=None)
@given(problems())
def test_a_choice_is_masked_when_no_plan_with_it_fits(problem: PlacementProblem) -> None:
    fitting = [
        encoding
        for encoding in every_encoding(problem)
        if all(
            limit is None or sum(c[i] for c, i in zip(costs, encoding, strict=True)) <= limit + 1e-9
            for costs, limit in (
                (problem.weights, problem.limit),
                (problem.macs, problem.limit_macs),
            )
        )
    ]
    for encoding in fitting:
        for length in range(len(problem.layers)):
            prefix = encoding[:length]
            possible = {other[length] for other in fitting if other[:length] == prefix}
            mask = problem.mask(prefix)
            assert {choice for choice, allowed in enumerate(mask) if allowed} == possible


@settings(max_examples=50, deadline=None)
@given(problems())
def test_plans_are_those_that_fit_in_order_and_counted(problem: PlacementProblem) -> None:
    fitting = [encoding for encoding in every_encoding(problem) if problem.fits(encoding)]
    assert list(problem.encodings()) == fitting
    assert problem.count() == len(fitting)
    assert problem.size == len(every_encoding(problem))


@pytest.mark.parametrize("limits", [(0.05, None), (None, 0.05), (0.05, 0.05)])
def test_the_plans_of_a_large_network_are_counted(limits: tuple[float | None, ...]) -> None:
    """Against a table of whole numbers of weights and MACs spent."""
    model = convert_to_analog(VGG16(width=0.25), RRAMRPUConfig()).eval()
    network = network_cost(model, torch.zeros(1, 3, 32, 32))
    problem = placement_problem(
        network,
        list(network.layers),
        PAPER,
        limits[0],
        limit_macs=limits[1],
    )
    totals = (network.weights, network.macs)
    most = [inf if share is None else share * n for share, n in zip(limits, totals, strict=True)]
    ways = Counter({(0, 0): 1})
    for layer in problem.layers:
        spent: Counter[tuple[int, int]] = Counter()
        for choice in problem.choices:
            cost = compensation_cost(network, Placement({layer.name: choice}), PAPER)
            more = cost.weights[layer.name], cost.macs[layer.name]
            for before, count in ways.items():
                # a sum without a limit is of no interest
                now = [(a + b) * (m < inf) for a, b, m in zip(before, more, most, strict=True)]
                if all(n <= m for n, m in zip(now, most, strict=True)):
                    spent[now[0], now[1]] += count
        ways = spent
    assert problem.count() == ways.total() < problem.size


def test_both_limits_count_whatever_the_objective_names() -> None:
    encoding = (4, 0, 0, 0, 0)  # conv1: few weights on a large map
    by_weights, by_macs = lenet_problem(0.02), lenet_problem(0.02, overhead="macs")
    assert by_weights.overhead(encoding) == by_weights.overhead_weights(encoding)
    assert by_macs.overhead(encoding) == by_macs.overhead_macs(encoding)
    assert by_weights.fits(encoding) and by_macs.fits(encoding)
    for limit in (0.02, None):
        assert not lenet_problem(limit, limit_macs=0.02).fits(encoding)
    both = lenet_problem(0.02, limit_macs=0.5)
    weights, macs = both.overhead_weights(encoding), both.overhead_macs(encoding)
    assert both.price(encoding) == pytest.approx(weights / 0.02 + macs / 0.5)
    assert lenet_problem(None).price(encoding) == pytest.approx(weights)
    free = lenet_problem(0.02, overhead="none")
    assert free.reward(encoding, Evaluation((0.5,), 0.0)) == 0.5
    assert free.reward((5,) * 5, None) == -free.overhead_weights((5,) * 5) < 0


SCORES = (0.5, 0.9, 0.7, 0.8, 0.6)
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
    encoding = problem.encode({"conv1": 0.5, "fc3": 0.125})
    evaluation = Evaluation(SCORES, 1.0)
    assert problem.fits(encoding)
    expected = worth - problem.overhead_weights(encoding)
    assert problem.reward(encoding, evaluation) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("scores", "kind", "worth"),
    [
        ((0.5, None), "mean", 0.25),  # worth 0
        ((-2.0, 0.5, None), "mean", -3.5 / 3),  # an R2: worth as little as the worst other chip
        ((-2.0, 0.5, None, None), "quantile", -2.0),
    ],
)
def test_a_failed_chip_is_worth_no_more_than_any_other(
    scores: tuple[float | None, ...], kind: str, worth: float
) -> None:
    problem = lenet_problem(kind=kind, overhead="none")
    assert problem.reward((0,) * 5, Evaluation(scores, 1.0)) == pytest.approx(worth)


def test_over_the_limit_the_reward_is_minus_the_overhead() -> None:
    problem = lenet_problem()
    encoding = (4, 4, 4, 4, 4)
    assert not problem.fits(encoding)
    assert problem.reward(encoding, None) == -problem.overhead(encoding)


def test_an_evaluation_comes_back_from_its_record() -> None:
    evaluation = Evaluation(SCORES, 1.5)
    record = json.loads(json.dumps(evaluation.as_record()))
    assert Evaluation.from_record(record) == evaluation
    assert evaluation.bad_tail() == pytest.approx(0.52)
    assert evaluation.bad_tail(higher_is_better=False) == pytest.approx(0.88)
    failed = Evaluation((0.5, None), 1.0)
    assert Evaluation.from_record(json.loads(json.dumps(failed.as_record()))) == failed
    assert (failed.mean, failed.std) == (0.5, 0.0)
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


def test_sizes_are_choices_in_place_of_ratios() -> None:
    space = SpaceSettings(sizes=[2, 0, 40], digital=True)
    problem = placement_problem(lenet_cost(), LAYERS, LowRank(), None, space, limit_macs=None)
    assert problem.choices == (0.0, "size 0", "size 2", "size 40", "digital")
    weights = [w * 61_706 for w in problem.weights[1]]  # conv2: 6 + 16 features, 16 channels
    assert weights == pytest.approx([0, 32, 32 + 2 * 38, 32 + 16 * 38, 16 * 151])
    assert problem.macs[1][1] == 0.0
    placement = problem.placement((0, 1, 2, 3, 4))
    assert Placement.parse(placement.to_json()) == Placement.parse(placement.to_yaml()) == placement
    assert problem.encode(placement) == (0, 1, 2, 3, 4)
    sizes = {
        name: layer.size
        for name, layer in compensated_layers(compensate(lenet(), placement, LowRank())).items()
    }
    assert sizes == {"conv2": 0, "fc1": 2, "fc2": 40, "fc3": 0}


@pytest.mark.parametrize("limit", [None, 0.5])
def test_each_placement_is_one_encoding_also_where_a_layer_is_narrower_than_its_choices(
    limit: float | None,
) -> None:
    net = nn.Sequential(nn.Linear(6, 3), nn.ReLU(), nn.Linear(3, 12), nn.ReLU(), nn.Linear(12, 1))
    cost = network_cost(convert_to_analog(net, RRAMRPUConfig()).eval(), torch.zeros(1, 6))
    corrector, names = LowRank(), list(cost.layers)
    problem = placement_problem(
        cost, names, corrector, limit, SpaceSettings(sizes=[0, 1, 2, 4]), limit_macs=None
    )

    def built(encoding: tuple[int, ...]) -> tuple[tuple[str, int], ...]:
        placed = problem.placement(encoding)
        return tuple((n, corrector.size(cost.layers[n].shape, r)) for n, r in placed.items())

    every = [e for e in itertools.product(range(5), repeat=3) if problem.fits(e)]
    encodings = list(problem.encodings())
    assert len({built(e) for e in every}) == len(encodings) == problem.count() < len(every)
    assert {built(e) for e in every} == {built(e) for e in encodings}
    for encoding in every:
        canonical = problem.canonical(encoding)
        assert canonical in encodings and built(canonical) == built(encoding)
    assert "repeats" not in lenet_problem().as_record()
    assert problem.as_record()["repeats"] == [[], [], [3, 4]]


def test_the_fingerprint_tells_problems_apart() -> None:
    problem = lenet_problem()
    others = [
        replace(problem, limit=0.2),
        replace(problem, limit=None),
        replace(problem, limit_macs=0.2),
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


def test_rewards_can_be_relative_to_the_clean_score() -> None:
    encoding = (1, 0, 0, 0, 0)
    evaluation = Evaluation((4.0, 5.0, None), 1.0)
    given: dict[str, Any] = {"layers": LAYERS, "limit": 0.1, "limit_macs": None}
    higher = placement_problem(lenet_cost(), **given, reference=10.0)
    assert higher.worth(evaluation) == pytest.approx((0.4 + 0.5 + 0.0) / 3)
    lower = placement_problem(lenet_cost(), **given, reference=2.0, higher_is_better=False)
    assert lower.worth(evaluation) == pytest.approx((0.5 + 0.4 + 0.0) / 3)
    assert lower.reward(encoding, evaluation) == lower.worth(evaluation) - lower.overhead(encoding)
    reached = placement_problem(
        lenet_cost(),
        **given,
        objective=ObjectiveSettings("yield", threshold=4.0),
        reference=2.0,
        higher_is_better=False,
    )
    assert reached.worth(evaluation) == pytest.approx(1 / 3)
    assert len({p.fingerprint() for p in (higher, lower, reached)}) == 3


def test_the_cheapest_reach_what_is_wanted_and_others_are_behind_all_of_them() -> None:
    objective = ObjectiveSettings(direction="cheapest", drop=0.1)
    problem = placement_problem(
        lenet_cost(), LAYERS, limit=None, limit_macs=None, objective=objective, reference=0.8
    )
    reach, miss, far = (Evaluation((score,), 1.0) for score in (0.72, 0.71, 0.3))
    none, everywhere = (0, 0, 0, 0, 0), (4, 4, 4, 4, 4)
    assert problem.reward(none, reach) == 0.0
    assert problem.reward(everywhere, reach) == -problem.overhead_weights(everywhere)
    assert problem.reward(none, miss) < problem.reward(everywhere, reach)
    assert problem.reward(none, far) == pytest.approx(
        problem.reward(none, miss) - (0.71 - 0.3) / 0.8
    )
    limited = replace(problem, limit=problem.overhead_weights(none) + 1e-6)
    assert limited.reward(everywhere, None) < limited.reward(none, miss)  # over the limit
    assert problem.shortfall(reach) == 0.0
    assert problem.shortfall(miss) == pytest.approx(0.9 - 0.71 / 0.8)
    assert lenet_problem().shortfall(miss) is None


def test_a_corrector_without_a_size_is_there_or_not() -> None:
    space = SpaceSettings([0.0, 1.0])
    problem = placement_problem(lenet_cost(), LAYERS, Affine(), 0.1, space)
    assert problem.weights[0] == (0.0, 2 * 6 / 61_706)
    with pytest.raises(CnetError) as error:
        placement_problem(lenet_cost(), LAYERS, Affine(), 0.1)
    assert error.value.key == "ratio"


ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "no layer": ({"layers": []}, "layers"),
    "unknown layer": ({"layers": ["conv3"]}, "layers"),
    "limit": ({"limit": 1e-4}, "limit"),
    "limit in MACs": ({"limit_macs": 1e-4}, "limit_macs"),
    "negative limit in MACs": ({"limit_macs": -0.1}, "limit_macs"),
    "negative limit": ({"limit": -0.1}, "limit"),
    "NaN": ({"limit": float("nan")}, "limit"),
    "no zero": ({"space": SpaceSettings([0.5])}, "search.ratios"),
    "size below 0": ({"space": SpaceSettings(sizes=[-1])}, "search.sizes"),
    "size twice": ({"space": SpaceSettings(sizes=[1, 1])}, "search.sizes"),
    "size 0 of a generator": ({"space": SpaceSettings(sizes=[0, 1])}, "size"),
    "zero alone": ({"space": SpaceSettings([0.0])}, "search.ratios"),
    "large ratio": ({"space": SpaceSettings([0.0, 2.0])}, "search.ratios"),
    "twice": ({"space": SpaceSettings([0.0, 0.5, 0.5])}, "search.ratios"),
    "objective": ({"objective": ObjectiveSettings("means")}, "objective.kind"),
    "measure": ({"objective": ObjectiveSettings(overhead="mac")}, "objective.overhead"),
    "over limit": ({"objective": ObjectiveSettings(over_limit="")}, "objective.over_limit"),
    "yield": ({"objective": ObjectiveSettings("yield")}, "objective.threshold"),
    "threshold": ({"objective": ObjectiveSettings(threshold=np.inf)}, "objective.threshold"),
    "quantile": ({"objective": ObjectiveSettings(quantile=5)}, "objective.quantile"),
    "k": ({"objective": ObjectiveSettings(k=-1)}, "objective.k"),
    "no reference": ({"higher_is_better": False}, "reference"),
    "cheapest of what": ({"objective": ObjectiveSettings(direction="cheapest")}, "reference"),
    "direction": ({"objective": ObjectiveSettings(direction="least")}, "objective.direction"),
    "drop": ({"objective": ObjectiveSettings(drop=1.0)}, "objective.drop"),
    "costs nothing": (
        {"objective": ObjectiveSettings(direction="cheapest", overhead="none"), "reference": 1.0},
        "objective.overhead",
    ),
    "reference": ({"reference": 0.0}, "reference"),
}


@pytest.mark.parametrize(("change", "key"), ERRORS.values(), ids=ERRORS)
def test_what_cannot_be_is_refused(change: dict[str, Any], key: str) -> None:
    given: dict[str, Any] = {"layers": LAYERS, "corrector": PAPER, "limit": 0.05}
    with pytest.raises(CnetError) as error:
        placement_problem(lenet_cost(), **{**given, **change})
    assert error.value.key == key


def test_a_typing_error_is_answered_with_the_nearest_word() -> None:
    with pytest.raises(CnetError, match=r"did you mean 'mean'\?"):
        placement_problem(lenet_cost(), LAYERS, objective=ObjectiveSettings("means"))


@pytest.mark.parametrize("placement", [{"conv3": 0.5}, {"conv1": 0.3}, {"conv1": "digital"}])
def test_a_placement_outside_the_problem_is_refused(placement: Any) -> None:
    with pytest.raises(CnetError) as error:
        lenet_problem(digital=False).encode(placement)
    ((name, value),) = placement.items()
    assert (error.value.key, error.value.value) == (f"placement.{name}", value)


@pytest.mark.parametrize(
    ("ray", "key"),
    [
        (RaySettings(workers=-1), "ray.workers"),
        (RaySettings(num_cpus=0), "ray.num_cpus"),
        (RaySettings(address="auto", num_cpus=2), "ray.num_cpus"),
        (RaySettings(cpus_per_worker=0), "ray.cpus_per_worker"),
        (RaySettings(gpus_per_worker=-1), "ray.gpus_per_worker"),
        (RaySettings(dashboard_port=0), "ray.dashboard_port"),
    ],
)
def test_ray_settings_that_cannot_be_are_refused(ray: RaySettings, key: str) -> None:
    with pytest.raises(CnetError) as error:
        validate_ray_settings(ray)
    assert error.value.key == key


def test_very_many_sums_are_counted_from_below(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    costs = rng.uniform(0.001, 0.05, (2, 6, 4))
    costs[..., 0] = 0.0
    limits = [0.1, 0.12]
    totals = np.array([np.add.outer(0.0, rows[0]).ravel() for rows in costs])
    for layer in range(1, 6):
        totals = (totals[:, :, None] + costs[:, layer, None, :]).reshape(2, -1)
    exact = int((totals <= np.array(limits)[:, None]).all(0).sum())
    assert count_within(costs.tolist(), limits) == exact
    monkeypatch.setattr(counting, "_MOST", 20)
    assert 0.95 * exact < count_within(costs.tolist(), limits) <= exact
