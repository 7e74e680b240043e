"""Chips of networks in half and double precision: those of single precision, to rounding."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from cnet_aihw.rram import (
    CMONoiseModel,
    CompositeNoiseModel,
    LevelsNoiseModel,
    LogNormalNoiseModel,
    PCMNoiseModel,
    PowerLawDriftNoiseModel,
    ReadNoiseModel,
    RRAMRPUConfig,
    StochasticCellNoiseModel,
    StuckAtNoiseModel,
    at_time,
    conductance_converter,
    convert_to_analog,
    effective_weights,
    make_binary,
    program,
    programmed,
)

NARROW = [torch.bfloat16, torch.float16]
NOISE = [
    StuckAtNoiseModel(0.001, 0.001),
    CMONoiseModel(),
    PCMNoiseModel(),
    LogNormalNoiseModel(0.3),
    CompositeNoiseModel(
        [LevelsNoiseModel(64), PowerLawDriftNoiseModel(), ReadNoiseModel(0.01)],
        g_converter=conductance_converter("reference", 1.0, 20.0),
    ),
]


def layer(dtype: torch.dtype) -> nn.Linear:
    """Weights that are the same numbers in all types."""
    made = nn.Linear(200, 200)
    weight = torch.randn(200, 200, generator=torch.Generator().manual_seed(0)).to(dtype).float()
    made.weight = nn.Parameter(weight)
    return made


def weights_on_chip(model: nn.Module, t_inference: float | None = None) -> Tensor:
    with programmed(model, 3, t_inference=t_inference):
        return effective_weights(model)["0"]


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("noise", NOISE, ids=lambda noise: noise.label())
@pytest.mark.parametrize("t_inference", [None, 1000.0])
def test_a_chip_in_half_precision_is_that_of_single_precision_rounded(noise, dtype, t_inference):
    digital, config = layer(dtype), RRAMRPUConfig(noise_model=noise)
    single, half = (
        convert_to_analog(nn.Sequential(one), config)
        for one in (digital, deepcopy(digital).to(dtype))
    )
    wanted = weights_on_chip(single, t_inference)
    found = weights_on_chip(half, t_inference)
    assert found.dtype == dtype
    assert torch.equal(found, wanted.to(dtype))


@pytest.mark.parametrize("dtype", NARROW)
def test_variation_in_training_has_small_shares_in_half_precision_too(dtype):
    noise = StuckAtNoiseModel(0.0, 0.001)
    model = convert_to_analog(
        nn.Sequential(layer(dtype).to(dtype)), RRAMRPUConfig(noise_model=noise)
    )
    tile = model.train()[0].tiles()[0]
    nominal = tile.nominal_weight()
    torch.manual_seed(0)
    shares = [(tile.mvm_logical_weight() != nominal).double().mean() for _ in range(20)]
    assert float(torch.stack(shares).mean()) == pytest.approx(0.002, rel=0.1)  # of two devices


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("noise", NOISE[1:], ids=lambda noise: noise.label())
def test_a_programmed_network_that_was_cast_drifts_in_its_type(noise, dtype):
    model = convert_to_analog(nn.Sequential(layer(torch.float32)), RRAMRPUConfig(noise_model=noise))
    program(model.eval(), 3)
    x = torch.randn(4, 200)
    torch.manual_seed(0)  # of draws that belong to the time
    with at_time(model, 1000.0):
        wanted = effective_weights(model)["0"]
    torch.manual_seed(0)
    with at_time(model.to(dtype), 1000.0):
        assert model(x.to(dtype)).dtype == dtype
        found = effective_weights(model)["0"]
    largest = float(wanted.abs().max())
    rounding = max(torch.finfo(dtype).eps, 1e-6)
    torch.testing.assert_close(found.double(), wanted.double(), rtol=rounding, atol=1e-6 * largest)


def test_stochastic_cells_are_read_by_their_means_in_half_precision():
    model = convert_to_analog(
        nn.Sequential(nn.Linear(1000, 200, bias=False)),
        RRAMRPUConfig(noise_model=StochasticCellNoiseModel()),
    )
    make_binary(model)
    tile = model[0].tiles()[0]
    scale = tile.tile.scales
    with torch.no_grad():
        tile.tile.weight.copy_(torch.full_like(tile.tile.weight, -0.9961) * scale)
    program(model.to(torch.bfloat16).eval(), 0)
    mean = tile.chip.weight.double().mean()
    reads = torch.stack([tile.chip.read().double().mean() for _ in range(10)])
    assert float(reads.mean()) == pytest.approx(float(mean), abs=3e-4)
