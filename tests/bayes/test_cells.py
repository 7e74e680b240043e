"""Stochastic cells: their probabilities in closed form, clipping, variation, drift, refusals."""

import math
from itertools import product

import pytest
import torch
from scipy.stats import norm
from torch import nn

from cnet_aihw import rram
from cnet_aihw.rram import CompositeNoiseModel, PowerLawDriftNoiseModel, StochasticCellNoiseModel
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.training.variation import held_chip, put_held_chip

from .binary_networks import on_cells


def means(model: nn.Module) -> torch.Tensor:
    """Return the means of a chip's cells."""
    (tile,) = (tile for _, tile in rram.named_tiles(model))
    return tile.chip.weight


def one_layer(weights: list[list[float]], device: object) -> nn.Module:
    """Return a layer whose means of binary weights are given."""
    linear = nn.Linear(len(weights[0]), len(weights), bias=False)
    model = rram.convert_to_analog(nn.Sequential(linear), rram.RRAMRPUConfig(noise_model=device))
    rram.make_binary(model)
    (found,) = rram.binary_weights(model)
    found.mean.data.copy_(found.scale * torch.tensor(weights))
    return model.eval()


WEIGHTS = [[-0.95, -0.5, 0.0, 0.2, 0.9]]


def test_a_chip_has_the_means_that_were_asked_for_and_reads_with_their_probability() -> None:
    model = one_layer(WEIGHTS, StochasticCellNoiseModel(0.2))
    with rram.programmed(model, 0), torch.no_grad():
        torch.testing.assert_close(means(model), torch.tensor(WEIGHTS), atol=1e-5, rtol=0)
        (tile,) = (tile for _, tile in rram.named_tiles(model))
        reads = torch.stack([tile.chip.read() for _ in range(4000)])
    assert set(reads.unique().tolist()) == {-1.0, 1.0}
    share = (reads == 1.0).double().mean(0)
    expected = (1 + torch.tensor(WEIGHTS)) / 2
    assert float((share - expected).abs().max()) < 4 * 0.5 / math.sqrt(4000)


def test_the_range_clips_at_its_score() -> None:
    model = one_layer([[-1.0, 1.0, 0.1]], StochasticCellNoiseModel(0.5))
    with rram.programmed(model, 0):
        limit = 2 * norm.cdf(1 / (math.sqrt(2) * 0.5)) - 1  # g_max against 0
        expected = torch.tensor([[-limit, limit, 0.1]], dtype=torch.float32)
        torch.testing.assert_close(means(model), expected, atol=1e-5, rtol=0)


def test_more_read_noise_than_was_counted_on_weakens_weights() -> None:
    device = StochasticCellNoiseModel(0.4, sigma_assumed=0.2)
    model = one_layer(WEIGHTS, device)
    with rram.programmed(model, 0):
        found = means(model)
    score = norm.ppf((1 + torch.tensor(WEIGHTS).double().numpy()) / 2)
    expected = torch.tensor(2 * norm.cdf(score / 2) - 1, dtype=torch.float32)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("exponent", [0.0, 0.1])
@pytest.mark.parametrize("nu", [0.1, 0.0, None])
def test_drift_weakens_weights_and_a_gain_corrects_it(nu: float | None, exponent: float) -> None:
    """A gain that corrects a drift which is not there makes them too strong."""
    cell = StochasticCellNoiseModel(0.2, drift_exponent=exponent)
    drift = [] if nu is None else [PowerLawDriftNoiseModel(nu, 0.0)]
    model = one_layer(WEIGHTS, CompositeNoiseModel([*drift, cell]) if drift else cell)
    with rram.programmed(model, 0, t_inference=86400.0):
        found = means(model)
    score = norm.ppf((1 + torch.tensor(WEIGHTS).double().numpy()) / 2)
    left = 86400.0 ** (exponent - (nu or 0.0))
    expected = torch.tensor(2 * norm.cdf(score * left) - 1, dtype=torch.float32)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


def test_additive_variation_is_a_share_of_the_largest_conductance() -> None:
    additive = rram.GaussianAdditiveNoiseModel(0.1)
    device = CompositeNoiseModel([additive, StochasticCellNoiseModel(0.2)])
    model = one_layer([[0.0] * 4000], device)
    with rram.programmed(model, 0):
        score = norm.ppf((1 + means(model).double().numpy()) / 2)
    full = 1 / (math.sqrt(2) * 0.2)
    assert score.std() == pytest.approx(0.1 * full, rel=0.05)
    assert abs(score.mean()) < 0.03


def test_the_mean_over_samples_is_the_sum_over_all_states() -> None:
    torch.manual_seed(0)
    model = on_cells(nn.Sequential(nn.Linear(4, 2, bias=False)))
    x = torch.randn(3, 4)
    (found,) = rram.binary_weights(model)
    p_plus = ((found.mean / found.scale + 1) / 2).detach().double()
    expected = torch.zeros(3, 2, dtype=torch.float64)
    for signs in product([-1.0, 1.0], repeat=8):
        state = torch.tensor(signs, dtype=torch.float64).view(2, 4)
        weight = torch.where(state > 0, p_plus, 1 - p_plus).prod()
        expected += weight * (x.double() @ (found.scale * state).T).softmax(-1)
    from cnet_aihw.bayes import predict

    samples = predict(model, x, "cells", 4000).double()
    error = (samples.mean(0) - expected).abs()
    assert float((error / samples.std(0)).max()) < 4 / math.sqrt(4000)


def test_relaxed_samples_have_the_gradient_of_the_source() -> None:
    from cnet_aihw.rram.devices.stochastic_cell import relaxed_sample

    mean = torch.tensor([-0.6, 0.1, 0.8], dtype=torch.float64, requires_grad=True)
    noise, tau = torch.tensor([0.3, -0.2, -1.5], dtype=torch.float64), 0.7
    w = relaxed_sample(mean, noise, tau, "reparametrized")
    expected = torch.tanh((torch.atanh(mean.detach()) + noise) / tau)
    torch.testing.assert_close(w.detach(), expected)
    w.sum().backward()
    of_source = (1 - expected.square()) / (tau * (1 - mean.detach().square()))
    torch.testing.assert_close(mean.grad, of_source)
    hard = relaxed_sample(mean, noise, tau, "auto")
    assert hard.detach().tolist() == [-1.0, -1.0, -1.0]
    mean.grad = None
    hard.sum().backward()
    torch.testing.assert_close(mean.grad, of_source)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"sigma_read": 0.0}, "sigma_read"),
        ({"sigma_read": -0.1}, "sigma_read"),
        ({"sigma_assumed": 0.0}, "sigma_assumed"),
        ({"temperature": 0.0}, "temperature"),
        ({"drift_exponent": 2.0}, "drift_exponent"),
        ({"t_0": 0.0}, "t_0"),
    ],
)
def test_cells_that_sample_nothing_are_refused(values: dict, key: str) -> None:
    with pytest.raises(CnetError) as error:
        StochasticCellNoiseModel(**values)
    assert error.value.key == key


def test_a_real_valued_network_is_refused() -> None:
    device = StochasticCellNoiseModel()
    model = rram.convert_to_analog(nn.Linear(3, 2), rram.RRAMRPUConfig(noise_model=device))
    with pytest.raises(CnetError) as error:
        rram.program(model, 0)
    assert error.value.key == "noise_model"
    rram.make_binary(model)
    (found,) = rram.binary_weights(model)
    found.mean.data.fill_(1.5 * found.scale)
    with pytest.raises(CnetError) as error:
        rram.program(model, 0)
    assert (error.value.key, error.value.value) == ("weights", pytest.approx(1.5))
    assert not rram.is_programmed(model)


def test_a_layers_scale_is_that_of_its_inputs() -> None:
    model = on_cells(nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(12, 2)))
    scales = [found.scale for found in rram.binary_weights(model)]
    assert scales == pytest.approx([math.sqrt(2 / 18), math.sqrt(2 / 12)])
    for found in rram.binary_weights(model):
        assert float((found.mean.detach().abs() / found.scale).max()) <= 0.9 + 1e-6
    with pytest.raises(CnetError) as error:
        rram.make_binary(model, gain=0.0)
    assert error.value.key == "gain"


def test_a_network_on_a_chip_is_on_none_once_its_weights_are_others() -> None:
    layer = nn.Sequential(nn.Linear(8, 4))
    model = rram.convert_to_analog(layer, rram.RRAMRPUConfig()).eval()
    rram.program(model, 1)
    rram.make_binary(model)
    x = torch.ones(1, 8)
    assert not rram.is_programmed(model)
    assert torch.equal(model(x), rram.convert_to_digital(model)(x))
    assert float(rram.effective_weights(model)["0"].abs().max()) <= 0.9 * math.sqrt(2 / 8) + 1e-6


def test_a_held_chip_that_is_put_back_samples_the_same_cells() -> None:
    model = on_cells(nn.Sequential(nn.Linear(6, 3))).train()
    x = torch.randn(4, 6)
    rram.set_variation(model, hold=True)
    rram.resample_variation(model, 1)
    effect, before = held_chip(model), model(x)
    rram.resample_variation(model, 2)
    assert not torch.equal(model(x), before)
    put_held_chip(model, effect)
    assert torch.equal(model(x), before)
