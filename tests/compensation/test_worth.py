"""Errors that are left with more and more filters, and the cost of fitting chips."""

import pytest
import torch
from torch import nn

from cnet_aihw.compensation import (
    LowRank,
    PerChipFit,
    Placement,
    WithCompensation,
    filter_errors,
)
from cnet_aihw.evaluation.chip_run import mean_calibration_cost
from cnet_aihw.rram import LogNormalNoiseModel, RRAMRPUConfig, convert_to_analog, programmed


def test_the_error_left_with_all_filters_is_that_of_the_corrected_layer() -> None:
    torch.manual_seed(0)
    x = torch.randn(400, 6)
    config = RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.5))
    model = convert_to_analog(nn.Sequential(nn.Linear(6, 4)), config).eval()
    with torch.no_grad():
        wanted = model(x)
    for filters in (1, 2):
        calibration = WithCompensation(
            Placement({"0": filters / 4}), LowRank("x"), PerChipFit(x, ridge=0.0)
        )
        with programmed(model, 3), calibration(model), torch.no_grad():
            left = (model(x) - wanted).var(0, correction=0).sum()
        found = filter_errors(calibration.fit)["0"]
        assert found["placed"] == filters
        assert len(found["errors"]) == 5
        share = float(left / wanted.var(0, correction=0).sum())
        assert found["errors"][filters] == pytest.approx(share, rel=1e-3)
    assert found["errors"][4] == pytest.approx(0.0, abs=1e-6)


def test_the_mean_cost_is_that_of_the_chips_asked_for() -> None:
    records = [
        {"chip": chip, "calibration_cost": {"images": 10, "seconds": float(chip)}}
        for chip in range(3)
    ]
    assert mean_calibration_cost(records, 2) == {"images": 10.0, "seconds": 0.5}
    assert mean_calibration_cost([{"chip": 0}], 1) is None
