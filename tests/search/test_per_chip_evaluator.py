"""The evaluator that fits each chip: its values, keys, and what it leaves behind."""

import pickle

import cloudpickle
import pytest

from cnet_aihw.compensation import LowRank, PerChipFit, Placement, compensate
from cnet_aihw.evaluation import evaluate_chips
from cnet_aihw.search import PerChipEvaluator

from .evaluator_cases import DATA, network

EVERYWHERE = Placement({"0": 0.5, "2": 0.34, "4": 0.5})


@pytest.fixture
def model():
    return network().eval()


def evaluator(model, **changes):
    arguments = {"chips": 4, "samples": 200, "device": "cpu", "seed": 3} | changes
    return PerChipEvaluator(model, DATA.val, DATA.train.x[:100], **arguments)


def test_values_are_those_of_an_evaluation_with_that_calibration(model):
    found = evaluator(model).evaluate(EVERYWHERE)
    compensate(model, EVERYWHERE, LowRank())
    part = (DATA.val.x[:200], DATA.val.y[:200])
    fit = PerChipFit(DATA.train.x[:100])
    assert evaluate_chips(model, part, chips=4, seed=3, calibration=fit).scores == found


def test_no_corrector_is_the_network_as_it_is_and_nothing_is_left_of_a_placement(model):
    made = evaluator(model)
    bare, corrected = made.evaluate(Placement({})), made.evaluate(EVERYWHERE)
    part = (DATA.val.x[:200], DATA.val.y[:200])
    assert bare == evaluate_chips(model, part, chips=4, seed=3).scores
    assert corrected != bare
    assert made.evaluate(EVERYWHERE) == corrected


@pytest.mark.parametrize(
    "change", [{"ridge": 1e-2}, {"chips": 5}, {"seed": 4}, {"corrector": LowRank("x")}]
)
def test_the_key_tells_settings_apart(model, change):
    assert evaluator(model).key() == evaluator(model).key()
    assert evaluator(model, **change).key() != evaluator(model).key()


def test_it_goes_to_another_process(model):
    made = evaluator(model)
    there = pickle.loads(cloudpickle.dumps(made))
    assert there.key() == made.key()
    assert there.evaluate(EVERYWHERE) == made.evaluate(EVERYWHERE)
