"""Silent traps of aihwkit 1.2 do not catch here, or are reported; one test per trap."""

import copy
import warnings

import pytest
import torch
from aihwkit.inference import (
    GlobalDriftCompensation,
    PCMLikeNoiseModel,
    ReRamCMONoiseModel,
    ReRamWan2022NoiseModel,
)
from aihwkit.nn.conversion import convert_to_analog as stock_convert_to_analog
from aihwkit.simulator.configs import InferenceRPUConfig, TorchInferenceRPUConfig
from aihwkit.simulator.parameters import (
    IOParameters,
    MappingParameter,
    WeightModifierParameter,
)
from aihwkit.simulator.parameters.enums import WeightModifierType
from torch import nn

from cnet_aihw.rram import (
    CompositeNoiseModel,
    LevelsNoiseModel,
    LogNormalNoiseModel,
    RRAMRPUConfig,
    StuckAtNoiseModel,
    clear_chip,
    conductance_converter,
    convert_to_analog,
    effective_weights,
    find_traps,
    freeze_analog,
    load_snapshot,
    periphery,
    program,
    programmed,
    snapshot,
)
from cnet_aihw.runtime.errors import CnetError


def one_layer(**settings) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(20, 30))
    return convert_to_analog(net, RRAMRPUConfig(**settings))


def weight(model: nn.Module) -> torch.Tensor:
    return effective_weights(model)["0"]


def step(model: nn.Module, lr: float = 1.0) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    model.train()(torch.ones(2, 20)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()


SCALED = {"mapping": MappingParameter(weight_scaling_omega=1.0)}


def test_s1_gradients_pass_where_outputs_are_large():
    model = one_layer().eval()
    x = torch.full((1, 20), 1000.0, requires_grad=True)
    model(x).sum().backward()
    torch.testing.assert_close(x.grad[0], weight(model).sum(0))


def test_s1_large_outputs_on_the_cpp_tile_are_warned_of():
    config = InferenceRPUConfig(forward=IOParameters(is_perfect=True), drift_compensation=None)
    with pytest.warns(UserWarning, match=r"forward.out_bound is 12.0.*zeroes"):
        convert_to_analog(nn.Sequential(nn.Linear(2, 2)), config)


def test_s2_programming_a_cpp_tile_with_a_modifier_is_refused():
    modifier = WeightModifierParameter(type=WeightModifierType.ADD_NORMAL, std_dev=0.1)
    config = InferenceRPUConfig(modifier=modifier)
    with pytest.warns(UserWarning, match="stale"):
        model = convert_to_analog(nn.Sequential(nn.Linear(2, 2)), config)
    with pytest.raises(CnetError, check=lambda e: e.key == "modifier.type"):
        program(model, 1)


@pytest.mark.parametrize("how", ["original", "deepcopy", "load_state_dict"])
def test_s3_learning_rate_of_scaled_tiles_survives_copy_and_load(how):
    model = one_layer(**SCALED)
    with torch.no_grad():
        model[0].set_weights(weight(model) * 0.01, torch.zeros(30))
    if how == "deepcopy":
        model = copy.deepcopy(model)
    elif how == "load_state_dict":
        fresh = one_layer(**SCALED)
        fresh.load_state_dict(model.state_dict())
        model = fresh
    for tile in model.analog_tiles():
        tile.rpu_config.variation.enabled = False
    before = weight(model)
    step(model)
    torch.testing.assert_close(before - weight(model), torch.full((30, 20), 2.0))


@pytest.mark.parametrize("settings", [{}, SCALED])
def test_s4_training_a_programmed_chip_is_refused(settings):
    model = one_layer(**settings)
    program(model, 1)
    with pytest.raises(CnetError, check=lambda e: e.key == "model"):
        step(model)


def test_s4_programming_again_starts_from_weights_that_changed_meanwhile():
    model, twin = one_layer().eval(), one_layer().eval()
    load_snapshot(twin, snapshot(model))
    program(model, 1)
    for network in (model, twin):
        with torch.no_grad():
            network[0].analog_module.tile.weight.add_(1.0)
    program(model, 2)
    program(twin, 2)
    assert torch.equal(weight(model), weight(twin))


def test_s5_chips_after_loading_are_of_the_loaded_weights():
    model, other = one_layer(), one_layer()
    load_snapshot(other, {k: 2 * v for k, v in snapshot(other).items()})
    program(model, 1)
    model.load_state_dict(other.state_dict())
    assert torch.equal(weight(model), weight(other))
    with programmed(model, 1), programmed(other, 1):
        assert torch.equal(weight(model), weight(other))


def test_s6_drift_factor_does_not_outlive_the_chip():
    with pytest.warns(UserWarning, match="GlobalDriftCompensation"):
        model = one_layer(
            drift_compensation=GlobalDriftCompensation(), noise_model=PCMLikeNoiseModel()
        ).eval()
    x = torch.ones(1, 20)
    nominal = model(x)
    with programmed(model, 1, t_inference=3.15e7):
        (tile,) = model.analog_tiles()
        assert tile.chip.drift_factor.item() > 1.2
    torch.testing.assert_close(model(x), nominal)


def test_s8_drift_does_not_rescale_a_tile():
    noise = LogNormalNoiseModel(0.5, per_conductance=True)
    model = one_layer(noise_model=noise)
    with programmed(model, 1):
        now = weight(model)
    with programmed(model, 1, t_inference=86400.0):
        assert torch.equal(weight(model), now)


def test_s10_plain_torch_optimizers_see_the_variation():
    model = one_layer().train()
    x = torch.ones(1, 20)
    assert not torch.equal(model(x), model(x))
    before = weight(model)
    step(model)
    assert not torch.equal(weight(model), before)


def test_s11_frozen_layers_still_vary_when_only_digital_parts_are_optimized():
    model = convert_to_analog(
        nn.Sequential(nn.Linear(20, 30), nn.Linear(30, 2)), exclude=["1"]
    ).train()
    freeze_analog(model)
    optimizer = torch.optim.SGD(model[1].parameters(), lr=0.0)
    outputs = []
    for _ in range(2):
        outputs.append(model(torch.ones(1, 20)))
        outputs[-1].sum().backward()
        optimizer.step()
    assert not torch.equal(*outputs)


def test_s14_results_do_not_depend_on_the_rest_of_the_batch():
    model = one_layer(forward=periphery(dac_bits=6, adc_bits=6, adc_range=0.5)).eval()
    x = torch.rand(4, 20)
    alone = model(x)
    with_a_saturating_one = model(torch.cat([x, torch.full((1, 20), 1e3)]))[:4]
    assert torch.equal(alone, with_a_saturating_one)


def test_s15_loading_keeps_this_models_noise_model():
    model = one_layer(noise_model=LogNormalNoiseModel(0.5))
    saved = one_layer(noise_model=LogNormalNoiseModel(0.0)).state_dict()
    model.load_state_dict(saved)
    (tile,) = model.analog_tiles()
    assert tile.rpu_config.noise_model.sigma == 0.5


def test_s15_stock_states_load_without_switching_the_variation_off():
    torch.manual_seed(1)
    stock = stock_convert_to_analog(
        nn.Sequential(nn.Linear(20, 30)), TorchInferenceRPUConfig(mapping=RRAMRPUConfig().mapping)
    )
    model = one_layer()
    model.load_state_dict(stock.state_dict())
    torch.testing.assert_close(weight(model), effective_weights(stock)["0"])
    assert not torch.equal(model.train()(torch.ones(1, 20)), model(torch.ones(1, 20)))
    with pytest.raises(CnetError, check=lambda e: e.key == "load_rpu_config"):
        model.load_state_dict(stock.state_dict(), load_rpu_config=True)
    stock.load_state_dict(one_layer().state_dict(), load_rpu_config=False,
                          strict_rpu_config_check=False)  # fmt: skip
    torch.testing.assert_close(effective_weights(stock)["0"], weight(one_layer()))


def test_s16_a_copy_stays_frozen():
    model = one_layer()
    freeze_analog(model)
    assert not any(p.requires_grad for p in copy.deepcopy(model).parameters())


def test_s18_read_noise_is_seeded_by_torch():
    model = one_layer(forward=periphery(out_noise=0.1)).eval()
    outputs = []
    for _ in range(2):
        torch.manual_seed(4)
        outputs.append(model(torch.ones(1, 20)))
    assert torch.equal(*outputs)
    assert not torch.equal(model(torch.ones(1, 20)), outputs[0])


@pytest.mark.parametrize("settings", [{}, SCALED])
def test_s20_a_state_is_nominal_also_of_a_programmed_model(settings):
    model = one_layer(**settings).eval()
    nominal = {name: value.clone() for name, value in snapshot(model).items()}
    program(model, 1)
    state = model.state_dict()
    clear_chip(model)
    twin = one_layer(**settings).eval()
    twin.load_state_dict(state)
    for name, value in snapshot(twin).items():
        assert torch.equal(value, nominal[name])


def test_s23_a_snapshot_keeps_biases_too():
    model = one_layer()
    best = snapshot(model)
    before = {k: v.clone() for k, v in best.items()}
    step(model)
    load_snapshot(model, best)
    for name, tensor in snapshot(model).items():
        assert torch.equal(tensor, before[name])
    assert "0.bias" in before


def torch_config(**settings) -> TorchInferenceRPUConfig:
    defaults = {"drift_compensation": None, "forward": IOParameters(is_perfect=True)}
    return TorchInferenceRPUConfig(**(defaults | settings))


def input_range_config() -> TorchInferenceRPUConfig:
    config = torch_config()
    config.pre_post.input_range.enable = True
    return config


MULT_NORMAL = WeightModifierParameter(type=WeightModifierType.MULT_NORMAL, std_dev=0.1)


@pytest.mark.parametrize(
    ("config", "trap"),
    [
        (InferenceRPUConfig(modifier=MULT_NORMAL), "cpp-modifier"),  # S2, S10, S11, S13
        (torch_config(modifier=MULT_NORMAL), "mult-normal"),  # S7
        (torch_config(noise_model=ReRamWan2022NoiseModel()), "reram-wan-g-max"),  # S9
        (torch_config(noise_model=ReRamCMONoiseModel()), "reram-cmo-acceptance"),  # S9
        (torch_config(forward=IOParameters()), "bound-management"),  # S14
        (InferenceRPUConfig(), "unseeded-read-noise"),  # S18
        (input_range_config(), "input-range"),  # S21
        (torch_config(forward=IOParameters()), "raw-weight-units"),  # S22
    ],
)
def test_settings_that_mean_other_than_they_say_are_warned_of(config, trap):
    assert trap in [t.name for t in find_traps(config)]
    with pytest.warns(UserWarning):
        convert_to_analog(nn.Sequential(nn.Linear(2, 2)), config)


@pytest.mark.parametrize(
    ("cell", "levels", "composed", "shift"),
    [
        ("reference", 32, False, 0.5),
        ("reference", 4, True, 0.5),
        ("reference", 33, False, 0.0),
        ("reference", 0, True, 0.0),
        ("offset", 32, False, 0.0),
        ("pair", 32, False, 0.0),
    ],
)
def test_a_reference_between_two_levels_shifts_all_weights_and_is_warned_of(
    cell, levels, composed, shift
):
    converter = conductance_converter(cell, g_min=0.0, g_max=25.0)
    noise = LevelsNoiseModel(levels, converter)
    if composed:
        models = [LevelsNoiseModel(levels), StuckAtNoiseModel(0.0, 0.0)]
        noise = CompositeNoiseModel(models, g_converter=converter)
    config = RRAMRPUConfig(noise_model=noise)
    assert [t.name for t in find_traps(config)] == ["reference-between-levels"] * bool(shift)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = convert_to_analog(nn.Sequential(nn.Linear(100, 100)), config)
    nominal = weight(model)
    step = 2 * nominal.abs().max() / (max(levels, 2) - 1)
    with programmed(model, 1):
        found = (weight(model) - nominal).mean() / step
    assert abs(float(found)) == pytest.approx(shift, abs=0.02)


@pytest.mark.parametrize(
    "config",
    [
        RRAMRPUConfig(),
        RRAMRPUConfig(forward=periphery(dac_bits=8, adc_bits=8, out_noise=0.1)),
        RRAMRPUConfig(noise_model=ReRamWan2022NoiseModel(g_max=40.0)),
        RRAMRPUConfig(noise_model=ReRamCMONoiseModel(acceptance_range=2)),
    ],
)
def test_our_defaults_walk_into_no_trap(config):
    assert find_traps(config) == []
