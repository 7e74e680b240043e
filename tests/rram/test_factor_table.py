"""Tables of factors in place of fresh draws in training."""

import pytest
import torch
from torch import nn

from cnet_aihw.rram import (
    GaussianProportionalNoiseModel,
    LogNormalNoiseModel,
    PCMNoiseModel,
    RRAMRPUConfig,
    VariationParameter,
    convert_to_analog,
    nominal_weight,
    set_noise_model,
)
from cnet_aihw.runtime.errors import CnetError

SIZE = 500_000


def ones(noise_model: object, table: int = SIZE, width: int = 300) -> nn.Module:
    """Two layers of weights 1, whose outputs for unit vectors are the factors."""
    config = RRAMRPUConfig(noise_model=noise_model, variation=VariationParameter(table=table))
    layers = [nn.Linear(width, width, bias=False) for _ in range(2)]
    for layer in layers:
        nn.init.ones_(layer.weight)
    return convert_to_analog(nn.Sequential(*layers), config).train()


def factors(layer: nn.Module) -> torch.Tensor:
    return layer(torch.eye(layer.in_features)).detach().T


@pytest.mark.parametrize(
    "noise_model", [LogNormalNoiseModel(0.5), GaussianProportionalNoiseModel(0.3)]
)
def test_factors_have_the_law_and_are_independent_of_each_other(noise_model: object) -> None:
    torch.manual_seed(0)
    model = ones(noise_model)
    draws = [factors(layer) for _ in range(4) for layer in model]
    mean, std = noise_model.factor_moments()
    for draw in draws:
        assert draw.mean().item() == pytest.approx(mean, abs=5 * std / 300)
        assert draw.std().item() == pytest.approx(std, rel=0.05)
        shifted = torch.corrcoef(torch.stack([draw[:, :-1].flatten(), draw[:, 1:].flatten()]))
        assert abs(shifted[0, 1]) < 5 / 300
    together = torch.corrcoef(torch.stack([draw.flatten() for draw in draws]))
    assert (together - torch.eye(8)).abs().max() < 5 / 300
    unlogged = [draw.log().flatten() for draw in draws if (draw > 0).all()]
    if isinstance(noise_model, LogNormalNoiseModel):
        z = torch.cat(unlogged) / 0.5
        assert z.pow(4).mean().item() == pytest.approx(3.0, abs=0.1)  # normal
        assert (z.abs() > 1.959964).float().mean().item() == pytest.approx(0.05, abs=0.003)


def test_the_gradient_passes_through_the_factor() -> None:
    torch.manual_seed(0)
    model = ones(LogNormalNoiseModel(0.5), width=20)
    state = torch.get_rng_state()
    factor = factors(model[0])
    torch.set_rng_state(state)
    model[0](torch.ones(1, 20)).sum().backward()
    weight = next(model[0].analog_tiles()).tile.weight
    torch.testing.assert_close(weight.grad, factor)


def test_a_step_belongs_to_the_random_state_and_evaluation_sees_none() -> None:
    torch.manual_seed(0)
    model = ones(LogNormalNoiseModel(0.5))
    state = torch.get_rng_state()
    first, second = factors(model[0]), factors(model[0])
    torch.set_rng_state(state)
    assert torch.equal(factors(model[0]), first)
    assert not torch.equal(first, second)
    assert torch.equal(factors(model.eval()[0]), nominal_weight(model[0]))


def test_another_law_has_another_table() -> None:
    torch.manual_seed(0)
    model = ones(LogNormalNoiseModel(0.5))
    state = torch.get_rng_state()
    wide = factors(model[0]).log()
    set_noise_model(model, LogNormalNoiseModel(0.25))
    torch.set_rng_state(state)
    torch.testing.assert_close(factors(model[0]).log(), wide / 2, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("noise_model", "table"),
    [
        (LogNormalNoiseModel(0.5), 1000),
        (LogNormalNoiseModel(0.5, sigma_die=0.1, die="tile"), SIZE),
        (LogNormalNoiseModel(0.5, per_conductance=True, g_min=1.0), SIZE),
        (PCMNoiseModel(), SIZE),
    ],
)
def test_what_a_table_cannot_be_of_is_refused(noise_model: object, table: int) -> None:
    model = ones(noise_model, table)
    with pytest.raises(CnetError) as error:
        model(torch.ones(1, 300))
    assert (error.value.key, error.value.value) == ("variation.table", table)
