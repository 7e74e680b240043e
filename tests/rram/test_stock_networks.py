"""Networks and saved states of aihwkit itself, beside ours."""

import copy
import pickle
import warnings

import pytest
import torch
from aihwkit.inference import PCMLikeNoiseModel
from aihwkit.nn import (
    AnalogConv1d,
    AnalogConv2d,
    AnalogConv2dMapped,
    AnalogLinear,
    AnalogSequential,
)
from aihwkit.nn.conversion import convert_to_analog as stock_convert_to_analog
from aihwkit.simulator.configs import InferenceRPUConfig, TorchInferenceRPUConfig
from torch import nn

from cnet_aihw import RRAMRPUConfig, convert_to_analog, convert_to_digital, evaluate_chips
from cnet_aihw.compensation import LowRank, Placement, compensate, compensation_parameters
from cnet_aihw.rram import (
    at_time,
    chip_model,
    clear_chip,
    count_weights,
    effective_weights,
    load_snapshot,
    program,
    programmed,
    snapshot,
)
from cnet_aihw.runtime.errors import CnetError

X = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(4))
CLASSES = [InferenceRPUConfig, TorchInferenceRPUConfig]


def digital(seed=0):
    torch.manual_seed(seed)
    layers = nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 4)
    return nn.Sequential(*layers)


def config_of(kind, **mapping):
    """A configuration as aihwkit's users have it: its own defaults, but for the periphery."""
    config = kind()
    config.forward.is_perfect = True
    config.noise_model = PCMLikeNoiseModel()
    for key, value in mapping.items():
        setattr(config.mapping, key, value)
    return config


# -- a chip leaves nothing behind


@pytest.mark.parametrize("kind", CLASSES)
def test_the_state_of_a_network_that_was_on_drifted_chips_loads_in_aihwkit(kind):
    config = config_of(kind)
    model = stock_convert_to_analog(digital(), config)
    before = {name: tensor.shape for name, tensor in model.named_buffers()}
    evaluate_chips(model, (X, torch.arange(5) % 4), chips=1, t_inference=1e4)
    assert {name: tensor.shape for name, tensor in model.named_buffers()} == before
    other = stock_convert_to_analog(digital(1), config)
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other.eval()(X), digital().eval()(X))


@pytest.mark.parametrize("kind", CLASSES)
def test_weights_that_changed_after_aihwkit_programmed_them_are_warned_of(kind):
    config, data = config_of(kind), (X, torch.arange(5) % 4)
    model = stock_convert_to_analog(digital(), config).eval()
    model.program_analog_weights()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate_chips(model, data, chips=2, t_inference=[1.0, 1e4])  # nothing to warn of
        with programmed(model, 1, t_inference=1e3), programmed(model, 2, t_inference=1e3):
            pass
    other = stock_convert_to_analog(digital(1), config).eval()
    model.load_state_dict(other.state_dict())
    with pytest.warns(UserWarning, match="reference_combined_weights"):
        evaluate_chips(model, data, chips=2)
    with pytest.warns(UserWarning, match="reference_combined_weights"):
        clear_chip(copy.deepcopy(model))
    for tile in model.analog_tiles():
        tile.reference_combined_weights = None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in (1, 2):
            with programmed(model, seed), programmed(other, seed):
                torch.testing.assert_close(model(X), other(X))
    torch.testing.assert_close(effective_weights(model), effective_weights(other))


@pytest.mark.parametrize("kind", CLASSES)
def test_a_chip_that_has_drifted_here_is_not_taken_for_weights_that_changed(kind):
    """Neither on a copy, nor where another chip was put in its place for a while."""
    model = stock_convert_to_analog(digital(), config_of(kind)).eval()
    program(model, 1, t_inference=3600.0)
    drifted, nominal = model(X), digital().eval()(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(copied(X), drifted)
            clear_chip(copied)
            torch.testing.assert_close(copied(X), nominal)
        evaluate_chips(model, (X, torch.arange(5) % 4), chips=2, t_inference=[1.0, 1e4])
        with programmed(model, 2, t_inference=60.0), programmed(model, 3, t_inference=60.0):
            pass
        with at_time(model, 1e6), programmed(model, 2):
            pass
        assert torch.equal(model(X), drifted)
        clear_chip(model)


# -- to plain layers and to ours


@pytest.mark.parametrize("kind", CLASSES)
def test_mapped_layers_become_plain_ones_without_what_was_their_tiles(kind):
    config = config_of(kind, max_input_size=10, max_output_size=2)
    torch.manual_seed(0)
    model = AnalogSequential(AnalogConv2dMapped(2, 3, 3, rpu_config=config), nn.Flatten(),
                             AnalogLinear(12, 4, rpu_config=config)).eval()  # fmt: skip
    images = torch.randn(5, 2, 4, 4)
    plain = convert_to_digital(model)
    torch.testing.assert_close(plain(images), model(images))
    assert set(plain.state_dict()) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert set(vars(plain[0])) == set(vars(nn.Conv2d(2, 3, 3)))
    ours = convert_to_analog(plain, RRAMRPUConfig())
    torch.testing.assert_close(ours(images), model(images))
    assert ours.conversion_report.analog == ("0", "2") and not ours.conversion_report.digital
    assert count_weights(ours) == 54 + 3 + 48 + 4


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("layer", [lambda **k: AnalogLinear(6, 4, **k),
                                   lambda **k: AnalogConv2d(2, 3, 3, **k)])  # fmt: skip
def test_a_plain_layer_has_nothing_of_the_analog_one(kind, layer):
    analog = layer(rpu_config=config_of(kind))
    plain = convert_to_digital(analog)
    fresh = nn.Linear(6, 4) if isinstance(plain, nn.Linear) else nn.Conv2d(2, 3, 3)
    assert set(vars(plain)) == set(vars(fresh))


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("omega", [0.0, 0.7])
def test_a_saved_state_of_aihwkits_defaults_loads_into_ours(kind, omega):
    stock = stock_convert_to_analog(digital(), config_of(kind, weight_scaling_omega=omega)).eval()
    mapping = copy.deepcopy(RRAMRPUConfig().mapping)
    mapping.weight_scaling_omega = omega
    ours = convert_to_analog(digital(1), RRAMRPUConfig(mapping=mapping)).eval()
    ours.load_state_dict(stock.state_dict())
    torch.testing.assert_close(ours(X), stock(X), rtol=1e-5, atol=1e-6)
    for name, weight in effective_weights(stock).items():
        torch.testing.assert_close(effective_weights(ours)[name], weight)
    with programmed(ours, 3):
        assert not torch.allclose(ours(X), stock(X))
    torch.testing.assert_close(ours(X), stock(X), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("mapping", "key", "fix"),
    [
        ({"digital_bias": False}, "0.bias", "digital_state_dict"),
        ({"max_input_size": 8, "max_output_size": 2}, "0.crossbars", "digital_state_dict"),
        ({"weight_scaling_omega": 1.0}, "weight_scaling", "digital_state_dict"),
    ],
)
def test_a_saved_state_of_other_crossbars_is_refused_with_what_helps(mapping, key, fix):
    stock = stock_convert_to_analog(digital(), config_of(InferenceRPUConfig, **mapping))
    ours = convert_to_analog(digital(1), RRAMRPUConfig())
    with pytest.raises(CnetError, check=lambda e: e.key == key and fix in e.fix):
        ours.load_state_dict(stock.state_dict())


def test_the_state_of_one_crossbar_is_refused_by_several():
    cut = config_of(RRAMRPUConfig, max_input_size=8, max_output_size=2)
    several, again = (convert_to_analog(digital(seed), cut).eval() for seed in (1, 0))
    for one in (
        stock_convert_to_analog(digital(), config_of(InferenceRPUConfig)),
        convert_to_analog(digital(), RRAMRPUConfig()),
    ):
        with pytest.raises(CnetError, match="of 0 has one crossbar, but the layer has several"):
            several.load_state_dict(one.state_dict())
    several.load_state_dict(again.state_dict())
    assert torch.equal(several(X), again(X))


def test_the_saved_state_of_a_drifted_chip_is_warned_of():
    stock = stock_convert_to_analog(digital(), config_of(TorchInferenceRPUConfig)).eval()
    torch.manual_seed(0)
    stock.drift_analog_weights(1e6)
    ours = convert_to_analog(digital(1), RRAMRPUConfig()).eval()
    with pytest.warns(UserWarning, match="chip"):
        ours.load_state_dict(stock.state_dict())
    weights = effective_weights(stock)
    assert all(torch.equal(w, weights[name]) for name, w in effective_weights(ours).items())
    assert all(bool((tile.alpha == 1).all()) for tile in ours.analog_tiles())


def test_a_snapshot_in_the_crossbars_units_is_not_taken_for_weights():
    mapping = config_of(TorchInferenceRPUConfig, weight_scaling_omega=1.0, max_input_size=0,
                        max_output_size=0).mapping  # fmt: skip
    config = config_of(TorchInferenceRPUConfig)
    config.mapping = mapping
    stock = stock_convert_to_analog(digital(), config)
    ours = convert_to_analog(digital(1), RRAMRPUConfig(mapping=copy.deepcopy(mapping)))
    with pytest.raises(CnetError, check=lambda e: e.key == "0.weight"):
        load_snapshot(ours, snapshot(stock))
    with pytest.raises(CnetError):
        load_snapshot(stock, snapshot(ours))
    other = stock_convert_to_analog(digital(1), config)
    load_snapshot(other, snapshot(stock))
    torch.testing.assert_close(other.eval()(X), stock.eval()(X))


# -- layers that aihwkit's own conversion takes, but that fail


@pytest.mark.parametrize(
    ("kind", "layer", "analog"),
    [
        (InferenceRPUConfig, nn.Conv1d(2, 3, 3), True),
        (InferenceRPUConfig, nn.Conv1d(2, 3, 3, dilation=2), False),
        (InferenceRPUConfig, nn.Conv1d(200, 3, 3), False),  # on two crossbars
        (InferenceRPUConfig, nn.Conv2d(2, 3, 3, dilation=2), True),
        (TorchInferenceRPUConfig, nn.Conv1d(2, 3, 3), False),
        (TorchInferenceRPUConfig, nn.Conv3d(2, 3, 3), False),
        (TorchInferenceRPUConfig, nn.Conv2d(200, 3, 3), True),
        (RRAMRPUConfig, nn.Conv1d(200, 3, 3, dilation=2), True),
    ],
)
def test_convolutions_that_aihwkits_layers_cannot_compute_stay_digital(kind, layer, analog):
    sizes = [7] * len(layer.kernel_size)
    net = nn.Sequential(layer, nn.Flatten(1), nn.LazyLinear(2)).eval()
    x = torch.randn(3, layer.in_channels, *sizes)
    expected = net(x)
    model = convert_to_analog(net, config_of(kind))
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
    report = model.conversion_report
    assert report.analog == (("0", "2") if analog else ("2",))
    assert analog or "aihwkit's own layer" in report.digital["0"]


def test_a_converter_of_your_own_decides_itself():
    class Mine(AnalogConv1d):
        pass

    net = nn.Sequential(nn.Conv1d(2, 3, 3))
    model = convert_to_analog(net, config_of(TorchInferenceRPUConfig), converters={nn.Conv1d: Mine})
    assert type(model[0]) is Mine


def test_tiles_of_ours_take_other_configurations_of_ours_alone():
    model = convert_to_analog(digital(), RRAMRPUConfig()).eval()
    expected = model(X)
    with pytest.raises(CnetError, check=lambda e: e.key == "rpu_config"):
        next(model.analog_tiles()).to(config_of(TorchInferenceRPUConfig))
    for tile in model.analog_tiles():
        tile.to(RRAMRPUConfig(noise_model=PCMLikeNoiseModel()))
        assert isinstance(tile.rpu_config.noise_model, PCMLikeNoiseModel)
    assert torch.equal(model(X), expected)


# -- inference mode, whose tensors take part in no gradient


def gradient(model):
    x = X.clone().requires_grad_()
    model(x).square().sum().backward()
    return x.grad


@pytest.mark.parametrize("kind", [*CLASSES, RRAMRPUConfig])
def test_a_network_measured_in_inference_mode_has_gradients_afterwards(kind):
    model = stock_convert_to_analog(digital(), config_of(kind)).eval()
    expected = gradient(model)
    with torch.inference_mode():
        evaluate_chips(model, (X, torch.arange(5) % 4), chips=1, t_inference=1e4)
    assert torch.equal(gradient(model), expected)


@pytest.mark.parametrize("kind", [*CLASSES, RRAMRPUConfig])
def test_a_network_made_digital_in_inference_mode_has_gradients(kind):
    model = stock_convert_to_analog(digital(), config_of(kind)).eval()
    with torch.inference_mode():
        plain = convert_to_digital(model)
    torch.testing.assert_close(gradient(plain), gradient(model))
    assert all(p.grad is not None for p in plain.parameters())


def test_chips_and_correctors_made_in_inference_mode_have_gradients():
    def made():
        model = convert_to_analog(digital(), config_of(RRAMRPUConfig)).eval()
        compensate(model, Placement({"0": "size 1"}), LowRank())
        program(model, 3)
        torch.manual_seed(0)
        model.drift_analog_weights(1e4)
        return model, chip_model(model, [4])

    with torch.inference_mode():
        inside = made()
    for one, other in zip(inside, made(), strict=True):
        assert torch.equal(gradient(one), gradient(other))
    clear_chip(inside[0])
    gradient(inside[0].train())
    assert all(p.grad is not None for p in compensation_parameters(inside[0]).values())
