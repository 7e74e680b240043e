"""The target of correctors: the better one on validation chips."""

import pytest
import torch
from torch import nn

from cnet_aihw.compensation import (
    LowRank,
    PerChipFit,
    PerChipSettings,
    Placement,
    WithCompensation,
    choose_target,
)
from cnet_aihw.evaluation import evaluate_chips
from cnet_aihw.rram import LogNormalNoiseModel, RRAMRPUConfig, convert_to_analog, programmed
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.tasks import Regression

X = torch.randn(80, 6, generator=torch.Generator().manual_seed(1))
EVERYWHERE = Placement({"0": 1.0})


def network():
    torch.manual_seed(0)
    config = RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.5))
    return convert_to_analog(nn.Sequential(nn.Linear(6, 4)), config).eval()


def clean_outputs(model):
    with torch.no_grad():
        return model(X)


def mean_outputs(model):
    total = torch.zeros(80, 4)
    for chip in range(8):
        with programmed(model, derive_seed(0, "target chip", chip)), torch.no_grad():
            total += model(X) / 8
    return total


def correctors(target="clean"):
    return WithCompensation(EVERYWHERE, LowRank("x"), PerChipFit(X, target=target))


@pytest.mark.parametrize("metric", ["R2", "RMSE"])
@pytest.mark.parametrize(
    ("wanted", "best"), [(clean_outputs, "clean"), (mean_outputs, "mean_over_chips")]
)
def test_the_target_that_scores_better_is_chosen(metric, wanted, best, tmp_path):
    model, task = network(), Regression(metric=metric)
    data = (X, wanted(model))
    given = {"task": task, "chips": 3, "seed": 5, "device": "cpu"}
    found = choose_target(model, data, correctors(), **given, records=tmp_path)
    assert found.target == best
    for target, score in found.scores.items():
        alone = evaluate_chips(model, data, **given, calibration=correctors(target))
        assert alone.mean == score
        assert len((tmp_path / f"target-{target}.jsonl").read_text().splitlines()) == 4
    again = choose_target(model, data, correctors("mean_over_chips"), **given, records=tmp_path)
    assert again == found  # the fit's own target does not count, and nothing is measured again


def test_of_two_that_score_the_same_the_clean_outputs_are_chosen():
    model = network()
    data = (X, clean_outputs(model).argmax(1))
    model[0].analog_module.rpu_config.noise_model = LogNormalNoiseModel(0.0)
    found = choose_target(model, data, correctors(), chips=2, device="cpu")
    assert found.target == "clean" and set(found.scores.values()) == {1.0}


def test_a_fit_itself_needs_one_of_the_two():
    with pytest.raises(CnetError, match="target is 'auto'; expected clean or mean_over_chips"):
        PerChipFit.of(PerChipSettings(target="auto"), X)
