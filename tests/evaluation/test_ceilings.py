"""Ceilings: both parts, the scan's figures, and what is at fault."""

import pytest
import torch
from torch import nn

from cnet_aihw.evaluation import Ceiling, ceiling, scan_layers
from cnet_aihw.rram import (
    LogNormalNoiseModel,
    PowerLawDriftNoiseModel,
    RRAMRPUConfig,
    convert_to_analog,
)
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.tasks import Regression


@pytest.fixture
def model():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    return convert_to_analog(net, RRAMRPUConfig(noise_model=LogNormalNoiseModel(1.0))).eval()


@pytest.fixture
def data(model):
    x = torch.randn(200, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return x, model(x).argmax(1)  # the clean network is right


def test_the_rest_on_chips_is_a_row_of_the_suffix_scan(model, data):
    found = ceiling(model, data, ["0"], chips=4, seed=5, device="cpu")
    scan = scan_layers(model, data, chips=4, seed=5, device="cpu")
    assert (found.clean, found.exact) == (1.0, scan.rows[1].mean)
    assert found.share == found.share_exact == pytest.approx(scan.rows[1].mean)
    assert found.left_out == ("2", "4")


def test_the_chips_are_of_the_noise_model_and_time_that_are_given(model, data):
    options = {"chips": 3, "seed": 5, "device": "cpu"}
    options |= {"noise_model": PowerLawDriftNoiseModel(nu=0.2, nu_std=0.2), "t_inference": 1e4}
    found = ceiling(model, data, ["0"], **options)
    assert found.exact == scan_layers(model, data, **options).rows[1].mean < 1.0


def test_all_layers_exact_is_the_clean_network(model, data):
    found = ceiling(model, data, ["0", "2", "4"], chips=2, device="cpu")
    assert (found.exact, found.share, found.reached) == (1.0, 1.0, True)
    record = found.as_record()
    assert record["share"] == 1.0 and record["sentence"] == found.sentence()


@pytest.mark.parametrize(
    ("clean", "exact", "reached", "at_fault"),
    [
        (0.97, 0.96, True, None),
        (0.95, 0.95, True, None),
        (0.90, 0.89, False, "the network itself"),
        (0.97, 0.80, False, "the layers left as they are on the chip (fc1, fc2)"),
    ],
)
def test_the_sentence_names_the_part_at_fault(clean, exact, reached, at_fault):
    found = Ceiling(clean, exact, 1.0, clean, exact, 3, ("fc1", "fc2"))
    assert (found.reached, found.share) == (reached, min(clean, exact))
    assert ("at fault" in found.sentence()) == (at_fault is not None)
    assert at_fault is None or at_fault in found.sentence()


def test_layers_left_out_are_at_fault_where_the_network_itself_makes_no_error():
    task = Regression()
    shares = task.recovery(0.0, 0.1), task.recovery(0.5, 0.1)
    assert shares == (None, 0.2)  # nothing is relative to an error of 0
    found = Ceiling(0.0, 0.5, 0.1, *shares, 3, ("fc1",), "RMSE")
    assert (found.share, found.reached) == (0.2, False)
    assert "the layers left as they are on the chip (fc1)" in found.sentence()


def test_it_is_relative_to_the_plain_network(model, data):
    assert ceiling(model, data, ["0", "2", "4"], reference=1.25).share == pytest.approx(0.8)


def test_a_layer_that_is_not_there_is_refused(model, data):
    with pytest.raises(CnetError) as error:
        ceiling(model, data, ["1"])
    assert (error.value.key, error.value.value) == ("layers", "1")
