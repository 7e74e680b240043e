"""Correctors on CUDA: on a fake device, what mixes devices; on a GPU, the numbers."""

import sys
from pathlib import Path

import pytest
import torch

from cnet_aihw.compensation import (
    Affine,
    GeneratorCompensator,
    LowRank,
    PerChipFit,
    Placement,
    Vera,
    compensate,
    network_cost,
)
from cnet_aihw.rram import RRAMRPUConfig, analog_layers, convert_to_analog, programmed
from cnet_aihw.zoo import LeNet5

sys.path.insert(0, str(Path(__file__).parent.parent))
from fake_cuda import CUDA, cuda, fake_cuda

CORRECTORS = [GeneratorCompensator(), LowRank(), LowRank("patch"), Vera(), Affine()]


def network(corrector):
    torch.manual_seed(0)
    model = convert_to_analog(LeNet5(), RRAMRPUConfig()).eval()
    return compensate(model, Placement(dict.fromkeys(analog_layers(model), 1.0)), corrector)


@pytest.mark.parametrize("corrector", CORRECTORS)
def test_no_corrector_mixes_devices(corrector):
    model = network(corrector)
    with fake_cuda(model):
        x = torch.empty(4, 1, 28, 28, device=CUDA)
        assert model(x).device == CUDA
        assert model.train()(x).device == CUDA


@pytest.mark.cuda
@cuda
def test_costs_take_an_example_from_the_cpu():
    model = network(LowRank())
    expected = network_cost(model, torch.randn(1, 1, 28, 28))
    assert network_cost(model.cuda(), torch.randn(1, 1, 28, 28)) == expected


@pytest.mark.cuda
@cuda
@pytest.mark.parametrize("batch_size", [200, 64])
def test_a_chip_is_fitted_on_the_device_as_on_the_cpu(batch_size):
    x = torch.randn(200, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    outputs = []
    for device in ("cpu", "cuda"):
        model = network(LowRank()).to(device)
        with programmed(model, 3), PerChipFit(x, batch_size=batch_size)(model):
            outputs.append(model(x.to(device)).cpu())
    torch.testing.assert_close(*outputs, rtol=1e-2, atol=1e-2)
