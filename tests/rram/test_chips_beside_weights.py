"""Chips beside the weights: walks, several at once, gradients, optimizers, aihwkit's own verbs."""

import copy

import pytest
import torch
from aihwkit.inference import GlobalDriftCompensation, PCMLikeNoiseModel
from aihwkit.nn.conversion import convert_to_analog as stock_convert_to_analog
from aihwkit.optim import AnalogSGD
from aihwkit.simulator.configs import TorchInferenceRPUConfig
from aihwkit.simulator.parameters import IOParameters, MappingParameter, WeightClipParameter
from aihwkit.simulator.parameters.enums import WeightClipType
from torch import nn

from cnet_aihw.rram import (
    CompositeNoiseModel,
    CrossbarMapping,
    LogNormalNoiseModel,
    ReadNoiseModel,
    RRAMRPUConfig,
    chip_model,
    chips,
    clear_chip,
    convert_to_analog,
    effective_weights,
    is_programmed,
    nominal_weight,
    program,
    programmed,
    resample_variation,
    set_variation,
    snapshot,
    trainable_parameters,
)
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.random_state import derive_seed

SCALINGS = ("none", "tile", "column")


def config(scaling="none", **settings):
    return RRAMRPUConfig(mapping=CrossbarMapping(weight_scaling=scaling), **settings)


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "AdamW"])
@pytest.mark.parametrize("scaling", SCALINGS)
def test_an_optimizer_takes_the_steps_that_it_takes_on_the_digital_network(
    conv_net, images, optimizer, scaling
):
    analog = convert_to_analog(conv_net, config(scaling))
    set_variation(analog, enabled=False)
    digital = copy.deepcopy(conv_net)
    for model in (analog, digital):
        parameters = trainable_parameters(model)
        # where a gradient is 0 but for rounding, Adam's steps must not be those of the rounding
        more = {} if optimizer == "SGD" else {"eps": 1e-3}
        steps = getattr(torch.optim, optimizer)(parameters, lr=1e-3, weight_decay=1e-3, **more)
        for _ in range(3):
            steps.zero_grad()
            model(images).square().mean().backward()
            nn.utils.clip_grad_norm_(parameters, 0.1)
            steps.step()
    expected = dict(digital.named_parameters())
    for name, weight in snapshot(analog).items():
        if name in expected:
            torch.testing.assert_close(
                weight.view_as(expected[name]), expected[name].detach(), rtol=1e-5, atol=1e-6
            )


@pytest.mark.parametrize("scaling", SCALINGS)
def test_a_network_computes_its_own_weights_exactly_on_any_mapping(conv_net, images, scaling):
    analog = convert_to_analog(conv_net, config(scaling)).eval()
    assert torch.equal(analog(images), convert_to_analog(conv_net, config()).eval()(images))
    for name, weight in effective_weights(analog).items():
        assert torch.equal(weight, conv_net.get_submodule(name).weight.detach().flatten(1))


def test_a_walk_over_chips_programs_each_and_leaves_the_model_as_it_was(conv_net):
    model = convert_to_analog(conv_net).eval()
    nominal = effective_weights(model)
    program(model, 99)
    mine = effective_weights(model)
    seen = []
    for number, seed in chips(model, 3, seed=5):
        assert seed == derive_seed(5, number)
        seen.append(effective_weights(model))
    assert same(effective_weights(model), mine)
    for number, weights in enumerate(seen):
        with programmed(model, derive_seed(5, number)):
            assert same(effective_weights(model), weights)
    for number, _ in chips(model, 3, seed=5):
        if number == 1:
            break
    del number
    clear_chip(model)
    assert same(effective_weights(model), nominal)


def test_a_walk_that_breaks_off_leaves_the_model_as_it_was(conv_net):
    model = convert_to_analog(conv_net).eval()

    def walk():
        for _ in chips(model, 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        walk()
    assert not is_programmed(model)


def test_blocks_of_chips_can_lie_in_each_other(conv_net):
    model = convert_to_analog(conv_net).eval()
    with programmed(model, 1):
        outer = effective_weights(model)
        with programmed(model, 2):
            assert not same(effective_weights(model), outer)
        assert same(effective_weights(model), outer)
    assert not is_programmed(model)


def test_several_chips_at_once_are_the_single_ones(conv_net, images):
    model = convert_to_analog(conv_net).eval()
    several = chip_model(model, [3, 4, 5])
    outputs = []
    for seed in (3, 4, 5):
        with programmed(model, seed), torch.no_grad():
            outputs.append(model(images))
    assert torch.equal(several.members(images), torch.stack(outputs))
    torch.testing.assert_close(several(images), torch.stack(outputs).mean(0))
    assert torch.equal(chip_model(model, 4)(images), outputs[1])
    assert not is_programmed(model)


def test_a_chip_model_is_frozen_and_differentiable_in_its_inputs(conv_net, images):
    model = convert_to_analog(conv_net).eval()
    held = chip_model(model, [3, 4])
    assert not any(parameter.requires_grad for parameter in held.parameters())
    x = images.clone().requires_grad_()
    held(x).sum().backward()
    gradients = []
    for seed in (3, 4):
        y = images.clone().requires_grad_()
        with programmed(model, seed):
            model(y).sum().backward()
        gradients.append(y.grad)
    torch.testing.assert_close(x.grad, sum(gradients) / 2, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        model.fc.analog_module.tile.weight.zero_()
    assert not torch.equal(held(images), model(images))  # a copy, whatever becomes of the model


def test_all_chips_of_a_chip_model_move_and_cast_with_it(conv_net, images):
    noise = CompositeNoiseModel([LogNormalNoiseModel(0.3), ReadNoiseModel(0.02)])
    model = convert_to_analog(conv_net, RRAMRPUConfig(noise_model=noise)).eval()
    single = chip_model(model, [3, 4]).members(images)
    double = chip_model(model, [3, 4]).double().members(images.double())
    assert double.dtype == torch.float64
    assert not torch.equal(single[0], single[1])
    # of the readings the drawn numbers belong to the type; without them chips are the same
    plain = convert_to_analog(conv_net).eval()
    single = chip_model(plain, [3, 4]).members(images)
    double = chip_model(plain, [3, 4]).double().members(images.double())
    torch.testing.assert_close(double.float(), single)


def test_readings_of_one_chip_differ_by_its_read_noise_alone(conv_net, images):
    noise = CompositeNoiseModel([LogNormalNoiseModel(0.3), ReadNoiseModel(0.02)])
    model = convert_to_analog(conv_net, RRAMRPUConfig(noise_model=noise)).eval()
    members = chip_model(model, [7], readings=4).members(images)
    with programmed(model, 7), torch.no_grad():
        assert torch.equal(members, torch.stack([model(images) for _ in range(4)]))
    assert not torch.equal(members[0], members[1])


@pytest.mark.parametrize(("arguments", "key"), [(([],), "seeds"), (([1], 0), "readings")])
def test_no_chip_and_no_reading_are_refused(conv_net, arguments, key):
    with pytest.raises(CnetError) as error:
        chip_model(convert_to_analog(conv_net), *arguments)
    assert error.value.key == key


def test_copies_keep_chip_weights_and_freezing(conv_net, images):
    model = convert_to_analog(conv_net, config("column")).eval()
    program(model, 3)
    twin = copy.deepcopy(model)
    assert torch.equal(twin(images), model(images))
    clear_chip(model)
    assert is_programmed(twin)  # each has its own
    clear_chip(twin)
    assert torch.equal(twin(images), model(images))


def test_a_cast_chip_is_cast_with_its_network(conv_net, images):
    model = convert_to_analog(conv_net).eval()
    with programmed(model, 3):
        expected = model(images)
        torch.testing.assert_close(model.double()(images.double()), expected.double())
        model.float()


def test_gradients_pass_through_a_chip_to_layers_in_front(conv_net, images):
    model = convert_to_analog(conv_net, exclude=["first"]).eval()
    with programmed(model, 3):
        (gradient,) = torch.autograd.grad(model(images).sum(), model.first.weight)
    assert gradient.abs().sum() > 0


# -- aihwkit's own verbs, on its tile and on ours


def stock_config(omega, columnwise, **settings):
    return TorchInferenceRPUConfig(
        forward=IOParameters(is_perfect=True),
        drift_compensation=None,
        noise_model=PCMLikeNoiseModel(),
        mapping=MappingParameter(
            max_input_size=0,
            max_output_size=0,
            weight_scaling_omega=omega,
            weight_scaling_columnwise=columnwise,
        ),
        **settings,
    )


def pair(omega=1.0, columnwise=True, **settings):
    """A small network on aihwkit's tile and on ours."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    stock_settings = stock_config(omega, columnwise, **settings)
    stock = stock_convert_to_analog(net, stock_settings)
    ours = convert_to_analog(
        net,
        RRAMRPUConfig(
            noise_model=PCMLikeNoiseModel(),
            mapping=copy.deepcopy(stock_settings.mapping),
            **settings,
        ),
    )
    set_variation(ours, enabled=False)
    return stock, ours


X = torch.randn(7, 6, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("columnwise", [False, True])
@pytest.mark.parametrize("omega", [0.0, 1.0, 0.6])
@pytest.mark.parametrize("from_stock", [False, True])
def test_checkpoints_go_both_ways_and_compute_the_same_also_on_chips(omega, columnwise, from_stock):
    stock, ours = pair(omega, columnwise)
    with torch.no_grad():
        for name in ("0", "2"):  # another scale than a fresh mapping would give
            stock.get_submodule(name).analog_module.tile.weight.mul_(0.7)
            ours.get_submodule(name).analog_module.tile.weight.mul_(1.3)
    giver, taker = (stock, ours) if from_stock else (ours, stock)
    taker.load_state_dict(giver.state_dict(), load_rpu_config=False)
    stock.eval(), ours.eval()
    torch.testing.assert_close(ours(X), stock(X), rtol=1e-5, atol=1e-6)
    for model in (stock, ours):
        torch.manual_seed(5)
        model.program_analog_weights()
        model.drift_analog_weights(3600.0)
    torch.testing.assert_close(ours(X), stock(X), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("omega", [0.0, 1.0])
def test_a_state_goes_between_tiles_of_ours_bit_for_bit(omega):
    _, ours = pair(omega)
    set_variation(ours, enabled=False)
    optimizer = torch.optim.SGD(trainable_parameters(ours), lr=0.3)
    ours.train()(X).square().sum().backward()
    optimizer.step()
    _, twin = pair(omega)
    twin.load_state_dict(ours.state_dict())
    assert same(snapshot(twin), snapshot(ours))
    assert torch.equal(twin.eval()(X), ours.eval()(X))


def test_aihwkits_drift_compensation_does_the_same_on_both_tiles():
    stock, ours = pair()
    for model in (stock, ours):
        for tile in model.analog_tiles():
            tile.rpu_config.drift_compensation = GlobalDriftCompensation()
        model.eval()
        torch.manual_seed(5)
        model.program_analog_weights()
        model.drift_analog_weights(1e6)
    torch.testing.assert_close(ours(X), stock(X), rtol=1e-4, atol=1e-5)


def test_aihwkits_optimizer_clips_in_the_crossbars_units_on_both_tiles():
    clip = WeightClipParameter(type=WeightClipType.FIXED_VALUE, fixed_value=0.5)
    stock, ours = pair(clip=clip)
    for model in (stock, ours):
        optimizer = AnalogSGD(model.parameters(), lr=0.0)
        optimizer.regroup_param_groups(model)
        model.train()(X).sum().backward()
        optimizer.step()
    for name in ("0", "2"):
        torch.testing.assert_close(
            nominal_weight(ours.get_submodule(name)).detach(),
            stock.get_submodule(name).get_weights()[0],
        )


@pytest.mark.parametrize("apply_weight_scaling", [False, True])
def test_weights_are_set_and_read_as_on_aihwkits_tile(apply_weight_scaling):
    stock, ours = pair()
    weight = torch.linspace(-1, 1, 30).view(5, 6)
    for model in (stock, ours):
        tile = model[0].analog_module
        tile.set_weights(weight, torch.zeros(5), apply_weight_scaling=apply_weight_scaling)
    for scaled in (False, True):
        torch.testing.assert_close(
            ours[0].analog_module.get_weights(apply_weight_scaling=scaled)[0],
            stock[0].analog_module.get_weights(apply_weight_scaling=scaled)[0],
        )


def test_aihwkits_view_on_the_weights_shows_the_logical_ones():
    stock, ours = pair()
    for model in (stock, ours):
        model[0].analog_module.analog_ctx.enable_data_view()
    shown = ours[0].analog_module.analog_ctx.data
    torch.testing.assert_close(shown + 0.0, stock[0].analog_module.analog_ctx.data + 0.0)


def test_setting_scales_keeps_what_lies_on_the_crossbar_on_both_tiles():
    stock, ours = pair()
    for model in (stock, ours):
        tile = model[0].analog_module
        tile.set_scales(tile.get_scales() * 2.0)
        model.eval()
    torch.testing.assert_close(ours(X), stock(X), rtol=1e-5, atol=1e-6)


def test_a_chip_that_was_held_before_changes_no_fresh_draw():
    layer = nn.Linear(6, 5)
    with torch.no_grad():
        layer.weight.mul_(30.0)  # far from the crossbar's units
    model = convert_to_analog(nn.Sequential(layer), config("tile", noise_model=PCMLikeNoiseModel()))
    set_variation(model.train(), enabled=True)
    torch.manual_seed(3)
    wanted = model(torch.eye(6))
    resample_variation(model, 1)
    torch.manual_seed(3)
    assert torch.equal(model(torch.eye(6)), wanted)
