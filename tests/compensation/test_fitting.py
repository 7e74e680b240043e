"""Fitting: only the compensation changes, it helps on chips, and it survives kills."""

import copy
import math
import multiprocessing
import os
import signal
import time
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from cnet_aihw.compensation import (
    FitSettings,
    GeneratorCompensator,
    Placement,
    compensate,
    compensation_disabled,
    compensation_parameters,
    fit_compensation,
    load_compensation,
    remove_compensation,
    save_compensation,
)
from cnet_aihw.compensation.fit import _distillation
from cnet_aihw.evaluation import evaluate_chips, measure
from cnet_aihw.rram import (
    LogNormalNoiseModel,
    RRAMRPUConfig,
    convert_to_analog,
    periphery,
    programmed,
    snapshot,
)
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.tasks import Segmentation
from cnet_aihw.training import LipschitzSettings, TrainingSettings, VariationSettings, train

from .conftest import CORRECTORS

RESIDUAL = GeneratorCompensator(form="residual", activation="relu")


def samples(count: int, seed: int) -> SimpleNamespace:
    """Four classes of noisy 8x8 patterns."""
    generator = torch.Generator().manual_seed(seed)
    patterns = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(99))
    y = torch.randint(4, (count,), generator=generator)
    return SimpleNamespace(
        x=patterns[y] + 1.5 * torch.randn(count, 1, 8, 8, generator=generator), y=y
    )


DATA = SimpleNamespace(
    train=samples(600, 1), val=samples(300, 2), augment=None, fingerprint="patterns"
)


class Faded(LogNormalNoiseModel):
    """All weights of a chip are far too small, which a digital correction can make good."""

    def sample_factor(self, weights: torch.Tensor) -> torch.Tensor:
        return 0.4 * super().sample_factor(weights)


def network() -> nn.Module:
    torch.manual_seed(0)
    digital = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Conv2d(6, 6, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(54, 4),
    )  # fmt: skip
    return convert_to_analog(digital, RRAMRPUConfig(noise_model=Faded(0.3)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    model = network()
    settings = TrainingSettings(epochs=4, batch_size=50, optimizer="adam", lr=5e-3, select="clean")
    train(model, DATA, settings, tmp_path_factory.mktemp("base"), device="cpu", progress=False)
    return model


@pytest.fixture
def model(trained):
    return compensate(copy.deepcopy(trained), Placement({"0": 1.0, "3": 1.0}), RESIDUAL)


def fit_settings(**changes) -> FitSettings:
    return FitSettings(**({"epochs": 6, "batch_size": 50, "lr": 5e-3} | changes))


def on_chips(model: nn.Module) -> float:
    return evaluate_chips(model, (DATA.val.x, DATA.val.y), chips=20, device="cpu").mean


@pytest.mark.parametrize("batchnorm", ["frozen", "per_chip"])
def test_only_the_compensation_changes(model, tmp_path, batchnorm):
    base = snapshot(remove_compensation(copy.deepcopy(model)))
    before = {n: p.clone() for n, p in compensation_parameters(model).items()}
    trainable = [p.requires_grad for p in model.parameters()]
    seen = []
    model[1].register_forward_hook(lambda norm, *_: seen.append(norm.running_mean.clone()))
    settings = fit_settings(epochs=1, batchnorm=batchnorm)
    fit_compensation(model, DATA, settings, tmp_path, device="cpu", progress=False)
    assert all(torch.equal(mean, base["1.running_mean"]) for mean in seen)  # also on the way
    assert all(not torch.equal(p, before[n]) for n, p in compensation_parameters(model).items())
    assert [p.requires_grad for p in model.parameters()] == trainable
    assert model[1].momentum == 0.1
    after = snapshot(remove_compensation(model))
    assert after.keys() == base.keys()
    assert all(torch.equal(after[name], base[name]) for name in base)


def test_input_ranges_that_are_not_known_yet_stay_in_a_fit(tmp_path):
    """The first batches of a training set them; a fit trains no tile, and ends with its base."""
    config = RRAMRPUConfig(noise_model=Faded(0.3), forward=periphery(dac_bits=8))
    config.pre_post.input_range.enable = True
    config.pre_post.input_range.init_from_data = 5
    digital = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    model = convert_to_analog(digital, config)
    before = snapshot(model)
    compensate(model, Placement({"1": 0.5}), GeneratorCompensator())
    fit_compensation(model, DATA, FitSettings(epochs=1), tmp_path, progress=False)
    save_compensation(model, tmp_path / "fitted.safetensors")
    outputs = model(DATA.val.x)
    remove_compensation(model)
    after = snapshot(model)
    assert before["1.input_range"].item() == 3.0
    assert all(torch.equal(after[name], before[name]) for name in before)
    again = convert_to_analog(digital, config).eval()
    load_compensation(again, tmp_path / "fitted.safetensors")
    assert torch.equal(again(DATA.val.x), outputs)


@pytest.mark.parametrize("batchnorm", ["frozen", "per_chip"])
def test_a_fit_that_is_done_is_read_again_with_the_same_model(model, tmp_path, batchnorm):
    settings = fit_settings(epochs=1)
    settings.batchnorm = batchnorm  # as good as given to the settings at once
    first = fit_compensation(model, DATA, settings, tmp_path, device="cpu", progress=False)
    fitted = {n: p.clone() for n, p in compensation_parameters(model).items()}
    again = fit_compensation(model, DATA, settings, tmp_path, device="cpu", progress=False)
    assert again == first
    assert all(torch.equal(p, fitted[n]) for n, p in compensation_parameters(model).items())
    other = fit_settings(epochs=1, batchnorm=batchnorm)
    assert fit_compensation(model, DATA, other, tmp_path, device="cpu", progress=False) == first


def test_batchnorm_policies_differ_in_what_is_fitted(model, tmp_path):
    other = copy.deepcopy(model)
    for network_, policy in ((model, "frozen"), (other, "per_chip")):
        settings = fit_settings(epochs=1, batchnorm=policy)
        fit_compensation(network_, DATA, settings, tmp_path / policy, device="cpu", progress=False)
    ours, theirs = compensation_parameters(model), compensation_parameters(other)
    assert not all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_fitted_compensation_raises_the_accuracy_on_chips(model, tmp_path):
    with compensation_disabled(model):
        before = on_chips(model)
    fit_compensation(model, DATA, fit_settings(), tmp_path, device="cpu", progress=False)
    assert on_chips(model) > before + 0.05


def test_distillation_draws_the_outputs_to_the_clean_network(model, tmp_path):
    other = copy.deepcopy(model)
    clean = remove_compensation(copy.deepcopy(model)).eval()
    distances = []
    for network_, share in ((model, 0.0), (other, 1.0)):
        settings = fit_settings(epochs=2, distillation=share)
        folder = tmp_path / str(share)
        fit_compensation(network_, DATA, settings, folder, device="cpu", progress=False)
        distance = 0.0
        for seed in range(5):
            with torch.no_grad(), programmed(network_, seed):
                wanted, given = (torch.softmax(m(DATA.val.x), 1) for m in (clean, network_))
            distance += (wanted - given).abs().sum(1).mean().item()
        distances.append(distance)
    assert distances[1] < distances[0]


def test_the_teacher_is_the_network_without_its_correctors():
    model, x = network().eval(), DATA.train.x[:20]
    wanted = model(x).detach()
    compensate(model, Placement({"0": 0.5}), GeneratorCompensator())
    with torch.no_grad():
        for parameter in compensation_parameters(model).values():
            parameter.add_(0.3)
    assert not torch.allclose(model.eval()(x), wanted)
    settings = fit_settings(distillation=1.0, temperature=4.0)
    objective = _distillation(model, settings, None)
    assert float(objective(wanted, DATA.train.y[:20], x)) == pytest.approx(0.0, abs=1e-5)
    aim, given = (torch.softmax(logits / 4.0, 1) for logits in (wanted, 3.0 * wanted))
    apart = 16.0 * (aim * (aim.log() - given.log())).sum(1).mean()
    assert float(objective(3.0 * wanted, DATA.train.y[:20], x)) == pytest.approx(
        float(apart), rel=1e-4
    )


def test_distillation_passes_batches_in_which_no_target_counts(tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1))
    network = convert_to_analog(net, RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.4)))
    compensate(network, Placement({"0": 0.5}), RESIDUAL)
    x, y = torch.randn(8, 1, 6, 6), torch.randint(3, (8, 6, 6))
    y[:6] = 255
    data = SimpleNamespace(
        train=SimpleNamespace(x=x, y=y), val=SimpleNamespace(x=x, y=y), augment=None,
        fingerprint="void",
    )  # fmt: skip
    settings = fit_settings(epochs=1, batch_size=2, distillation=0.5)
    result = fit_compensation(
        network, data, settings, tmp_path, task=Segmentation(), device="cpu", progress=False
    )
    assert result.epochs == 1 and math.isfinite(result.fitted_score)


def test_the_same_seed_gives_the_same_fit(model, tmp_path):
    other = copy.deepcopy(model)
    for network_, name in ((model, "a"), (other, "b")):
        settings = fit_settings(epochs=1)
        fit_compensation(network_, DATA, settings, tmp_path / name, device="cpu", progress=False)
    for name, parameter in compensation_parameters(model).items():
        assert torch.equal(parameter, compensation_parameters(other)[name])


def _fit_in_child(model: nn.Module, folder: str) -> None:
    torch.set_num_threads(1)
    settings = fit_settings(epochs=8, checkpoint_seconds=0.0)
    fit_compensation(model, DATA, settings, folder, device="cpu", progress=False)


def test_killed_fit_goes_on_and_ends_the_same(model, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        whole, killed = copy.deepcopy(model), copy.deepcopy(model)
        _fit_in_child(whole, str(tmp_path / "whole"))
        folder = tmp_path / "killed"
        child = multiprocessing.get_context("fork").Process(
            target=_fit_in_child, args=(killed, str(folder))
        )
        child.start()
        deadline = time.monotonic() + 60
        while not (folder / "epochs.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert child.exitcode == -signal.SIGKILL and not (folder / "result.json").exists()
        _fit_in_child(killed, str(folder))
    finally:
        torch.set_num_threads(threads)
    for name, parameter in compensation_parameters(killed).items():
        assert torch.equal(parameter, compensation_parameters(whole)[name])


def test_clean_network_is_kept_apart(model, tmp_path):
    """Switched off, the fitted model is the network that was trained."""
    with compensation_disabled(model):
        before = measure(model, (DATA.val.x, DATA.val.y))
    settings = fit_settings(epochs=1)
    fit_compensation(model, DATA, settings, tmp_path, device="cpu", progress=False)
    with compensation_disabled(model):
        assert measure(model, (DATA.val.x, DATA.val.y)) == before


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"batchnorm": "thawed"}, "shared.batchnorm"),
        ({"freeze_batchnorm": True}, "shared.freeze_batchnorm"),
        ({"distillation": 1.5}, "shared.distillation"),
        ({"temperature": 0.0}, "shared.temperature"),
        ({"lipschitz": LipschitzSettings(enabled=True)}, "shared.lipschitz.enabled"),
        ({"variation": VariationSettings(enabled=False)}, "shared.variation.enabled"),
        ({"start": "warm"}, "shared.start"),
        ({"start_chips": 0}, "shared.start_chips"),
        ({"start_samples": 1}, "shared.start_samples"),
        ({"epochs": -1}, "training.epochs"),
        (
            {"variation": VariationSettings(True, steps_per_chip=2, chips_per_step=2)},
            "training.variation.chips_per_step",
        ),
    ],
)
def test_impossible_settings_are_refused_before_any_work(model, tmp_path, changes, key):
    with pytest.raises(CnetError) as error:
        fit_compensation(model, DATA, fit_settings(**changes), tmp_path / "run", progress=False)
    assert error.value.key == key
    assert not (tmp_path / "run").exists()


def test_model_without_compensation_is_refused(trained, tmp_path):
    with pytest.raises(CnetError) as error:
        fit_compensation(trained, DATA, fit_settings(), tmp_path, progress=False)
    assert error.value.key == "model"


@pytest.mark.parametrize("corrector", [c for c in CORRECTORS.values() if c.on_crossbar])
def test_every_corrector_can_be_fitted_saved_and_loaded(trained, tmp_path, corrector):
    model = compensate(copy.deepcopy(trained), Placement({"0": 1.0, "3": 1.0}), corrector)
    before = {n: p.clone() for n, p in compensation_parameters(model).items()}
    settings = fit_settings(epochs=1)
    fit_compensation(model, DATA, settings, tmp_path / "fit", device="cpu", progress=False)
    fitted = compensation_parameters(model)
    assert not any(torch.equal(p, before[n]) for n, p in fitted.items())
    save_compensation(model, tmp_path / "saved.safetensors")
    other = load_compensation(copy.deepcopy(trained), tmp_path / "saved.safetensors")
    assert torch.equal(other.eval()(DATA.val.x[:5]), model.eval()(DATA.val.x[:5]))
