"""Chips: the same seed gives the same chip, and the nominal weights come back bit for bit."""

import numpy as np
import pytest
import torch
from aihwkit.inference import GlobalDriftCompensation, PCMLikeNoiseModel, ReRamWan2022NoiseModel
from aihwkit.simulator.configs import (
    InferenceRPUConfig,
    SingleRPUConfig,
    TorchInferenceRPUConfig,
)
from aihwkit.simulator.parameters import IOParameters
from aihwkit.simulator.presets import ReRamESPreset
from torch import nn

from cnet_aihw.evaluation import evaluate_chips, scan_layers
from cnet_aihw.rram import (
    LogNormalNoiseModel,
    PowerLawDriftNoiseModel,
    ReadNoiseModel,
    RRAMRPUConfig,
    VariationParameter,
    at_time,
    clear_chip,
    convert_to_analog,
    effective_weights,
    freeze_analog,
    get_variation,
    is_programmed,
    nominal_inside,
    program,
    programmed,
    resample_variation,
    set_noise_model,
    set_variation,
    snapshot,
    unfreeze_analog,
)
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.training import TrainingParts, TrainingSettings, train


@pytest.fixture
def analog(conv_net):
    return convert_to_analog(conv_net, RRAMRPUConfig()).eval()


def chip(model, seed, **arguments):
    with programmed(model, seed, **arguments):
        return effective_weights(model)


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def test_a_seed_is_a_chip_whatever_was_drawn_before(analog):
    first = chip(analog, 5)
    torch.randn(100)
    chip(analog, 6)
    assert same(chip(analog, 5), first)
    assert not any(torch.equal(a, b) for a, b in zip(
        chip(analog, 6).values(), first.values(), strict=True))  # fmt: skip


def test_whole_numbers_of_other_libraries_are_the_same_seed(analog):
    first = chip(analog, 5)
    assert same(chip(analog, np.int64(5)), first)
    assert same(chip(analog, torch.tensor(5)), first)


@pytest.mark.parametrize("seed", [1.0, None, "1"])
@pytest.mark.parametrize("draw", [program, resample_variation])
def test_a_seed_that_is_no_whole_number_is_refused(analog, draw, seed):
    with pytest.raises(CnetError, check=lambda e: (e.key, e.value) == ("seed", seed)):
        draw(analog, seed)


def test_a_layers_part_of_a_chip_depends_on_its_name_alone(conv_net, analog):
    fewer = convert_to_analog(conv_net, RRAMRPUConfig(), exclude=["first", "again"])
    assert torch.equal(chip(fewer, 5)["fc"], chip(analog, 5)["fc"])


def test_named_layers_get_their_part_of_the_chip_and_the_others_stay_nominal(analog):
    nominal, whole = effective_weights(analog), chip(analog, 5)
    part = chip(analog, 5, layers=["grouped", "fc"])
    for name in nominal:
        assert torch.equal(part[name], (whole if name in ("grouped", "fc") else nominal)[name])
    assert same(chip(analog, 5, layers=[]), nominal)
    program(analog, 5)
    program(analog, 6, layers=("fc",))  # again from the nominal weights, in all layers
    assert is_programmed(analog)
    assert torch.equal(effective_weights(analog)["first"], nominal["first"])
    clear_chip(analog)
    assert not is_programmed(analog) and same(effective_weights(analog), nominal)


def test_unknown_layers_are_refused_with_the_nearest_names(analog):
    with pytest.raises(CnetError, check=lambda e: e.key == "layers"):
        program(analog, 1, layers=["fc", "gruoped"])
    with pytest.raises(CnetError, check=lambda e: e.key == "layers"):
        program(analog, 1, layers="fc")
    assert not is_programmed(analog)


@pytest.mark.parametrize("programmed_first", [True, False])
def test_nominal_weights_inside_a_block_and_the_same_chip_after_it(
    analog, images, programmed_first
):
    nominal, output = effective_weights(analog), analog(images)
    if programmed_first:
        program(analog, 3, layers=["first", "fc"])
    weights = effective_weights(analog)
    with pytest.raises(KeyboardInterrupt), nominal_inside(analog):
        assert torch.equal(analog(images), output)
        raise KeyboardInterrupt
    assert same(effective_weights(analog), weights) and is_programmed(analog) is programmed_first
    program(analog, 4)
    clear_chip(analog)
    assert same(effective_weights(analog), nominal)


def test_drift_compensation_is_off_inside_nominal_and_back_after_it():
    config = RRAMRPUConfig(noise_model=PCMLikeNoiseModel())
    config.drift_compensation = GlobalDriftCompensation()
    with pytest.warns(UserWarning, match="drift_compensation"):
        model = convert_to_analog(nn.Sequential(nn.Linear(6, 4)), config).eval()
    images = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))
    output = model(images)
    with programmed(model, 2, t_inference=1e6):
        drifted = model(images)
        with nominal_inside(model):
            assert torch.equal(model(images), output)
        assert torch.equal(model(images), drifted)


def test_programming_again_starts_from_the_nominal_weights(analog):
    program(analog, 1)
    program(analog, 2)
    second = effective_weights(analog)
    clear_chip(analog)
    assert same(chip(analog, 2), second)


def test_global_random_state_is_untouched(analog):
    torch.manual_seed(3)
    expected = torch.randn(4)
    torch.manual_seed(3)
    chip(analog, 9)
    resample_variation(analog, 9)
    assert torch.equal(torch.randn(4), expected)


def test_restore_is_exact_also_after_an_exception(analog, images):
    nominal, output = effective_weights(analog), analog(images)
    with pytest.raises(KeyboardInterrupt), programmed(analog, 4):
        assert is_programmed(analog)
        assert not torch.equal(analog(images), output)
        raise KeyboardInterrupt
    assert not is_programmed(analog)
    assert same(effective_weights(analog), nominal)
    assert torch.equal(analog(images), output)
    clear_chip(analog)
    assert same(effective_weights(analog), nominal)


def test_failure_in_the_middle_of_programming_restores(analog):
    class Faulty(LogNormalNoiseModel):
        calls = 0

        def apply_programming_noise(self, weights):
            Faulty.calls += 1
            if Faulty.calls == 3:
                raise RuntimeError("no more")
            return super().apply_programming_noise(weights)

    nominal = effective_weights(analog)
    with pytest.raises(RuntimeError, match="no more"):
        program(analog, 1, noise_model=Faulty())
    assert Faulty.calls == 3 and not is_programmed(analog)
    assert same(effective_weights(analog), nominal)


def test_noise_model_of_one_chip_does_not_stay(analog):
    own = chip(analog, 1)
    assert same(chip(analog, 1, noise_model=LogNormalNoiseModel(0.0)), effective_weights(analog))
    assert same(chip(analog, 1), own)


def test_noise_model_and_sigma_can_be_changed_on_one_model(analog):
    spreads = []
    for sigma in (0.1, 0.3, 0.5):
        set_noise_model(analog, LogNormalNoiseModel(sigma))
        ratio = chip(analog, 1)["fc"] / effective_weights(analog)["fc"]
        spreads.append(ratio.log().std().item())
    assert spreads == pytest.approx([0.1, 0.3, 0.5], rel=0.1)


def test_held_chip_of_training_is_the_programmed_chip(analog, images):
    with programmed(analog, 8):
        expected = analog(images)
    set_variation(analog, hold=True)
    resample_variation(analog, 8)
    analog.train()
    analog.norm.eval()
    assert torch.equal(analog(images), expected)
    assert torch.equal(analog(images), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("noise", [LogNormalNoiseModel(0.5), ReadNoiseModel(0.05)])
def test_a_held_chip_is_cast_with_its_network(conv_net, images, noise, dtype):
    model = convert_to_analog(conv_net, RRAMRPUConfig(noise_model=noise)).train()
    model.norm.eval()
    set_variation(model, hold=True)
    resample_variation(model, 8)
    torch.manual_seed(0)
    before = model(images)
    out = model.to(dtype)(images.to(dtype))
    assert out.dtype == dtype
    if isinstance(noise, LogNormalNoiseModel):
        torch.testing.assert_close(out.float(), before, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("noise", [LogNormalNoiseModel(0.5), ReRamWan2022NoiseModel(g_max=40.0)])
def test_a_share_of_the_deviation_can_be_injected(conv_net, images, noise):
    model = convert_to_analog(conv_net, RRAMRPUConfig(noise_model=noise))
    nominal, chips = effective_weights(model)["fc"], chip(model, 8)["fc"]
    set_variation(model, hold=True, strength=0.25)
    resample_variation(model, 8)
    (tile,) = model.fc.analog_tiles()
    used = tile.train().mvm_logical_weight()
    torch.testing.assert_close(used, nominal + 0.25 * (chips - nominal), rtol=1e-4, atol=1e-5)
    set_variation(model, strength=0.0)
    assert torch.equal(tile.mvm_logical_weight(), nominal)


def test_held_chip_has_to_be_drawn_first(analog, images):
    set_variation(analog, hold=True)
    with pytest.raises(CnetError, check=lambda e: e.key == "variation.hold"):
        analog.train()(images)


def test_fresh_variation_differs_between_forwards_and_can_be_switched_off(analog, images):
    analog.train()
    analog.norm.eval()
    assert not torch.equal(analog(images), analog(images))
    set_variation(analog, enabled=False)
    assert not get_variation(analog).enabled
    assert torch.equal(analog(images), analog.eval()(images))


def test_impossible_variation_is_refused(analog):
    with pytest.raises(CnetError, check=lambda e: e.key == "variation.sigma"):
        set_variation(analog, sigma=0.3)
    with pytest.raises(CnetError, check=lambda e: e.key == "variation.gradient"):
        set_variation(analog, gradient="sideways")
    with pytest.raises(CnetError, check=lambda e: e.key == "variation.t_inference"):
        VariationParameter(t_inference=-1.0)
    with pytest.raises(CnetError, check=lambda e: e.key == "variation.strength"):
        VariationParameter(strength=1.5)


@pytest.mark.parametrize("noise", [PCMLikeNoiseModel(), ReRamWan2022NoiseModel(g_max=40.0)])
def test_any_aihwkit_noise_model_is_injected_as_it_is_programmed(conv_net, images, noise):
    model = convert_to_analog(conv_net, RRAMRPUConfig(noise_model=noise)).eval()
    with programmed(model, 2):
        expected = model(images)
    set_variation(model, hold=True)
    resample_variation(model, 2)
    model.train()
    model.norm.eval()
    out = model(images)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    out.sum().backward()
    assert model.fc.analog_module.tile.weight.grad.abs().sum() > 0
    set_variation(model, gradient="reparametrized")
    with pytest.raises(CnetError, check=lambda e: e.key == "variation.gradient"):
        model(images)


def test_drift_reaches_training_and_chips(conv_net, images):
    model = convert_to_analog(conv_net, RRAMRPUConfig(noise_model=PCMLikeNoiseModel())).eval()
    now, later = chip(model, 1), chip(model, 1, t_inference=3.15e7)
    assert later["fc"].abs().mean() < 0.9 * now["fc"].abs().mean()
    set_variation(model, hold=True, t_inference=3.15e7)
    resample_variation(model, 1)
    model.train()
    with programmed(model, 1, t_inference=3.15e7):
        drifted = model.eval()(images)
    model.train().norm.eval()
    torch.testing.assert_close(model(images), drifted, rtol=1e-4, atol=1e-5)


def test_frozen_analog_layers_stay_while_gradients_pass_through(analog, images):
    digital_gradient = torch.autograd.grad(analog(images).sum(), analog.norm.weight)[0]
    freeze_analog(analog)
    analog(images).sum().backward()
    torch.testing.assert_close(analog.norm.weight.grad, digital_gradient)
    assert all(p.grad is None for p in analog.fc.parameters())
    unfreeze_analog(analog)
    analog(images).sum().backward()
    assert analog.fc.analog_module.tile.weight.grad is not None


def test_digital_parts_can_be_trained_on_a_programmed_frozen_chip(analog, images):
    freeze_analog(analog)
    program(analog, 1)
    before = effective_weights(analog)
    analog.train()
    analog(images).sum().backward()
    torch.optim.SGD([analog.norm.weight], lr=0.1).step()
    assert same(effective_weights(analog), before)


def test_models_without_programmable_tiles_are_refused():
    net = nn.Sequential(nn.Linear(3, 3))
    with pytest.raises(CnetError, check=lambda e: e.key == "model"):
        program(net, 1)
    with pytest.raises(CnetError, check=lambda e: e.key == "0"):
        program(convert_to_analog(net, SingleRPUConfig()), 1)
    stock = convert_to_analog(net, TorchInferenceRPUConfig(
        forward=IOParameters(is_perfect=True), drift_compensation=None))  # fmt: skip
    with pytest.raises(CnetError, check=lambda e: e.key == "0"):
        set_variation(stock, enabled=False)


@pytest.mark.parametrize(
    ("use", "key"),
    [
        (lambda model, data, _: evaluate_chips(model, data, chips=1), "0"),
        (lambda model, data, _: scan_layers(model, data, chips=1), "0"),
        (lambda model, *_: snapshot(model), "0/0"),
        (lambda model, data, folder: train(
            model, TrainingParts(data, data), TrainingSettings(epochs=1), folder
        ), "0"),
    ],
)  # fmt: skip
def test_networks_on_tiles_of_training_are_refused_with_a_way_out(tmp_path, use, key):
    """Their weights are not among a module's parameters, and they hold no chips."""
    torch.manual_seed(0)
    data = (torch.randn(6, 3), torch.arange(6) % 3)
    model = convert_to_analog(nn.Sequential(nn.Linear(3, 3)), ReRamESPreset())
    with pytest.raises(CnetError, match="digital", check=lambda e: e.key == key):
        use(model, data, tmp_path)


def test_stock_tiles_are_programmed_and_restored_too():
    net = nn.Sequential(nn.Linear(3, 3))
    model = convert_to_analog(net, InferenceRPUConfig(
        forward=IOParameters(is_perfect=True, out_bound=0.0), drift_compensation=None,
        noise_model=LogNormalNoiseModel(0.5)))  # fmt: skip
    nominal = effective_weights(model)
    assert not same(chip(model, 1), nominal)
    assert same(effective_weights(model), nominal)


@pytest.mark.parametrize("config", [RRAMRPUConfig, InferenceRPUConfig])
def test_a_chip_at_another_time_of_its_life_is_that_chip_and_then_as_it_was(config):
    net = nn.Sequential(nn.Linear(3, 3))
    model = convert_to_analog(net, config(
        forward=IOParameters(is_perfect=True, out_bound=0.0), drift_compensation=None,
        noise_model=PowerLawDriftNoiseModel(0.05, 0.03)))  # fmt: skip
    with programmed(model, 3, t_inference=1e3):
        early = effective_weights(model)
    with programmed(model, 3, t_inference=1e7):
        late = effective_weights(model)
        assert not same(early, late)
        with pytest.raises(KeyError), at_time(model, 1e3):
            assert same(effective_weights(model), early)
            raise KeyError
        assert same(effective_weights(model), late)
    nominal = effective_weights(model)
    with at_time(model, 1e3):  # no chip is programmed
        assert same(effective_weights(model), nominal)


def test_seeds_are_stable_and_tell_their_parts_apart():
    assert derive_seed(0, "conv1") == 2842079396922468125
    assert derive_seed(1, "a") != derive_seed("1", "a")
    assert derive_seed("ab", "c") != derive_seed("a", "bc")
    assert min(derive_seed(i) for i in range(100)) >= 0
