"""The fit for all chips: its start in closed form, its several chips a step, what it keeps."""

import copy
import logging
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from cnet_aihw.compensation import (
    Affine,
    FitResult,
    GeneratorCompensator,
    LowRank,
    PerChipFit,
    Placement,
    Vera,
    compensate,
    compensation_parameters,
    fit_compensation,
    fit_shared_closed_form,
    remove_compensation,
)
from cnet_aihw.evaluation import evaluate_chips
from cnet_aihw.rram import (
    LogNormalNoiseModel,
    PowerLawDriftNoiseModel,
    RRAMRPUConfig,
    VariationParameter,
    convert_to_analog,
    periphery,
    programmed,
)
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.tasks import Classification, Regression
from cnet_aihw.training import TrainingParts, TrainingSettings, VariationSettings, train
from cnet_aihw.training.step import backward
from cnet_aihw.training.variation import hold_chip, training_variation

from .test_fitting import DATA, Faded, fit_settings, model, trained  # noqa: F401 (fixtures)

X = torch.randn(80, 4, generator=torch.Generator().manual_seed(1))
SEEDS = range(5)
DRIFT = PowerLawDriftNoiseModel(0.2, 0.0)


def linear(corrector):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 3))
    network = convert_to_analog(net, RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.5))).eval()
    return compensate(network, Placement({"0": 1.0}), corrector), net


def outputs_of_chips(network):
    """The layer's outputs on every chip, without its corrector, [chips, N, C]."""
    outputs = []
    for seed in SEEDS:
        with programmed(network, seed), torch.no_grad():
            outputs.append(network[0].base_layer(X))
    return torch.stack(outputs)


def error(network, net, y):
    """Mean squared error over chips and inputs."""
    module = network[0].corrector_module
    corrected = torch.stack([module(X, of_chip) for of_chip in y])
    return (corrected - net(X).detach()).square().mean()


@pytest.mark.parametrize("corrector", [Affine(), LowRank("y"), GeneratorCompensator("y")])
def test_the_closed_form_is_where_many_steps_of_descent_end(corrector):
    network, net = linear(corrector)
    stepped, y = copy.deepcopy(network), outputs_of_chips(network)
    assert fit_shared_closed_form(network, X, SEEDS, ridge=0.0) == ["0"]
    exact = error(network, net, y).item()
    parameters = list(compensation_parameters(stepped).values())
    optimizer = torch.optim.Adam(parameters, lr=0.03)
    for step in range(500):
        optimizer.param_groups[0]["lr"] = 0.03 * (1 - step / 500)
        optimizer.zero_grad()
        error(stepped, net, y).backward(inputs=parameters)
        optimizer.step()
    reached = error(stepped, net, y).item()
    assert exact > 1e-3
    assert exact <= reached * (1 + 1e-5)
    assert reached == pytest.approx(exact, rel=1e-3)


def test_the_closed_form_is_least_squares_over_all_chips_together():
    network, net = linear(LowRank("y"))
    y = outputs_of_chips(network)
    design = np.concatenate([y.flatten(0, 1).numpy(), np.ones((len(y) * len(X), 1))], 1)
    stacked = np.concatenate([net(X).detach().numpy()] * len(y))
    residual = stacked - design @ np.linalg.lstsq(design, stacked, rcond=None)[0]
    fit_shared_closed_form(network, X, SEEDS, ridge=0.0, batch_size=30)
    assert error(network, net, y).item() == pytest.approx((residual**2).mean(), rel=1e-4)


def test_one_chip_alone_is_fitted_as_per_chip():
    network, _ = linear(LowRank("y"))
    with programmed(network, 3):
        with PerChipFit(X)(network):
            expected = network(X)
        fit_shared_closed_form(network, X, [3])
        torch.testing.assert_close(network(X), expected)


def test_without_variation_nothing_changes_bit_for_bit():
    network, net = linear(LowRank())
    fit_shared_closed_form(network, X, SEEDS, noise_model=LogNormalNoiseModel(0.0))
    assert torch.equal(network(X), net(X))


def test_the_closed_form_behind_a_noisy_periphery_hangs_on_the_chips_seeds_alone():
    noisy = RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.5), forward=periphery(out_noise=0.1))
    found = []
    for seed in (0, 1):
        torch.manual_seed(0)
        network = convert_to_analog(nn.Sequential(nn.Linear(4, 3)), noisy).eval()
        compensate(network, Placement({"0": 1.0}), LowRank("y"))
        torch.manual_seed(seed)
        expected = torch.rand(1, generator=torch.Generator().manual_seed(seed))
        fit_shared_closed_form(network, X, SEEDS)
        assert torch.equal(torch.rand(1), expected)
        found.append(torch.cat([p.flatten() for p in compensation_parameters(network).values()]))
    assert torch.equal(*found)


def test_batchnorm_with_the_statistics_of_each_chip_takes_the_drift_of_earlier_layers_away():
    """The drift of the layer itself is left to correct, as BatchNorm undoes the other."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, momentum=0.0, eps=1e-9), nn.Linear(3, 2))
    var, mean = torch.var_mean(net[0](X).detach(), 0, correction=0)
    net[1].running_mean.copy_(mean), net[1].running_var.copy_(var)
    network = convert_to_analog(net, RRAMRPUConfig(noise_model=DRIFT)).eval()
    compensate(network, Placement({"2": 1.0}), Affine())
    fit_shared_closed_form(
        network, X, [0], ridge=0.0, t_inference=1e4, batch_statistics=True
    )  # fmt: skip
    scale = network[2].corrector_module.scale
    torch.testing.assert_close(scale, torch.full((2,), 1e4**0.2), rtol=1e-4, atol=0.0)


# -- in a fit


def fitted(network, folder, **changes):
    settings = fit_settings(**changes)
    return fit_compensation(network, DATA, settings, folder, device="cpu", progress=False)


def on_chips(network, seed=1):
    return evaluate_chips(network, (DATA.val.x, DATA.val.y), chips=20, seed=seed).mean


@pytest.fixture
def low_rank(trained):  # noqa: F811
    return compensate(copy.deepcopy(trained), Placement({"0": 0.5, "3": 0.5}), LowRank())


def test_no_steps_give_the_closed_form_alone(low_rank, tmp_path):
    other = copy.deepcopy(low_rank)
    before = on_chips(remove_compensation(copy.deepcopy(low_rank)))
    result = fitted(low_rank, tmp_path, epochs=0, start_chips=3, start_samples=100)
    assert result.kept == "start" and result.epochs == 0 and result.fitted_score is None
    assert result.start_score > result.without_score
    assert on_chips(low_rank) > before + 0.05
    seeds = [derive_seed(0, "start chip", chip) for chip in range(3)]
    fit_shared_closed_form(other, DATA.train.x[:100], seeds)
    for name, parameter in compensation_parameters(other).items():
        torch.testing.assert_close(parameter, compensation_parameters(low_rank)[name])
    again = remove_compensation(copy.deepcopy(low_rank))
    compensate(again, Placement({"0": 0.5, "3": 0.5}), LowRank())
    assert fitted(again, tmp_path, epochs=0, start_chips=3, start_samples=100) == result
    for name, parameter in compensation_parameters(again).items():
        assert torch.equal(parameter, compensation_parameters(low_rank)[name])
    with pytest.raises(CnetError) as error:
        fitted(again, tmp_path, epochs=0, start_chips=2, start_samples=100)
    assert error.value.key == "training.start_chips"


def test_a_start_of_other_weights_or_settings_is_refused(low_rank, tmp_path, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    settings = {"start_chips": 2, "start_samples": 20}
    other = copy.deepcopy(low_rank)
    with torch.no_grad():
        other[6].analog_module.tile.weight.mul_(2.0)
    fitted(low_rank, tmp_path / "no steps", epochs=0, **settings)
    with pytest.raises(CnetError) as error:
        fitted(other, tmp_path / "no steps", epochs=0, **settings)
    assert error.value.key == "weights"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("cnet_aihw.compensation.fit.train", killed)
        fitted(low_rank, tmp_path / "killed", epochs=1, **settings)
    with pytest.raises(CnetError) as error:
        fitted(low_rank, tmp_path / "killed", epochs=1, **(settings | {"start_chips": 1}))
    assert (error.value.key, error.value.expected) == ("training.start_chips", 2)


def test_an_epoch_that_was_not_measured_on_chips_is_measured_for_the_choice(
    low_rank, tmp_path, monkeypatch
):
    changes = {"epochs": 1, "lr": 2e-2, "start": "identity"}
    expected = fitted(copy.deepcopy(low_rank), tmp_path / "measured", **changes)

    def not_due(*arguments, **named):  # as with select="clean" and validate_every above 1
        return replace(train(*arguments, **named), chip_score=None, chip_std=None)

    monkeypatch.setattr("cnet_aihw.compensation.fit.train", not_due)
    found = fitted(low_rank, tmp_path / "not due", **changes)
    assert found.kept == expected.kept == "fitted"
    assert found.fitted_score == expected.fitted_score > found.without_score


@pytest.mark.parametrize("corrector", [LowRank(), Vera()])
def test_low_rank_and_vera_are_trained_under_noise_shared_by_all_chips(
    corrector, trained, tmp_path  # noqa: F811
):  # fmt: skip
    network = compensate(copy.deepcopy(trained), Placement({"0": 1.0, "3": 1.0}), corrector)
    before = on_chips(remove_compensation(copy.deepcopy(network)))
    result = fitted(network, tmp_path, epochs=3, lr=2e-2, start="identity")
    assert result.kept == "fitted" and result.start_score is None
    assert result.fitted_score == result.chip_score > result.without_score
    assert on_chips(network) > before


def test_a_fit_to_other_projections_is_another_one(trained, tmp_path):  # noqa: F811
    for corrector in (Vera(), Vera(seed=1)):
        network = compensate(copy.deepcopy(trained), Placement({"0": 1.0}), corrector)
        if corrector.seed:
            with pytest.raises(CnetError) as error:
                fitted(network, tmp_path, epochs=1)
            assert error.value.key == "model.network"
        else:
            fitted(network, tmp_path, epochs=1)


def test_a_fit_without_steps_is_not_the_result_of_one_with_steps(trained, tmp_path):  # noqa: F811
    def network():
        return compensate(copy.deepcopy(trained), Placement({"0": 1.0, "3": 1.0}), Vera())

    assert fitted(network(), tmp_path, epochs=0).kept == "start"  # Vera has no closed form
    with pytest.raises(CnetError) as error:
        fitted(network(), tmp_path, epochs=3)
    assert error.value.key == "training.epochs"
    assert not (tmp_path / "epochs.jsonl").exists()  # before any step
    assert fitted(network(), tmp_path / "other", epochs=3, lr=2e-2).epochs == 3
    with pytest.raises(CnetError):
        fitted(network(), tmp_path / "other", epochs=0)


def test_what_is_worse_than_no_correction_is_not_kept(low_rank, tmp_path, caplog):
    plain = remove_compensation(copy.deepcopy(low_rank))
    changes = {
        "epochs": 1, "lr": 50.0, "warmup_epochs": 0.0, "grad_clip": None, "start": "identity",
        "schedule": "constant",
    }  # fmt: skip
    with caplog.at_level(logging.WARNING):
        result = fitted(low_rank, tmp_path, **changes)
    assert result.kept == "none"
    assert result.chip_score == result.without_score > result.fitted_score
    assert result.training_loss > result.constant_loss == pytest.approx(math.log(4), rel=0.02)
    assert sum(record.levelno == logging.WARNING for record in caplog.records) == 2
    assert torch.equal(low_rank.eval()(DATA.val.x), plain.eval()(DATA.val.x))
    assert fitted(low_rank, tmp_path, **changes) == result
    assert torch.equal(low_rank.eval()(DATA.val.x), plain.eval()(DATA.val.x))


def test_steps_that_only_harm_leave_the_start(low_rank, tmp_path):
    result = fitted(
        low_rank, tmp_path, epochs=1, lr=50.0, grad_clip=None, start_chips=3, start_samples=100
    )
    assert result.kept == "start"
    assert result.chip_score == result.start_score > max(result.fitted_score, result.without_score)


@pytest.mark.parametrize(
    ("own", "of_training"), [(DRIFT, None), (PowerLawDriftNoiseModel(0.19, 0.0), DRIFT)]
)
def test_the_start_is_fitted_to_chips_as_those_of_the_training_and_as_old(
    own, of_training, tmp_path
):
    net = nn.Sequential(nn.Linear(4, 3))
    old = VariationParameter(t_inference=1e4)
    network = convert_to_analog(net, RRAMRPUConfig(noise_model=own, variation=old)).eval()
    compensate(network, Placement({"0": 1.0}), Affine())
    data = TrainingParts(*((part, net(part).detach()) for part in (X[:60], X[60:])))
    variation = VariationSettings(True, noise_model=of_training)
    settings = fit_settings(epochs=0, start_chips=2, start_samples=60, variation=variation)
    given = {"task": Regression(), "device": "cpu", "progress": False}
    fit_compensation(network, data, settings, tmp_path, **given)
    scale = network[0].corrector_module.scale.detach()
    torch.testing.assert_close(scale, torch.full((3,), 1e4**0.2), rtol=1e-3, atol=0.0)


def test_of_two_errors_the_smaller_one_is_kept(tmp_path):
    net = nn.Sequential(nn.Linear(4, 3))
    network = convert_to_analog(net, RRAMRPUConfig(noise_model=Faded(0.3))).eval()
    compensate(network, Placement({"0": 1.0}), Affine())
    data = TrainingParts(*((part, net(part).detach()) for part in (X[:60], X[60:])))
    settings = fit_settings(epochs=0, start_chips=8, start_samples=60)
    result = fit_compensation(
        network, data, settings, tmp_path, task=Regression(), device="cpu", progress=False
    )
    assert result.kept == "start"
    assert result.chip_score == result.start_score < result.without_score


def test_without_validation_chips_the_fit_is_kept(low_rank, tmp_path):
    result = fitted(low_rank, tmp_path, epochs=1, validation_chips=0, select="last", start_chips=2)
    assert isinstance(result, FitResult)
    assert result.kept == "fitted" and result.without_score is result.start_score is None


def test_a_constant_prediction_has_the_entropy_of_the_classes_or_their_variance():
    balanced = torch.arange(40) % 4
    assert Classification().constant_loss(balanced) == pytest.approx(math.log(4))
    logits = torch.tensor([0.75, 0.25]).log().expand(8, 2)
    targets = torch.tensor([0] * 6 + [1] * 2)
    for smoothing in (0.0, 0.2):
        task = Classification(smoothing)
        share = torch.tensor([0.75, 0.25]) * (1 - smoothing) + smoothing / 2
        expected = task.loss(share.log().expand_as(logits), targets).item()
        assert task.constant_loss(targets) == pytest.approx(expected, rel=1e-5)
    y = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    assert Regression().constant_loss(y) == pytest.approx(0.5)


# -- several chips a step


@pytest.mark.parametrize("chips", [1, 3, 5])  # at least two samples each
def test_a_steps_gradient_is_the_mean_over_its_parts_each_on_its_own_chip(chips):
    torch.manual_seed(0)
    network = convert_to_analog(
        nn.Sequential(nn.Linear(4, 3)), RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.5))
    )
    settings = TrainingSettings(variation=VariationSettings(True, 1, chips_per_step=chips))
    x, y = X[:7], torch.arange(7) % 3
    task, seen = Classification(), []

    def see(outputs, targets):
        seen.append((outputs, targets))

    tile = next(network.analog_tiles())
    with training_variation(network, settings):
        loss, penalty = backward(
            network, x, y, settings, 5, lambda out, target, _: task.loss(out, target), see
        )
        gradient = tile.tile.weight.grad.clone()
        network.zero_grad()
        total = torch.zeros(())
        bounds = [(0, 7)] if chips == 1 else [(0, 3), (3, 5), (5, 7)]
        for number, (start, end) in enumerate(bounds):
            hold_chip(network, settings, 5 * chips + number)
            share = (end - start) / 7
            total = total + share * task.loss(network(x[start:end]), y[start:end])
        total.backward()
    torch.testing.assert_close(loss, total.detach())
    torch.testing.assert_close(gradient, tile.tile.weight.grad)
    assert penalty is None
    assert [len(targets) for _, targets in seen] == [end - start for start, end in bounds]
    assert not any(outputs.requires_grad for outputs, _ in seen)
