"""Our layers against plain torch with the same noisy weights, stock aihwkit, and the C++ tile."""

import copy
import warnings

import pytest
import torch
from aihwkit.inference import GlobalDriftCompensation
from aihwkit.nn import AnalogConv2d, AnalogLinear
from aihwkit.nn.conversion import convert_to_analog as stock_convert_to_analog
from aihwkit.optim import AnalogSGD
from aihwkit.simulator.configs import InferenceRPUConfig, TorchInferenceRPUConfig
from aihwkit.simulator.parameters import IOParameters, MappingParameter
from torch import Tensor, nn
from torch.nn import functional as F

from cnet_aihw.rram import (
    LogNormalNoiseModel,
    RRAMConv1d,
    RRAMConv2d,
    RRAMLinear,
    RRAMRPUConfig,
    VariationParameter,
    clear_chip,
    convert_to_analog,
    effective_weights,
    periphery,
    program,
    resample_variation,
    set_variation,
)
from cnet_aihw.runtime.errors import CnetError

LAYERS = {
    "linear": (lambda: nn.Linear(12, 7), (4, 12)),
    "linear, no bias, 3-d input": (lambda: nn.Linear(12, 7, bias=False), (2, 3, 12)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3), (3, 4, 11)),
    "conv1d grouped": (lambda: nn.Conv1d(4, 6, 3, groups=2, padding="same"), (3, 4, 11)),
    "conv1d dilated, circular": (
        lambda: nn.Conv1d(4, 6, 3, dilation=2, padding=2, padding_mode="circular"),
        (3, 4, 11),
    ),
    "conv2d": (lambda: nn.Conv2d(4, 6, 3, padding=1, stride=2), (3, 4, 9, 8)),
    "conv2d unbatched": (lambda: nn.Conv2d(4, 6, 3), (4, 9, 8)),
    "conv2d grouped": (
        lambda: nn.Conv2d(4, 6, (3, 1), groups=2, bias=False),
        (3, 4, 9, 8),
    ),
    "conv2d depthwise, dilated": (
        lambda: nn.Conv2d(4, 8, (3, 2), groups=4, dilation=(1, 2), padding=(2, 1)),
        (3, 4, 9, 8),
    ),
    "conv2d same, reflect": (
        lambda: nn.Conv2d(4, 6, (3, 2), padding="same", padding_mode="reflect"),
        (3, 4, 9, 8),
    ),
}

CONFIGS = {
    "one tile": {},
    "scaled columns": {"mapping": MappingParameter(weight_scaling_omega=1.0,
                       weight_scaling_columnwise=True, max_input_size=0, max_output_size=0)},
    "tile array": {"mapping": MappingParameter(max_input_size=6, max_output_size=4)},
}  # fmt: skip


def build(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    return make(), torch.randn(shape)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("name", LAYERS)
def test_noisy_step_equals_plain_torch_with_the_same_noisy_weights(name, config):
    """Forward, input gradient, weight gradient and one optimizer step."""
    digital, x = build(name)
    layer = convert_to_analog(
        digital,
        RRAMRPUConfig(variation=VariationParameter(hold=True), **CONFIGS[config]),
        ensure_analog_root=False,
    )
    resample_variation(layer, 7)
    program(layer, 7)
    noisy = layer.get_weights()[0].view_as(digital.weight)
    clear_chip(layer)
    nominal = digital.weight.detach().clone()

    plain_x, analog_x = x.clone().requires_grad_(), x.clone().requires_grad_()
    plain = copy.deepcopy(digital)
    with torch.no_grad():
        plain.weight.copy_(noisy)
    y = plain(plain_x)
    y.square().sum().backward()

    layer.train()
    out = layer(analog_x)
    torch.testing.assert_close(out, y, rtol=1e-5, atol=1e-5)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.01)
    out.square().sum().backward()
    torch.testing.assert_close(analog_x.grad, plain_x.grad, rtol=1e-4, atol=1e-5)
    optimizer.step()
    # d w_chip / d w = factor = w_chip / w: the gradient through the variation.
    stepped = nominal - 0.01 * plain.weight.grad * (noisy / nominal)
    weight, bias = layer.get_weights()
    torch.testing.assert_close(weight.view_as(stepped), stepped, rtol=1e-4, atol=1e-6)
    if plain.bias is not None:
        torch.testing.assert_close(
            bias, digital.bias - 0.01 * plain.bias.grad, rtol=1e-4, atol=1e-6
        )


def test_straight_through_gradient_ignores_the_factor():
    digital, x = build("linear")
    layer = convert_to_analog(
        digital,
        RRAMRPUConfig(variation=VariationParameter(hold=True, gradient="straight_through")),
        ensure_analog_root=False,
    )
    resample_variation(layer, 1)
    with_factor = copy.deepcopy(layer)
    set_variation(with_factor, gradient="reparametrized")
    y, z = layer(x), with_factor(x)
    torch.testing.assert_close(y, z)
    y.sum().backward()
    z.sum().backward()
    program(layer, 1)
    factor = layer.get_weights()[0] / digital.weight.detach()
    own, through = (m.analog_module.tile.weight.grad for m in (layer, with_factor))
    torch.testing.assert_close(own * factor, through)
    assert not torch.allclose(own, through)


@pytest.mark.parametrize("name", LAYERS)
def test_periphery_path_agrees_where_the_periphery_is_nearly_perfect(name):
    """With 24-bit converters aihwkit's own path computes the same as torch's kernels."""
    digital, x = build(name)
    config = RRAMRPUConfig(forward=periphery(dac_bits=24, adc_bits=24, adc_range=100.0))
    layer = convert_to_analog(digital, config, ensure_analog_root=False).eval()
    torch.testing.assert_close(layer(x), digital(x), rtol=1e-3, atol=1e-3)


def test_fewer_bits_and_more_noise_mean_larger_errors():
    digital, x = build("conv2d grouped")

    def error(**settings: float) -> float:
        config = RRAMRPUConfig(forward=periphery(**settings))
        layer = convert_to_analog(digital, config, ensure_analog_root=False).eval()
        torch.manual_seed(0)
        return (layer(x) - digital(x)).norm().item()

    assert error() == 0.0
    assert 0.0 < error(dac_bits=8) < error(dac_bits=4)
    assert 0.0 < error(adc_bits=8) < error(adc_bits=5)
    assert 0.0 < error(out_noise=0.01) < error(out_noise=0.1)
    assert 0.0 < error(inp_noise=0.01) < error(inp_noise=0.1)


def test_periphery_of_a_whole_layer_equals_stock_aihwkit():
    """DAC, ADC and their scaling are aihwkit's own, also in our convolution."""
    digital, x = build("conv2d")
    forward = periphery(dac_bits=6, adc_bits=6)
    mapping = RRAMRPUConfig(forward=forward).mapping
    ours = convert_to_analog(
        digital, RRAMRPUConfig(forward=forward), ensure_analog_root=False
    ).eval()
    stock = AnalogConv2d.from_digital(
        digital, TorchInferenceRPUConfig(forward=forward, mapping=mapping)
    ).eval()
    torch.testing.assert_close(ours(x), stock(x), rtol=1e-6, atol=1e-6)


def stock_config(cls: type) -> InferenceRPUConfig:
    forward = IOParameters(is_perfect=True, out_bound=0.0)
    mapping = MappingParameter(max_input_size=0, max_output_size=0)
    return cls(
        forward=forward,
        mapping=mapping,
        drift_compensation=None,
        noise_model=LogNormalNoiseModel(0.5),
    )


def extension_fits() -> bool:
    """Whether aihwkit's compiled extension works with this torch."""
    try:
        AnalogLinear(1, 1, rpu_config=InferenceRPUConfig())
    except (RuntimeError, ImportError):
        return False
    return True


@pytest.mark.parametrize(
    "stock",
    [
        TorchInferenceRPUConfig,
        pytest.param(
            InferenceRPUConfig,
            marks=pytest.mark.skipif(
                not extension_fits(), reason="aihwkit's extension does not fit this torch"
            ),
        ),
    ],
)
def test_network_equals_stock_aihwkit(stock):
    """Forward on a chip, input and weight gradients against the torch tile and the C++ tile."""
    torch.manual_seed(0)
    digital = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 64, 5)
    )
    ours = convert_to_analog(digital, RRAMRPUConfig()).eval()
    theirs = convert_to_analog(digital, stock_config(stock)).eval()
    program(ours, 11)
    program(theirs, 11)
    for name, weight in effective_weights(ours).items():
        assert torch.equal(weight, effective_weights(theirs)[name])
    gradients = []
    for model in (ours, theirs):
        x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(2)).requires_grad_()
        y = model(x)
        y.square().sum().backward()
        gradients.append((y.detach(), x.grad))
    for ours_value, theirs_value in zip(*gradients, strict=True):
        torch.testing.assert_close(ours_value, theirs_value, rtol=1e-4, atol=1e-5)


def test_one_optimizer_step_equals_stock_aihwkit_without_variation():
    digital, x = build("conv2d")
    config = RRAMRPUConfig(variation=VariationParameter(enabled=False))
    ours = convert_to_analog(digital, config, ensure_analog_root=False).train()
    theirs = AnalogConv2d.from_digital(digital, stock_config(TorchInferenceRPUConfig)).train()
    for layer in (ours, theirs):
        optimizer = AnalogSGD(layer.parameters(), lr=0.1)
        optimizer.regroup_param_groups(layer)
        F.mse_loss(layer(x), torch.zeros_like(layer(x))).backward()
        optimizer.step()
    assert not torch.allclose(ours.get_weights()[0], digital.weight.view(6, -1))
    for own, their in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        torch.testing.assert_close(own, their, rtol=1e-5, atol=1e-6)


def test_stock_conversion_with_our_configuration_injects_the_variation(images):
    torch.manual_seed(0)
    digital = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 64, 5)
    )
    stock = stock_convert_to_analog(digital, RRAMRPUConfig())
    ours = convert_to_analog(digital, RRAMRPUConfig())
    assert isinstance(stock[0], AnalogConv2d) and not isinstance(stock[0], RRAMConv2d)
    outputs = []
    for model in (stock, ours):
        torch.manual_seed(5)
        outputs.append(model.train()(images))
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(outputs[0], digital(images), atol=1e-2)
    torch.testing.assert_close(stock.eval()(images), digital(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("cls", "arguments"), [
    (RRAMLinear, (3, 4)), (RRAMConv1d, (3, 4, 2)), (RRAMConv2d, (3, 4, 2)),
])  # fmt: skip
def test_layers_stand_alone_and_refuse_other_configurations(cls, arguments):
    layer = cls(*arguments)
    assert layer.get_weights()[0].abs().max() > 0
    with pytest.raises(CnetError, check=lambda e: e.key == "rpu_config"):
        cls(*arguments, rpu_config=TorchInferenceRPUConfig())


def test_drift_compensation_of_a_grouped_convolution_is_refused():
    config = RRAMRPUConfig(drift_compensation=GlobalDriftCompensation())
    with pytest.raises(CnetError, check=lambda e: e.key == "drift_compensation"):
        RRAMConv2d(4, 4, 3, groups=2, rpu_config=config)


def test_half_precision_autocast_computes_in_that_precision():
    digital, x = build("conv2d")
    layer = convert_to_analog(digital, RRAMRPUConfig(), ensure_analog_root=False).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert torch.isfinite(layer.analog_module.tile.weight.grad).all()


def test_periphery_refuses_impossible_values():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert periphery().is_perfect
    for arguments in ({"dac_bits": 1}, {"adc_bits": 40}, {"out_noise": -1.0}, {"adc_range": 0.0}):
        with pytest.raises(CnetError, check=lambda e, a=arguments: e.key in a):
            periphery(**arguments)
