"""Tuning on several chips: the same chips as evaluations, correctors beside, resuming."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from cnet_aihw.compensation import LowRank, PerChipFit, Placement, WithCompensation
from cnet_aihw.evaluation import evaluate_chips
from cnet_aihw.rram import LogNormalNoiseModel, RRAMRPUConfig, convert_to_analog, snapshot
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import read_records
from cnet_aihw.training import TrainingParts
from cnet_aihw.tuning import TuningSettings, tune_chips
from cnet_aihw.tuning.statistics import tuning_statistics_of

X = torch.rand(60, 8, generator=torch.Generator().manual_seed(1))
Y = (X[:, :3] * 1.0).argmax(1)
DATA = TrainingParts((X[:40], Y[:40]), (X[40:], Y[40:]))
SETTINGS = TuningSettings(tune="all", epochs=1, batch_size=20)


def network() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
    return convert_to_analog(net, RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.8)))


def correctors() -> WithCompensation:
    placement = Placement({"0": "size 1", "2": "size 1"})
    return WithCompensation(placement, LowRank(), PerChipFit(X[:40]))


def test_chips_are_those_of_an_evaluation_without_and_with_correctors(tmp_path: Path) -> None:
    model, fit = network(), correctors()
    before = snapshot(model)
    given = {"chips": 2, "seed": 4, "others": 1, "calibration": fit, "device": "cpu"}
    found = tune_chips(model, DATA, SETTINGS, tmp_path, **given)
    for calibration, mean in ((None, found.before), (fit, found.per_chip)):
        wanted = evaluate_chips(
            model, DATA.val, chips=2, seed=4, calibration=calibration, device="cpu"
        )
        assert mean == pytest.approx(wanted.mean)
    assert (found.chips, found.writes_most, found.steps, found.forwards) == (2, 3, 2, 40.0)
    assert found.digital_weights == fit.cost(model)
    assert found.overhead == pytest.approx(fit.cost(model) / (8 * 6 + 6 + 6 * 3 + 3))
    for name, tensor in snapshot(model).items():
        assert torch.equal(tensor, before[name])
    assert tuning_statistics_of(found.as_record()) == found
    again = tune_chips(model, DATA, SETTINGS, tmp_path, **{**given, "chips": 3})
    records = read_records(tmp_path / "chips.jsonl")
    assert [record["chip"] for record in records] == [0, 1, 2]
    assert again.score == pytest.approx(sum(record["score"] for record in records) / 3)
    with pytest.raises(CnetError):
        tune_chips(model, DATA, replace(SETTINGS, lr=0.1), tmp_path, **given)


def test_correctors_begin_where_the_fit_to_the_chip_ends(tmp_path: Path) -> None:
    model, fit = network(), correctors()
    given = {"chips": 1, "seed": 4, "calibration": fit, "device": "cpu"}
    still = replace(SETTINGS, tune="correctors", lr=1e-12)
    found = tune_chips(model, DATA, still, tmp_path / "a", **given)
    assert found.score == found.per_chip
    assert (found.tuned_per_chip, found.writes_most) == (None, 1)
    with pytest.raises(CnetError) as caught:
        tune_chips(model, DATA, still, tmp_path / "b", **{**given, "calibration": None})
    assert caught.value.key == "tune"
