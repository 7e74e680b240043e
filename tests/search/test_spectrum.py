"""Placement by gains: against all placements, and gains against errors measured directly."""

import types
from dataclasses import replace

import numpy as np
import pytest
import torch

from cnet_aihw.compensation import (
    LowRank,
    PerChipFit,
    PerChipSettings,
    Placement,
    compensate,
    network_cost,
)
from cnet_aihw.rram import LogNormalNoiseModel, RRAMRPUConfig, convert_to_analog, programmed
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.random_state import derive_seed, seeded_rng
from cnet_aihw.runtime.records import read_records
from cnet_aihw.search import (
    CandidateLayer,
    Evaluation,
    Evaluations,
    ObjectiveSettings,
    PerChipEvaluator,
    PlacementProblem,
    SearchContext,
    SpaceSettings,
    placement_problem,
    run_search,
)
from cnet_aihw.search.searchers import (
    CoordinateSearcher,
    EvolutionSearcher,
    RandomSearcher,
    SpectrumSearcher,
)
from cnet_aihw.search.searchers.spectrum import placed_by_gains

from . import synthetic
from .evaluator_cases import DATA, network

SIZES = SpaceSettings(sizes=[0, 1, 3], digital=True)


def evaluator(model, **changes):
    arguments = {"chips": 2, "samples": 50, "device": "cpu", "seed": 3} | changes
    return PerChipEvaluator(model, DATA.val, DATA.train.x[:100], **arguments)


def problem_of(model, limit=None, limit_macs=None):
    cost = network_cost(model, DATA.val.x[:1])
    return placement_problem(cost, ["0", "2", "4"], LowRank(), limit, SIZES, limit_macs=limit_macs)


@pytest.mark.parametrize("limits", [(0.2, None), (0.2, 0.15), (None, 0.1), (None, None)])
@pytest.mark.parametrize("seed", [1, 2])
def test_it_is_near_the_best_of_all_placements(limits, seed):
    s = synthetic.Synthetic(synthetic.FIVE, 0.2, seed)
    rng = np.random.default_rng(seed)
    macs = tuple(tuple(float(c * rng.uniform(0.3, 2.0)) for c in row) for row in s.problem.macs)
    problem = replace(s.problem, macs=macs, limit=limits[0], limit_macs=limits[1])
    gains = np.sort(s.gains(problem), 1)  # as those of closed-form fits: more is better
    index = np.arange(5)
    best = max(gains[index, list(encoding)].sum() for encoding in problem.encodings())
    found = placed_by_gains(problem, gains)
    assert problem.fits(found)
    assert gains[index, list(found)].sum() > 0.99 * best


@pytest.mark.parametrize("seed", [4, 32, 180])
def test_a_placement_that_takes_all_of_a_limit_is_reached(seed):
    """Shares of 1/997 add up to the limit but for their last bits, whole numbers to it."""
    rng = np.random.default_rng(seed)
    whole = np.sort(rng.integers(1, 30, (4, 4)), 1)
    whole[:, 0] = 0
    limit = whole[np.arange(4), rng.integers(0, 4, 4)].sum()
    gains = np.sort(rng.random((4, 4)), 1)
    gains[:, 0] = 0.0
    layers = tuple(CandidateLayer(str(n), "linear", 4, 4, 1, 0.0) for n in range(4))

    def placed(unit):
        costs = tuple(tuple(float(c / unit) for c in row) for row in whole)
        problem = PlacementProblem(
            layers, (0.0, 0.25, 0.5, 1.0), costs, costs, limit / unit, None, ObjectiveSettings()
        )
        return placed_by_gains(problem, gains)

    assert placed(997) == placed(1)


def test_only_the_result_is_evaluated():
    s = synthetic.Synthetic(synthetic.FIVE, 0.2)
    evaluations = Evaluations(
        s.problem,
        lambda placements: [(Evaluation(s.evaluate(p), 0.0), False) for p in placements],
        25,
        gains=s.gains,
    )
    rng = np.random.default_rng(0)
    SpectrumSearcher().search(s.problem, evaluations, rng, SearchContext())
    assert len(s.evaluated) == 1
    assert evaluations.best.encoding == placed_by_gains(s.problem, np.array(s.gains(s.problem)))


def test_an_evaluator_without_gains_is_refused():
    s = synthetic.Synthetic(synthetic.SMALL, 0.2)
    evaluations = Evaluations(s.problem, lambda placements: [], 25)
    with pytest.raises(CnetError) as error:
        SpectrumSearcher().search(s.problem, evaluations, np.random.default_rng(0), SearchContext())
    assert error.value.key == "search.evaluator.kind"


def test_gains_are_the_drop_of_the_error_of_each_layer():
    model = network().eval()
    problem = problem_of(model)
    gains = evaluator(model).gains(problem)
    assert len(gains) == 3 and all(row[0] == 0.0 for row in gains)
    assert all(sorted(row) == row for row in gains)
    # of the first layer, directly: nothing is before it
    x, expected = DATA.train.x[:100], np.zeros(5)
    with torch.no_grad():
        wanted = model[0](x)
        for chip in range(2):
            with programmed(model, derive_seed(3, chip)):
                errors = [(model[0](x) - wanted).square().mean().item()]
                for choice in problem.choices[1:4]:
                    compensate(model, Placement({"0": choice}), LowRank())
                    with PerChipFit(x)(model):
                        errors.append((model[0](x) - wanted).square().mean().item())
                    model[0] = model[0].base_layer
                errors.append(0.0)
            channels = wanted.movedim(1, 3).flatten(0, 2)
            variance = channels.var(0, correction=0).mean().item()
            expected += (errors[0] - np.array([errors[0], *errors[1:]])) / variance / 2
    assert gains[0] == pytest.approx(expected, rel=2e-3)


def test_gains_weighted_by_a_loss_that_does_not_see_a_layer_are_numbers():
    """Behind outputs below 0, a ReLU passes no gradient: all channels count the same there."""

    class Beside(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.seen, self.unseen, self.last = (torch.nn.Linear(n, 3) for n in (6, 6, 3))
            torch.nn.init.constant_(self.unseen.bias, -100.0)

        def forward(self, x):
            return self.last(torch.relu(self.seen(x)) + torch.relu(self.unseen(x)))

    with seeded_rng(0):
        model = convert_to_analog(Beside(), RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.3)))
        x = torch.randn(40, 6)
    data, names = (x, model(x).argmax(1)), ["seen", "unseen", "last"]
    cost = network_cost(model, x[:1])
    problem = placement_problem(cost, names, LowRank(), 0.5, SIZES, limit_macs=None)

    def gains(weighting):
        fit = PerChipSettings(weighting=weighting)
        return PerChipEvaluator(model, data, x, chips=1, fit=fit, device="cpu").gains(problem)

    weighted, plain = gains("loss"), gains("none")
    assert weighted[1] == pytest.approx(plain[1])
    assert all(0.0 < row[1] < row[2] < row[3] <= row[4] for row in weighted)
    assert problem.fits(placed_by_gains(problem, np.array(weighted)))


def test_a_search_with_gains_of_chips_stays_within_both_limits():
    model = network().eval()
    problem = problem_of(model, 0.4, 0.1)
    made = evaluator(model)
    found = placed_by_gains(problem, np.array(made.gains(problem)))
    assert problem.fits(found) and any(found)
    assert made.gains(problem) == made.gains(problem)


@pytest.mark.parametrize("searcher", [CoordinateSearcher(), EvolutionSearcher(), RandomSearcher()])
def test_no_search_that_begins_with_it_ends_behind_it(searcher, tmp_path):
    s = synthetic.Synthetic(synthetic.VGG16, 0.05)
    alone = run_search(s.problem, s, SpectrumSearcher(), tmp_path / "alone", progress=False)
    for first in ("spectrum", "auto"):
        folder = tmp_path / first
        result = run_search(s.problem, s, searcher, folder, budget=15, first=first, progress=False)
        rows = read_records(folder / "search.jsonl")
        assert tuple(rows[0]["encoding"]) == alone.encoding
        assert (len(rows), result.evaluations) == (15, 15)
        assert result.reward >= alone.reward
    own = run_search(s.problem, s, searcher, tmp_path / "own", budget=15, progress=False)
    rows = read_records(tmp_path / "own" / "search.jsonl")
    assert own.encoding != alone.encoding and tuple(rows[0]["encoding"]) != alone.encoding
    with pytest.raises(CnetError):  # what is evaluated first belongs to the search
        run_search(s.problem, s, searcher, folder, budget=15, progress=False)


def test_it_cannot_come_first_where_gains_are_not_known(tmp_path):
    s = synthetic.Synthetic(synthetic.FIVE, 0.2)
    without = types.SimpleNamespace(key=s.key, describe=s.describe, evaluate=s.evaluate)
    with pytest.raises(CnetError) as error:
        run_search(s.problem, without, RandomSearcher(), tmp_path, first="spectrum")
    assert error.value.key == "first"
    result = run_search(
        s.problem, without, RandomSearcher(), tmp_path, budget=3, first="auto", progress=False
    )
    assert result.evaluations == 3
