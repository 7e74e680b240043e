"""The evaluator that fits each chip: its values, keys, and what it leaves behind."""

import pickle

import cloudpickle
import pytest
import torch
from torch import nn

from cnet_aihw.compensation import (
    LowRank,
    PerChipFit,
    PerChipSettings,
    Placement,
    WithCompensation,
    compensate,
)
from cnet_aihw.evaluation import evaluate_chips
from cnet_aihw.rram import (
    CompositeNoiseModel,
    LogNormalNoiseModel,
    PowerLawDriftNoiseModel,
    ReadNoiseModel,
    RRAMRPUConfig,
    analog_layers,
    convert_to_analog,
)
from cnet_aihw.search import PerChipEvaluator
from cnet_aihw.search.evaluators.bounded_memory import BoundedMemory
from cnet_aihw.search.evaluators.reuse import ReusingFit

from .evaluator_cases import DATA, network, problem_of

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


def test_fits_at_another_time_than_that_of_the_measurement_are_those_of_an_evaluation(model):
    drifting = {"noise_model": CompositeNoiseModel(
        [LogNormalNoiseModel(0.4), PowerLawDriftNoiseModel(0.05, 0.03)]
    ), "t_inference": 1e6}  # fmt: skip
    made = evaluator(model, fit=PerChipSettings(at=1.0), **drifting)
    part, fit = (DATA.val.x[:200], DATA.val.y[:200]), PerChipFit(DATA.train.x[:100], at=1.0)
    for last in (0.5, 0.5, 0.1, 0.0, 0.1, 0.5):  # all but the last layer is reused
        placement = Placement({"0": 0.5, "2": 0.34, "4": last})
        calibration = WithCompensation(placement, LowRank(), fit)
        alone = evaluate_chips(model, part, chips=4, seed=3, calibration=calibration, **drifting)
        assert made.evaluate(placement) == alone.scores


def test_no_corrector_is_the_network_as_it_is_and_nothing_is_left_of_a_placement(model):
    made = evaluator(model)
    bare, corrected = made.evaluate(Placement({})), made.evaluate(EVERYWHERE)
    part = (DATA.val.x[:200], DATA.val.y[:200])
    assert bare == evaluate_chips(model, part, chips=4, seed=3).scores
    assert corrected != bare
    assert made.evaluate(EVERYWHERE) == corrected


@pytest.mark.parametrize(
    "change",
    [{"fit": PerChipSettings(ridge=1e-2)}, {"chips": 5}, {"seed": 4}, {"corrector": LowRank("x")}],
)
def test_the_key_tells_settings_apart(model, change):
    assert evaluator(model).key() == evaluator(model).key()
    assert evaluator(model, **change).key() != evaluator(model).key()


def test_it_goes_to_another_process(model):
    made = evaluator(model)
    there = pickle.loads(cloudpickle.dumps(made))
    assert there.key() == made.key()
    assert there.evaluate(EVERYWHERE) == made.evaluate(EVERYWHERE)


# -- reuse


PLACEMENTS = [
    Placement(dict(zip(("0", "2", "4"), values, strict=True)))
    for values in (
        *[
            ("size 1", "size 1", "size 0"),
            ("size 1", "size 1", "size 2"),
            ("size 1", 0.0, "size 2"),
        ],
        *[("size 1", "size 1", "size 3"), ("size 1", "digital", "size 1"), (0.0, 0.5, 0.0)],
        *[("size 1", "size 1", 0.0), ("size 1", "digital", "size 0"), (0.0, 0.0, "digital")],
        *[("size 1", "size 3", "size 3"), (0.0, 0.0, 0.0), ("size 1", "digital", "size 2")],
        *[("size 1", "size 3", "size 4"), ("size 1", "size 3", "size 2"), (0.0, 0.5, "size 1")],
    )
]


@pytest.mark.parametrize("memory", [10**4, 10**6, 2**30])
def test_what_placements_have_in_common_changes_no_value(model, memory):
    alone, reusing = evaluator(model, memory=0), evaluator(model, memory=memory)
    for placement in PLACEMENTS:
        assert reusing.evaluate(placement) == alone.evaluate(placement)
    assert reusing.key() == alone.key()
    assert 0 <= reusing._fit.memory.bytes <= memory


def test_wanted_outputs_that_take_too_much_memory_change_no_value(model, monkeypatch):
    expected = evaluator(model, chips=2)
    expected = [expected.evaluate(placement) for placement in PLACEMENTS[:4]]
    monkeypatch.setattr("cnet_aihw.compensation.targets.kept_bytes", lambda _: 0)
    made = evaluator(model, chips=2)
    assert [made.evaluate(placement) for placement in PLACEMENTS[:4]] == expected


def test_later_layers_alone_are_computed_when_the_first_ones_are_known(model):
    made = evaluator(model, chips=1)
    calls = []
    first = lambda count: Placement({"0": "size 1", "2": "size 1", "4": f"size {count}"})  # noqa: E731
    for count in range(4):
        made.evaluate(first(count))
        layer = analog_layers(made._network._resident)["0"]
        if count == 0:
            layer.register_forward_hook(lambda *_: calls.append(1))
        else:
            calls.append(0)
    # two passes in the second and third placement (seen, then kept), none in the last but targets
    assert calls.count(1) > 0
    calls.clear()
    made.evaluate(first(4))
    assert sum(calls) == 0


def test_a_branch_is_not_cut():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x):
            x = torch.relu(self.a(x))
            return self.c(x + torch.relu(self.b(x)))

    torch.manual_seed(0)
    model = convert_to_analog(Residual(), RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.5)))
    fit = ReusingFit(torch.randn(20, 4))
    fit.begin(model.eval())
    assert fit._cuts == {"a", "c"}


class Folded(nn.Module):
    """Layers whose outputs have steps of samples along their first axis; takes a keyword."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, steps):
        n, t, _ = steps.shape
        x = torch.relu(self.a(steps.flatten(0, 1)).view(n, t, 4))
        x = torch.relu(self.b(x.flatten(0, 1)).view(n, t, 4))
        return self.c(x.mean(1))


@pytest.mark.parametrize("named", [False, True])
def test_reuse_takes_named_inputs_and_layers_that_see_steps_as_samples(named):
    torch.manual_seed(0)
    model = convert_to_analog(Folded(), RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.5)))
    steps, y = torch.randn(70, 3, 4), torch.randint(4, (70,))
    x, some = ({"steps": steps}, {"steps": steps[:30]}) if named else (steps, steps[:30])
    settings = {"chips": 2, "batch_size": 40, "device": "cpu"}
    alone, reusing = (
        PerChipEvaluator(model.eval(), (x, y), some, memory=memory, **settings)
        for memory in (0, 2**30)
    )
    for count in (0, 1, 2, 3):
        placement = Placement({"a": "size 1", "b": "size 1", "c": f"size {count}"})
        assert reusing.evaluate(placement) == alone.evaluate(placement)
    assert reusing._fit.memory.bytes > 0


def test_with_read_noise_a_value_does_not_depend_on_what_was_evaluated_before():
    noisy = CompositeNoiseModel([LogNormalNoiseModel(0.5), ReadNoiseModel(0.2)])
    model = network().eval()
    first, later = Placement({"0": "size 1"}), Placement({"0": "size 1", "4": "size 1"})
    made = evaluator(model, noise_model=noisy)
    for _ in range(3):
        made.evaluate(later)
    part = (DATA.val.x[:200], DATA.val.y[:200])
    fit = WithCompensation(first, LowRank(), PerChipFit(DATA.train.x[:100]))
    expected = evaluate_chips(model, part, chips=4, seed=3, noise_model=noisy, calibration=fit)
    assert made.evaluate(first) == expected.scores


def test_gains_are_those_of_the_chips_also_after_an_evaluation_that_was_stopped(model, monkeypatch):
    problem = problem_of(model, LowRank(), limit=10.0, ratios=(0.0, 0.2))
    largest = Placement(dict.fromkeys(("0", "2", "4"), 0.2))
    expected, made = evaluator(model, chips=2).gains(problem), evaluator(model, chips=2)
    made.evaluate(largest)
    measured = []

    def stopped(self, *arguments):
        measured.append(1)
        if len(measured) == 2:
            raise KeyboardInterrupt
        return {"score": 0.0}

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("cnet_aihw.evaluation.measurement.Score.__call__", stopped)
        made.evaluate(largest)
    assert made.gains(problem) == expected


def test_the_least_worth_keeping_goes_first():
    memory = BoundedMemory(100)
    memory.put("cheap", 1, 60, 60.0)
    memory.put("dear", 2, 40, 400.0)
    assert memory.get("cheap") == 1
    memory.put("middle", 3, 50, 250.0)
    assert ("cheap" in memory, "dear" in memory, "middle" in memory) == (False, True, True)
    memory.put("large", 4, 101, 1e9)
    memory.put("worthless", 5, 60, 0.1)
    assert memory.get("large") is None and memory.get("worthless") is None
    assert memory.bytes == 90
