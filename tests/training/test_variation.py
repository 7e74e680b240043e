"""Variation that the network is trained under; the model keeps its own."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnet_aihw.evaluation import evaluate_chips
from cnet_aihw.rram import (
    LogNormalNoiseModel,
    analog_layers,
    effective_weights,
    get_variation,
    nominal_weight,
    program,
    snapshot,
)
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.runtime.records import read_records
from cnet_aihw.training import (
    TrainingSettings,
    VariationSettings,
    train,
)

from .conftest import Data, analog_network

PLAIN = TrainingSettings(epochs=3, batch_size=16, lr=0.05)


def varied_run(data: Data, folder: Path, **variation: object) -> dict[str, Tensor]:
    settings = replace(PLAIN, variation=VariationSettings(enabled=True, **variation))
    model = analog_network()
    model[3] = nn.Identity()  # dropout would draw between the draws of the variation
    train(model, data, settings, folder)
    return snapshot(model)


def test_variation_settings_reach_the_network(data: Data, tmp_path: Path) -> None:
    variants: dict[str, dict] = {
        "fresh": {},
        "held": {"steps_per_chip": 3},
        "straight": {"gradient": "straight_through"},
        "drawn": {"least_share": 0.0},
        "weaker": {"noise_model": LogNormalNoiseModel(0.1)},
    }
    results = {name: varied_run(data, tmp_path / name, **v) for name, v in variants.items()}
    plain = analog_network()
    plain[3] = nn.Identity()
    train(plain, data, PLAIN, tmp_path / "plain")
    weights = [tensors["5.weight"] for tensors in (*results.values(), snapshot(plain))]
    for i, first in enumerate(weights):
        assert not any(torch.equal(first, other) for other in weights[:i])
    none = varied_run(data, tmp_path / "none", noise_model=LogNormalNoiseModel(0.0))
    assert torch.equal(none["5.weight"], snapshot(plain)["5.weight"])


@pytest.mark.parametrize(("ramp_epochs", "least"), [(0.0, 1.0), (1.5, 1.0), (0.0, 0.2)])
def test_a_held_chip_is_the_same_for_its_steps(
    data: Data, tmp_path: Path, ramp_epochs: float, least: float
) -> None:
    """With one chip for the whole run, training is plain training of w * factor of that chip.

    With a ramp its deviation grows evenly from nothing, over 1.5 of three epochs of five steps. A
    chip whose share is drawn has the same share for all of its steps.
    """
    model = analog_network()
    model[3] = nn.Identity()
    program(model, derive_seed(0, "chip", 0))
    chip = effective_weights(model)["5"]
    model = analog_network()
    model[3] = nn.Identity()
    factor = chip / nominal_weight(model[5]).detach()
    seen = []

    def objective(logits: Tensor, y: Tensor, x: Tensor) -> Tensor:
        with torch.no_grad():
            eye = torch.eye(64)
            seen.append((model[5](eye) - model[5](0 * eye)).T / nominal_weight(model[5]))
        return F.cross_entropy(logits, y)

    variation = VariationSettings(
        enabled=True, steps_per_chip=100, ramp_epochs=ramp_epochs, least_share=least
    )
    train(model, data, replace(PLAIN, variation=variation), tmp_path, objective=objective)
    assert len(seen) == 15
    drawn = torch.median((seen[0] - 1) / (factor - 1)).item()
    if least < 1.0:
        assert least <= drawn < 0.95
    for step, observed in enumerate(seen):
        share = min(1.0, step / (5 * ramp_epochs)) if ramp_epochs else drawn
        torch.testing.assert_close(observed, 1 + share * (factor - 1), rtol=1e-2, atol=1e-2)


def test_each_step_draws_its_share_of_the_deviation(data: Data, tmp_path: Path) -> None:
    model, shares = analog_network(), []

    def objective(logits: Tensor, y: Tensor, x: Tensor) -> Tensor:
        shares.append(get_variation(model).strength)
        return F.cross_entropy(logits, y)

    variation = VariationSettings(enabled=True, ramp_epochs=1.0, least_share=0.2)
    settings = replace(PLAIN, epochs=20, variation=variation)
    train(model, data, settings, tmp_path, objective=objective)
    assert shares[0] == 0.0
    assert all(share <= step / 5 for step, share in enumerate(shares[:5]))
    drawn = torch.tensor(shares[5:])  # 95 of the uniform distribution from 0.2 to 1
    assert len(drawn.unique()) == 95
    assert 0.2 <= drawn.min() < 0.25 and 0.95 < drawn.max() <= 1.0
    assert abs(drawn.mean() - 0.6) < 4 * 0.8 / (12 * 95) ** 0.5


def test_the_model_keeps_its_own_variation_and_noise(data: Data, tmp_path: Path) -> None:
    model = analog_network()
    own = get_variation(model)
    settings = replace(
        PLAIN,
        epochs=1,
        variation=VariationSettings(
            enabled=True,
            steps_per_chip=2,
            gradient="straight_through",
            noise_model=LogNormalNoiseModel(0.1),
        ),
    )
    state = torch.get_rng_state()
    train(model, data, settings, tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    assert get_variation(model) == own
    noise = [
        t.rpu_config.noise_model for layer in analog_layers(model).values() for t in layer.tiles()
    ]
    assert noise == [LogNormalNoiseModel(0.5)] * 2
    (record,) = read_records(tmp_path / "epochs.jsonl")
    chips = evaluate_chips(model, data.val, chips=5, seed=derive_seed(0, "validation"))
    assert record["chip_score"] == chips.mean  # measured with the model's own noise
