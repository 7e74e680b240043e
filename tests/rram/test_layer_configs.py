"""Layers with configurations of their own, and settings that tiles refuse."""

import pytest
import torch
from aihwkit.exceptions import AnalogBiasConfigError, TorchTileConfigError
from aihwkit.inference import ReRamWan2022NoiseModel
from aihwkit.simulator.configs import TorchInferenceRPUConfig
from aihwkit.simulator.parameters import IOParameters, MappingParameter, WeightModifierParameter
from torch import nn

from cnet_aihw.rram import (
    LogNormalNoiseModel,
    RRAMLinear,
    RRAMRPUConfig,
    convert_to_analog,
    effective_weights,
    periphery,
    programmed,
)
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.training import TrainingParts, TrainingSettings, train


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4)).eval()


def device(sigma: float, **settings) -> RRAMRPUConfig:
    return RRAMRPUConfig(noise_model=LogNormalNoiseModel(sigma), **settings)


def last(config):
    return lambda name, layer: config if name == "2" else None


def test_a_layer_has_the_device_that_its_name_gives_it():
    model = convert_to_analog(network(), device(0.5), layer_config=last(device(0.0)))
    nominal = effective_weights(model)
    with programmed(model, 1):
        chip = effective_weights(model)
    assert torch.equal(chip["2"], nominal["2"])
    alone = convert_to_analog(network(), device(0.5))
    with programmed(alone, 1):
        assert torch.equal(chip["0"], effective_weights(alone)["0"])


def test_the_function_sees_each_layer_before_it_is_converted():
    seen = {}

    def see(name, layer):
        seen[name] = type(layer), layer.out_features

    convert_to_analog(network(), layer_config=see)
    assert seen == {"0": (nn.Linear, 5), "2": (nn.Linear, 4)}


def test_a_layer_has_its_own_periphery():
    own = device(0.0, forward=periphery(adc_bits=4))
    model = convert_to_analog(network(), device(0.0), layer_config=last(own))
    x = torch.randn(3, 6)
    hidden = model[1](model[0](x))
    assert torch.equal(hidden, network()[:2](x))
    assert not torch.equal(model[2](hidden), network()[2](hidden))


def test_each_layer_has_a_copy_of_its_configuration():
    own = device(0.1)
    model = convert_to_analog(network(), layer_config=lambda name, layer: own)
    own.noise_model.sigma = 0.9
    sigmas = [tile.rpu_config.noise_model.sigma for tile in model.analog_tiles()]
    assert sigmas == [0.1, 0.1]


@pytest.mark.parametrize("own", [TorchInferenceRPUConfig(), LogNormalNoiseModel(), "sigma"])
def test_configurations_of_another_kind_are_refused_before_any_work(own):
    net = network()
    with pytest.raises(CnetError, check=lambda e: e.key == "layer_config"):
        convert_to_analog(net, inplace=True, layer_config=last(own))
    assert type(net[0]) is nn.Linear


@pytest.mark.filterwarnings("ignore")
def test_aihwkits_own_configurations_are_taken_layer_by_layer():
    own = TorchInferenceRPUConfig(forward=IOParameters(is_perfect=True))
    model = convert_to_analog(network(), TorchInferenceRPUConfig(), layer_config=last(own))
    perfect = [tile.rpu_config.forward.is_perfect for tile in model.analog_tiles()]
    assert perfect == [False, True]


def test_traps_of_a_layers_own_configuration_are_warned_of():
    own = RRAMRPUConfig(noise_model=ReRamWan2022NoiseModel())
    with pytest.warns(UserWarning, match="40 uS"):
        convert_to_analog(network(), layer_config=last(own))


def test_lambda_of_several_noise_models_has_to_be_given(tmp_path):
    model = convert_to_analog(network(), device(0.5), layer_config=last(device(0.1)))
    data = (torch.randn(8, 6), torch.arange(8) % 4)
    settings = TrainingSettings(epochs=1, batch_size=8, validation_chips=1)
    settings.lipschitz.enabled = True
    parts = TrainingParts(data, data)
    with pytest.raises(CnetError, check=lambda e: e.key == "training.lipschitz.lambda_"):
        train(model, parts, settings, tmp_path / "run", device="cpu")


@pytest.mark.parametrize(
    "settings",
    [
        {"forward": IOParameters(w_noise=0.1)},
        {"modifier": WeightModifierParameter(enable_during_test=True)},
    ],
)
def test_what_torch_tiles_refuse_is_aihwkits_error_and_ours(settings):
    config = RRAMRPUConfig(**settings)
    for kind in (CnetError, TorchTileConfigError):
        with pytest.raises(kind) as error:
            convert_to_analog(network(), config)
        assert error.value.key == "rpu_config"
    with pytest.raises(TorchTileConfigError):
        RRAMLinear(3, 2, rpu_config=config)


def test_a_bias_on_the_crossbar_is_refused_as_aihwkit_does():
    config = RRAMRPUConfig(mapping=MappingParameter(digital_bias=False))
    with pytest.raises(AnalogBiasConfigError) as error:
        convert_to_analog(network(), config)
    assert isinstance(error.value, CnetError) and error.value.key == "mapping.digital_bias"
