"""Training of the posterior: the update against its formula, resuming, refusals."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import nn

from cnet_aihw import rram
from cnet_aihw.rram import BinaryWeights
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.training import (
    BayesBinary,
    BayesSettings,
    LipschitzSettings,
    TrainingParts,
    VariationSettings,
    train,
    validate_training_settings,
)

from .binary_networks import settings


def test_steps_are_those_of_the_formula_beside_adams() -> None:
    scale, samples = 0.5, 30
    mean = nn.Parameter(scale * torch.tensor([0.2, -0.7, 0.0], dtype=torch.float64))
    bias = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    other = nn.Parameter(bias.detach().clone())
    chosen = BayesSettings(rate=2.0, data_weight=3.0, prior=0.1, largest=4.0)
    optimizer = BayesBinary([mean, bias], [BinaryWeights(mean, scale)], samples, chosen, 0.01)
    adam = torch.optim.Adam([other], lr=0.01)
    log_odds = torch.atanh(mean.detach() / scale)
    for gradient in ([0.1, -0.2, 0.3], [1.0, 0.0, -40.0]):
        mean.grad = torch.tensor(gradient, dtype=torch.float64)
        bias.grad, other.grad = torch.ones_like(bias), torch.ones_like(other)
        optimizer.step()
        adam.step()
        natural = samples * 3.0 * scale * torch.tensor(gradient, dtype=torch.float64)
        log_odds = ((1 - 0.02) * log_odds + 0.02 * (0.1 - natural)).clamp(-4.0, 4.0)
        torch.testing.assert_close(mean.detach(), scale * torch.tanh(log_odds))
        torch.testing.assert_close(bias, other)
    assert float(log_odds[2]) == 4.0


def test_a_posterior_without_data_is_the_prior() -> None:
    mean = nn.Parameter(torch.tensor([0.9, -0.9]))
    chosen = BayesSettings(prior=0.5)
    optimizer = BayesBinary([mean], [BinaryWeights(mean, 1.0)], 10, chosen, 0.2)
    for _ in range(100):
        mean.grad = torch.zeros(2)
        optimizer.step()
    assert mean.tolist() == pytest.approx([float(torch.tanh(torch.tensor(0.5)))] * 2, abs=1e-5)


def test_a_killed_training_ends_with_the_same_weights(
    cells: nn.Module, data: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = TrainingParts(data, data)
    other = deepcopy(cells)
    train(cells, parts, settings(), tmp_path / "whole", progress=False)

    class Stop(Exception):
        pass

    steps, step = [], BayesBinary.step

    def killed(self: BayesBinary, closure: None = None) -> None:
        steps.append(0)
        if len(steps) == 8:  # in the second epoch, after a checkpoint
            raise Stop
        step(self)

    monkeypatch.setattr(BayesBinary, "step", killed)
    again = settings(checkpoint_seconds=0.0)
    with pytest.raises(Stop):
        train(other, parts, again, tmp_path / "killed", progress=False)
    monkeypatch.setattr(BayesBinary, "step", step)
    train(other, parts, again, tmp_path / "killed", progress=False)
    whole, resumed = rram.snapshot(cells), rram.snapshot(other)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_training_lowers_the_loss_on_sampled_weights(
    cells: nn.Module, data: tuple, tmp_path: Path
) -> None:
    from cnet_aihw.bayes import predict, uncertainty_scores

    before = uncertainty_scores(predict(cells, data[0], "cells", 32), data[1])
    many = settings(epochs=30, lr=0.02, bayes=BayesSettings(data_weight=5.0))
    train(cells, TrainingParts(data, data), many, tmp_path, progress=False)
    after = uncertainty_scores(predict(cells, data[0], "cells", 32), data[1])
    assert after["nll"] < 0.7 * before["nll"]
    assert after["accuracy"] > 0.75


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"variation": VariationSettings()}, "training.variation.enabled"),
        (
            {"variation": VariationSettings(enabled=True, steps_per_chip=2)},
            "training.variation.steps_per_chip",
        ),
        ({"lipschitz": LipschitzSettings(enabled=True)}, "training.lipschitz.enabled"),
        ({"weight_decay": 0.1}, "training.weight_decay"),
        ({"bayes": BayesSettings(rate=0.0)}, "training.bayes.rate"),
        ({"bayes": BayesSettings(data_weight=-1.0)}, "training.bayes.data_weight"),
        ({"bayes": BayesSettings(largest=20.0)}, "training.bayes.largest"),
        ({"bayes": BayesSettings(prior=6.0)}, "training.bayes.prior"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict, key: str) -> None:
    with pytest.raises(CnetError) as error:
        validate_training_settings(settings(**changes))
    assert error.value.key == key


def test_networks_and_optimizers_must_fit(cells: nn.Module, data: tuple, tmp_path: Path) -> None:
    parts = TrainingParts(data, data)
    plain = settings(optimizer="adam")
    with pytest.raises(CnetError) as error:
        train(cells, parts, plain, tmp_path / "a", progress=False)
    assert error.value.key == "training.optimizer"
    real = rram.convert_to_analog(nn.Sequential(nn.Linear(6, 3)), rram.RRAMRPUConfig())
    with pytest.raises(CnetError) as error:
        train(real, parts, settings(), tmp_path / "b", progress=False)
    assert error.value.key == "model"
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()
