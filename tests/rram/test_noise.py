"""The law of the variation, against closed forms."""

import math

import pytest
import torch
from aihwkit.inference import SinglePairConductanceConverter
from aihwkit.inference.converter.conductance import SingleDeviceConductanceConverter
from scipy import stats
from torch import nn

from cnet_aihw.rram import (
    LogNormalNoiseModel,
    RRAMRPUConfig,
    clear_chip,
    convert_to_analog,
    effective_weights,
    noise_model_id,
    program,
)
from cnet_aihw.rram.devices.chip_scope import chip_scope
from cnet_aihw.runtime.errors import CnetError

SAMPLES = 200_000


def factors(model: LogNormalNoiseModel, seed: int = 0, rows: int = 400) -> torch.Tensor:
    weights = torch.full((rows, SAMPLES // rows), 0.3)
    torch.manual_seed(seed)
    return (model.apply_programming_noise(weights)[0] / weights).double()


@pytest.mark.parametrize("sigma", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("per_conductance", [False, True])
def test_factor_is_lognormal_with_the_stated_moments(sigma, per_conductance):
    model = LogNormalNoiseModel(sigma, per_conductance=per_conductance)
    factor = factors(model)
    mean, std = model.factor_moments()
    assert mean == pytest.approx(math.exp(sigma**2 / 2))
    assert std == pytest.approx(math.sqrt((math.exp(sigma**2) - 1) * math.exp(sigma**2)))
    error = std / math.sqrt(SAMPLES)
    assert factor.mean().item() == pytest.approx(mean, abs=5 * error)
    assert factor.std().item() == pytest.approx(std, rel=0.02)
    theta = factor.log().flatten().numpy()
    assert stats.kstest(theta / sigma, "norm").pvalue > 1e-3


def test_sigma_half_has_the_figures_of_the_method():
    assert LogNormalNoiseModel(0.5).factor_moments() == pytest.approx((1.133, 0.604), abs=1e-3)


def test_weights_of_a_tile_vary_independently():
    theta = factors(LogNormalNoiseModel(0.5)).log()
    bound = 5 / math.sqrt(SAMPLES)
    for a, b in ((theta[:, 1:], theta[:, :-1]), (theta[1:], theta[:-1])):
        correlation = torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()
        assert abs(correlation) < bound


@pytest.mark.parametrize("per_conductance", [False, True])
def test_zero_sigma_is_the_identity_bit_for_bit(per_conductance):
    weights = torch.randn(13, 7)
    programmed, _ = LogNormalNoiseModel(
        0.0, per_conductance=per_conductance
    ).apply_programming_noise(weights)
    assert torch.equal(programmed, weights)
    assert programmed.data_ptr() != weights.data_ptr()


def test_zero_weights_stay_zero_only_without_minimal_conductance():
    weights = torch.zeros(50, 40)
    weights[0, 0] = 1.0
    without = LogNormalNoiseModel(0.5, per_conductance=True).apply_programming_noise(weights)[0]
    assert torch.count_nonzero(without) == 1
    model = LogNormalNoiseModel(0.5, per_conductance=True, g_max=25.0, g_min=1.0)
    noise = model.apply_programming_noise(weights)[0].flatten()[1:].double()
    # Each zero is a difference of two equal conductances that vary on their own.
    _, std = LogNormalNoiseModel(0.5).factor_moments()
    assert noise.std().item() == pytest.approx(math.sqrt(2) * std * 1.0 / 24.0, rel=0.05)
    assert not model.multiplicative


def two_layers() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(300, 200), nn.Linear(200, 300))
    with torch.no_grad():
        for layer in net:
            layer.weight.fill_(0.5)
    return net


def thetas(model: nn.Module, seed: int) -> list[torch.Tensor]:
    program(model, seed)
    result = [(w / 0.5).log().flatten().double() for w in effective_weights(model).values()]
    clear_chip(model)
    return result


def test_tiles_and_chips_vary_independently():
    model = convert_to_analog(two_layers(), RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.5)))
    first, second = thetas(model, 1), thetas(model, 2)
    draws = torch.stack([first[0], first[1], second[0], second[1]])
    correlation = torch.corrcoef(draws) - torch.eye(4)
    assert correlation.abs().max().item() < 5 / math.sqrt(60_000)


@pytest.mark.parametrize(("die", "shared"), [("chip", True), ("tile", False)])
def test_die_part_is_shared_by_what_it_says(die, shared):
    noise = LogNormalNoiseModel(0.0, sigma_die=0.4, die=die)
    model = convert_to_analog(two_layers(), RRAMRPUConfig(noise_model=noise))
    first, second = zip(*(thetas(model, seed) for seed in range(300)), strict=True)
    assert all(t.std().item() < 1e-6 for t in first + second)  # one draw per tile at most
    pairs = torch.tensor([[a[0], b[0]] for a, b in zip(first, second, strict=True)])
    assert bool((pairs[:, 0] == pairs[:, 1]).all()) is shared
    assert pairs[:, 0].std().item() == pytest.approx(0.4, rel=0.15)
    if not shared:
        assert abs(torch.corrcoef(pairs.T)[0, 1].item()) < 0.25


def test_the_die_part_of_a_tile_is_drawn_where_its_weights_are():
    """Its seed is that of the device's generator; that of the CPU is left alone."""
    noise = LogNormalNoiseModel(0.1, sigma_die=0.1, die="tile")
    before = torch.get_rng_state()
    noise.sample_factor(torch.ones(3, device="meta"))
    assert torch.equal(torch.get_rng_state(), before)


def test_moments_beyond_the_range_of_numbers_are_refused():
    assert all(map(math.isfinite, LogNormalNoiseModel(18.8).factor_moments()))
    for sigma in (18.9, 30.0):
        with pytest.raises(CnetError, check=lambda e: e.key == "sigma"):
            LogNormalNoiseModel(sigma).factor_moments()


def test_die_and_within_die_variances_add_up():
    model = LogNormalNoiseModel(0.3, sigma_die=0.4)
    assert model.factor_moments() == pytest.approx(LogNormalNoiseModel(0.5).factor_moments())


def test_die_draw_without_a_chip_is_refused():
    model = LogNormalNoiseModel(0.1, sigma_die=0.1, die="chip")
    with pytest.raises(CnetError, check=lambda e: e.key == "sigma_die"):
        model.apply_programming_noise(torch.ones(3, 3))
    with chip_scope(3):
        assert torch.isfinite(model.apply_programming_noise(torch.ones(3, 3))[0]).all()


def test_any_converter_works_and_an_unmappable_tile_is_refused():
    model = LogNormalNoiseModel(
        0.1, per_conductance=True, g_converter=SingleDeviceConductanceConverter()
    )
    weights = torch.randn(20, 30)
    noisy = model.apply_programming_noise(weights)[0]
    assert noisy.shape == weights.shape
    assert torch.corrcoef(torch.stack([noisy.flatten(), weights.flatten()]))[0, 1] > 0.9
    with pytest.raises(CnetError, check=lambda e: e.key == "g_converter"):
        model.apply_programming_noise(torch.ones(4, 4))


def test_weights_that_are_not_finite_are_named_as_such():
    weights = torch.tensor([[0.5, math.nan]])
    model = LogNormalNoiseModel(0.1, per_conductance=True, g_min=1.0)
    with pytest.raises(CnetError, check=lambda e: (e.key, e.value) == ("weights", "not finite")):
        model.apply_programming_noise(weights)


def test_variation_does_not_drift():
    model = LogNormalNoiseModel(0.5)
    weights, drift = model.apply_programming_noise(torch.randn(5, 5))
    assert torch.equal(model.apply_drift_noise(weights, drift, 1e6), weights)
    assert torch.isfinite(model.apply_noise(weights, 0.0)).all()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"sigma": -0.1}, "sigma"),
        ({"sigma": float("nan")}, "sigma"),
        ({"sigma_die": float("inf")}, "sigma_die"),
        ({"die": "wafer"}, "die"),
        ({"g_converter": SinglePairConductanceConverter(), "g_max": 5.0}, "g_max"),
    ],
)
def test_impossible_values_are_refused_in_one_sentence(arguments, word):
    with pytest.raises(CnetError, check=lambda e: e.key == word) as error:
        LogNormalNoiseModel(**arguments)
    assert "\n" not in str(error.value)


def test_models_of_one_law_are_equal():
    assert LogNormalNoiseModel(0.5) == LogNormalNoiseModel(0.5)
    assert LogNormalNoiseModel(0.5) != LogNormalNoiseModel(0.4)
    assert "sigma=0.5" in str(LogNormalNoiseModel(0.5))


def test_models_from_elsewhere_of_one_name_have_different_identifiers():
    def made(factor: float) -> LogNormalNoiseModel:
        class Mine(LogNormalNoiseModel):
            scale = factor

        Mine.__qualname__ = f"of_{factor}.Mine"
        return Mine(0.5)

    assert noise_model_id(made(1.0)) == noise_model_id(made(1.0)) != noise_model_id(made(2.0))
    ours = LogNormalNoiseModel(0.5)
    assert noise_model_id(ours) == f"LogNormalNoiseModel {ours}"
