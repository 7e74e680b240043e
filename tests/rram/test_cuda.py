"""Crossbars on CUDA: on a fake device, what mixes or waits for devices; on a GPU, the numbers."""

import copy
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from aihwkit.inference import GlobalDriftCompensation
from aihwkit.inference.compensation.drift import (
    GlobalDriftCompensationWithExactReference,
    PerColumnDriftCompensation,
)
from torch import nn

from cnet_aihw.rram import (
    CompositeNoiseModel,
    CrossbarMapping,
    LogNormalNoiseModel,
    PCMNoiseModel,
    PowerLawDriftNoiseModel,
    RRAMRPUConfig,
    chip_model,
    convert_to_analog,
    effective_weights,
    load_snapshot,
    nominal_weight,
    periphery,
    program,
    programmed,
    resample_variation,
    set_variation,
    snapshot,
)

sys.path.insert(0, str(Path(__file__).parent.parent))
from fake_cuda import CUDA, cuda, fake_cuda

from .test_same_chips import MODELS

CONFIGS = {
    "default": {},
    "periphery": {"forward": periphery(8, 8, 0.01, 0.01, wire_resistance=1.0, g_max=25.0)},
    "fixed input range": {"forward": periphery(8, 8, dac_range=2.0)},
    "split": {"mapping": CrossbarMapping(max_rows=40, max_columns=6)},
    "scaled": {"mapping": CrossbarMapping(weight_scaling="column")},
}


COMPENSATIONS = [
    GlobalDriftCompensation,
    GlobalDriftCompensationWithExactReference,
    PerColumnDriftCompensation,
]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 8, 3, groups=2, padding=1, padding_mode="circular")
        self.fc = nn.Linear(8 * 16, 10)

    def forward(self, x):
        x = torch.relu(self.conv(x))
        return self.fc(torch.relu(self.grouped(x)).flatten(1))


def network(config="default", noise="lognormal"):
    settings = CONFIGS[config]
    exclude = ["grouped"] if config == "split" else []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return convert_to_analog(
            Net(), RRAMRPUConfig(noise_model=MODELS[noise](), **settings), exclude=exclude
        )


def images():
    return torch.empty(4, 3, 4, 4, device=CUDA)


@pytest.mark.parametrize("noise", MODELS)
@pytest.mark.parametrize("config", CONFIGS)
def test_no_forward_mixes_devices_or_waits_for_one(config, noise):
    model = network(config, noise)
    dies = noise == "lognormal, dies"  # drawn where a chip is programmed
    with fake_cuda(model):
        model.train()
        if not dies:
            assert model(images()).device == CUDA
        set_variation(model, hold=True)
        resample_variation(model, 1)
        assert model(images()).device == CUDA
        assert model.eval()(images()).device == CUDA


@pytest.mark.parametrize("noise", ["lognormal", "wan2022", "composite", "aihwkit pcm"])
@pytest.mark.parametrize("config", CONFIGS)
def test_programming_moves_chips_to_the_device(config, noise, monkeypatch):
    model = network(config, noise).eval()
    # what programming looks at on the CPU, where nothing is waited for
    monkeypatch.setattr("torch.isfinite", lambda g: SimpleNamespace(all=lambda: True))
    with fake_cuda(model):
        program(model, 1)
        for tile in model.analog_tiles():
            assert tile.chip.weight.device == CUDA
        assert model(images()).device == CUDA


@pytest.mark.parametrize("compensation", COMPENSATIONS)
def test_drift_is_compensated_on_the_device(compensation):
    noise = CompositeNoiseModel([LogNormalNoiseModel(0.1), PowerLawDriftNoiseModel(0.1, 0.0)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = RRAMRPUConfig(noise_model=noise, drift_compensation=compensation())
        model = convert_to_analog(nn.Sequential(nn.Linear(6, 4)), config).eval()
    with fake_cuda(model):
        (tile,) = model.analog_tiles()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("torch.isfinite", lambda g: SimpleNamespace(all=lambda: True))
            program(model, 1, t_inference=3600.0)
        assert tile.chip.drift_factor.device == CUDA
        assert model(torch.empty(2, 6, device=CUDA)).device == CUDA


def test_penalty_weights_and_nominal_forward_stay_on_the_device():
    model = network("split")
    with fake_cuda(model):
        assert nominal_weight(model.fc).device == CUDA
        assert model.fc.digital_forward(torch.empty(2, 128, device=CUDA)).device == CUDA


@pytest.mark.cuda
@cuda
@pytest.mark.parametrize("noise", ["lognormal", "composite"])
@pytest.mark.parametrize("config", ["default", "periphery", "split"])
def test_a_chip_is_the_same_on_every_device(config, noise):
    model = network(config, noise).eval()
    with programmed(model, 5):
        expected = effective_weights(model)
    model.cuda()
    with programmed(model, 5):
        for name, weight in effective_weights(model).items():
            assert torch.equal(weight.cpu(), expected[name])


@pytest.mark.cuda
@cuda
@pytest.mark.parametrize("config", ["default", "split", "scaled"])
def test_gradients_are_those_of_the_cpu(config):
    model = network(config, "gaussian proportional").train()
    set_variation(model, enabled=False)
    twin = copy.deepcopy(model).cuda()
    load_snapshot(twin, snapshot(model))
    x = torch.randn(4, 3, 4, 4)
    for network_, inputs in ((model, x), (twin, x.cuda())):
        network_(inputs).square().sum().backward()
    expected = nominal_gradients(model)
    for name, gradient in nominal_gradients(twin).items():
        torch.testing.assert_close(gradient.cpu(), expected[name], rtol=1e-3, atol=1e-4)


def nominal_gradients(model):
    return {
        name: parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


@pytest.mark.cuda
@cuda
def test_held_chips_belong_to_their_seed_on_the_device():
    model = network().train().cuda()
    set_variation(model, hold=True)
    x, outputs = torch.randn(2, 3, 4, 4, device="cuda"), []
    for seed in (1, 2, 1):
        resample_variation(model, seed)
        outputs.append(model(x))
    assert torch.equal(outputs[0], outputs[2]) and not torch.equal(outputs[0], outputs[1])


@pytest.mark.cuda
@cuda
def test_drift_compensation_and_several_chips_on_the_device():
    noise = CompositeNoiseModel([LogNormalNoiseModel(0.1), PCMNoiseModel()])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = RRAMRPUConfig(noise_model=noise, drift_compensation=GlobalDriftCompensation())
        model = convert_to_analog(Net(), config, exclude=["grouped"]).eval().cuda()
    x = torch.randn(2, 3, 4, 4, device="cuda")
    members = chip_model(model, [1, 2], t_inference=3600.0).members(x)
    assert members.shape == (2, 2, 10) and bool(members.isfinite().all())
