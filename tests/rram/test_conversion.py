"""Conversion: what becomes analog, what stays digital, and that the report says why."""

import copy
from functools import partial

import pytest
import torch
from aihwkit.nn import AnalogLinear
from aihwkit.simulator.configs import SingleRPUConfig, TorchInferenceRPUConfig
from aihwkit.simulator.parameters import MappingParameter
from torch import Tensor, nn
from torch.fx import symbolic_trace
from torchvision.models import SwinTransformer, VisionTransformer
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.feature_extraction import create_feature_extractor

from cnet_aihw.rram import (
    LayerWrapper,
    RRAMConv2d,
    RRAMLinear,
    RRAMRPUConfig,
    analog_layers,
    convert_to_analog,
    convert_to_digital,
    digital_state_dict,
    effective_weights,
    freeze_analog,
    programmed,
    snapshot,
    trainable_parameters,
    unfreeze_analog,
)
from cnet_aihw.runtime.errors import CnetError


class MyLinear(nn.Linear):
    pass


class Awkward(nn.Module):
    """Everything that aihwkit's conversion skips without a word."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Linear(8, 8)
        self.twice = self.plain
        self.subclass = MyLinear(8, 8)
        self.spectral = nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8))
        self.attention = nn.MultiheadAttention(8, 2)
        self.up = nn.ConvTranspose2d(2, 2, 2)
        self.embedding = nn.Embedding(5, 8)
        self.tied = nn.Linear(8, 5, bias=False)
        self.tied.weight = self.embedding.weight
        self.norm = nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.tied(self.norm(self.twice(self.spectral(self.subclass(self.plain(x))))))


def test_a_subclass_with_the_name_of_its_parent_is_named_in_full():
    class Linear(nn.Linear):
        pass

    model = nn.Sequential(nn.Linear(8, 8), Linear(8, 3))
    reason = convert_to_analog(model).conversion_report.digital["1"]
    name = f"{__name__}.{Linear.__qualname__}"
    assert f"converters={{{name}: ...}}" in reason
    assert convert_to_analog(model, converters={name: RRAMLinear}).conversion_report.digital == {}


def test_every_silent_skip_is_named_with_its_reason():
    report = convert_to_analog(Awkward()).conversion_report
    parts = [f"attention.{part}_proj" for part in ("q", "k", "v", "out")]
    assert report.analog == ("plain", *parts, "up")
    digital = report.digital
    assert "subclass of Linear" in digital["subclass"]
    assert "parametrization" in digital["spectral"]
    assert "no analog layer exists for Embedding" in digital["embedding"]
    assert "shared with embedding" in digital["tied"]
    for name in ("plain", *digital):
        assert name in str(report)


def test_what_the_report_calls_digital_is_untouched_and_computes_the_same():
    digital = Awkward().eval()
    analog = convert_to_analog(digital).eval()
    assert type(analog.subclass) is MyLinear
    assert analog.tied.weight is analog.embedding.weight
    x = torch.randn(3, 8)
    torch.testing.assert_close(analog(x), digital(x))


def test_layer_registered_twice_stays_one_layer():
    analog = convert_to_analog(Awkward())
    assert isinstance(analog.plain, RRAMLinear)
    assert analog.twice is analog.plain
    assert next(iter(analog_layers(analog))) == "plain"
    back = convert_to_digital(analog)
    assert type(back.twice) is nn.Linear and back.twice is back.plain


def test_block_registered_twice_stays_one_block():
    block = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    analog = convert_to_analog(nn.Sequential(block, block))
    assert analog[0] is analog[1]
    assert list(analog_layers(analog)) == ["0.0"]


class Scaled(nn.Module):
    """A layer, or a block of layers, beside a parameter of the block's own."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, 4))
        self.inside = inside

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.inside(x)


def vision_transformer() -> nn.Module:
    return VisionTransformer(8, 4, num_layers=2, num_heads=2, hidden_dim=4, mlp_dim=8)


def swin_transformer() -> nn.Module:
    return SwinTransformer([2, 2], 4, [1, 1], [2, 2], [2, 2])


def convnext() -> nn.Module:
    return ConvNeXt([CNBlockConfig(4, 8, 1), CNBlockConfig(8, None, 1)])


READ_BY_PARENT = {"qkv", "proj"}  # of torchvision's Swin


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: nn.Sequential(Scaled(nn.Linear(4, 4)), nn.Linear(4, 2)), (3, 4)),
        (lambda: Scaled(nn.Sequential(Scaled(Scaled(nn.Linear(4, 4))), nn.Linear(4, 4))), (3, 4)),
        (vision_transformer, (2, 3, 8, 8)),
        (swin_transformer, (2, 3, 16, 16)),
        (convnext, (2, 3, 32, 32)),
    ],
)
def test_a_chip_changes_every_layer_that_the_report_calls_analog(make, shape):
    torch.manual_seed(0)
    digital = make().eval()
    for parameter in digital.parameters():
        nn.init.normal_(parameter, std=0.3)  # transformers begin with zeros, which no chip changes
    analog = convert_to_analog(digital).eval()
    layers = {
        name
        for name, module in digital.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
        and name.rpartition(".")[2] not in READ_BY_PARENT
    }
    layers |= {
        f"{name}.{part}_proj"
        for name, module in digital.named_modules()
        if isinstance(module, nn.MultiheadAttention)
        for part in "qkv"
    }
    assert set(analog.conversion_report.analog) == layers
    nominal = effective_weights(analog)
    assert set(nominal) == layers
    x = torch.randn(shape)
    torch.testing.assert_close(analog(x), digital(x), rtol=1e-4, atol=1e-4)
    with programmed(analog, 1):
        for name, weight in effective_weights(analog).items():
            assert not torch.equal(weight, nominal[name])
        assert not torch.equal(analog(x), digital(x))


def test_a_layer_whose_weight_its_parent_reads_stays_digital():
    digital = convert_to_analog(swin_transformer()).conversion_report.digital
    for name in ("features.1.0.attn.qkv", "features.1.0.attn.proj"):
        assert "ShiftedWindowAttention computes with its weight itself" in digital[name]


def tied(part: str) -> nn.Module:
    net = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4)), nn.Linear(4, 2))
    setattr(net[1][0], part, getattr(net[0], part))
    return net


@pytest.mark.parametrize("part", ["weight", "bias"])
def test_shared_weights_that_a_crossbar_takes_apart_are_warned_of(part):
    with pytest.warns(UserWarning, match=rf"1\.0\.{part} is shared with 0; .*sets them apart"):
        analog = convert_to_analog(tied(part), tied="untie")
    assert analog.conversion_report.analog == ("0", "1.0", "2")


@pytest.mark.parametrize("part", ["weight", "bias"])
def test_shared_weights_stay_one_and_digital_unless_asked_otherwise(part, recwarn):
    analog = convert_to_analog(tied(part))
    assert getattr(analog[1][0], part) is getattr(analog[0], part)
    report = analog.conversion_report
    assert report.analog == ("2",)
    assert f"its {part} is shared with 1.0" in report.digital["0"]
    assert "tied='untie'" in report.digital["1.0"]
    assert not [w for w in recwarn if "sets them apart" in str(w.message)]


def test_an_unknown_choice_for_shared_weights_is_refused():
    with pytest.raises(CnetError, check=lambda e: e.key == "tied" and e.value == "keep"):
        convert_to_analog(tied("weight"), tied="keep")


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("padded", [False, True])
def test_a_transformer_encoder_computes_in_evaluation(activation, padded):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, activation=activation, batch_first=True)
    digital = nn.TransformerEncoder(layer, 2).eval()
    analog = convert_to_analog(digital)
    x = torch.randn(3, 5, 8)
    mask = torch.tensor([[False] * 4 + [padded]] * 3) if padded else None
    for grad in (torch.enable_grad, torch.no_grad):
        with grad():
            wanted = digital(x, src_key_padding_mask=mask)[:, :4]
            torch.testing.assert_close(analog(x, src_key_padding_mask=mask)[:, :4], wanted)
            twin = convert_to_digital(analog)
            torch.testing.assert_close(twin(x, src_key_padding_mask=mask)[:, :4], wanted)
            with programmed(analog, 1):
                varied = analog(x, src_key_padding_mask=mask)[:, :4]
            assert not torch.allclose(varied, wanted, atol=1e-3)


def test_a_layer_inside_a_wrapper_becomes_analog():
    net = nn.Sequential(LayerWrapper(nn.Linear(4, 4)))
    assert convert_to_analog(net).conversion_report.analog == ("0.base_layer",)


def test_a_repeated_layer_keeps_its_places():
    layer = nn.Linear(4, 4)
    net = nn.Sequential(layer, layer, nn.ReLU(), layer)
    x = torch.randn(3, 4)
    analog = convert_to_analog(net)
    torch.testing.assert_close(analog.eval()(x), net(x))
    torch.testing.assert_close(convert_to_digital(analog)(x), net(x))


ROOTS = [
    lambda: nn.Linear(4, 4),
    lambda: nn.Sequential(nn.Linear(4, 4)),
    lambda: Scaled(nn.Linear(4, 4)),
]


@pytest.mark.parametrize("make", ROOTS)
@pytest.mark.parametrize("training", [True, False])
def test_every_layer_keeps_its_mode_both_ways(make, training):
    analog = convert_to_analog(make().train(training))
    assert {module.training for module in analog.modules()} == {training}
    x = torch.ones(2, 4)
    assert torch.equal(analog(x), analog(x)) is not training
    assert {module.training for module in convert_to_digital(analog).modules()} == {training}


@pytest.mark.parametrize(
    "trace", [symbolic_trace, partial(create_feature_extractor, return_nodes=["2"])]
)
def test_a_traced_network_converts_computes_and_can_be_copied(trace):
    network = trace(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))).eval()
    analog = convert_to_analog(network)
    x = torch.ones(2, 4)
    assert not any(module.training for module in analog.modules())

    def outputs(model):
        given = model.eval()(x)
        return given["2"] if isinstance(given, dict) else given

    for model in (analog, copy.deepcopy(analog), convert_to_digital(analog)):
        assert torch.equal(outputs(model), outputs(network))
    with programmed(analog, seed=1):
        assert not torch.equal(outputs(analog), outputs(network))


def test_a_layer_in_another_mode_than_its_network_keeps_it(conv_net):
    conv_net.train().grouped.eval()
    analog = convert_to_analog(conv_net)
    assert analog.first.training and not analog.grouped.analog_module.training
    back = convert_to_digital(analog)
    assert back.first.training and not back.grouped.training


@pytest.mark.parametrize("frozen", ["weight", "bias"])
@pytest.mark.parametrize("make", ROOTS)
def test_what_is_frozen_stays_frozen_both_ways(make, frozen):
    network = make()
    name = next(n for n, _ in network.named_parameters() if n.endswith(frozen))
    network.get_parameter(name).requires_grad_(False)
    analog = convert_to_analog(network)
    before = snapshot(analog)
    analog(torch.ones(1, 4)).sum().backward()
    torch.optim.SGD(analog.parameters(), lr=0.1).step()
    after = snapshot(analog)
    assert [n for n in before if torch.equal(before[n], after[n])] == [name]
    back = convert_to_digital(analog)
    assert [n for n, p in back.named_parameters() if not p.requires_grad] == [name]


def test_layers_that_came_frozen_are_thawed_and_frozen_as_others(conv_net):
    analog = convert_to_analog(conv_net.requires_grad_(False))
    assert not trainable_parameters(analog)
    unfreeze_analog(analog)
    assert len(trainable_parameters(analog)) == 7  # not those of the norm
    freeze_analog(analog)
    assert not trainable_parameters(analog)


CASTS = {
    torch.float32: nn.Module.float,
    torch.float64: nn.Module.double,
    torch.float16: nn.Module.half,
    torch.bfloat16: nn.Module.bfloat16,
}


@pytest.mark.parametrize("dtype", CASTS)
def test_weights_keep_their_number_type_and_every_bit(conv_net, images, dtype):
    digital, x = conv_net.eval().to(dtype), images.to(dtype)
    analog = convert_to_analog(digital)
    assert torch.equal(analog(x), digital(x))
    with programmed(analog, 1):
        assert analog(x).dtype == dtype
        assert not torch.equal(analog(x), digital(x))
    assert torch.equal(analog(x), digital(x))
    back = convert_to_digital(copy.deepcopy(analog)).state_dict()
    for name, tensor in digital.state_dict().items():
        assert torch.equal(back[name], tensor) and back[name].dtype == tensor.dtype


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(4, 6),
        nn.Conv1d(4, 6, 3, groups=2),
        nn.Conv2d(4, 6, 3, padding="same", padding_mode="reflect"),
        nn.Conv3d(4, 6, 2, bias=False),
        nn.ConvTranspose1d(4, 6, 3, groups=2),
        nn.ConvTranspose2d(4, 6, 3, stride=2),
        nn.ConvTranspose3d(4, 6, 2),
        nn.LSTM(4, 6),
        nn.MultiheadAttention(4, 2),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_weights_trained_in_double_precision_come_back_without_rounding(layer):
    digital = nn.Sequential(copy.deepcopy(layer)).double()
    with torch.no_grad():
        for parameter in digital.parameters():
            parameter.copy_(torch.randn_like(parameter))  # single precision does not hold these
    analog = convert_to_analog(digital)
    for back in (convert_to_digital(analog).state_dict(), digital_state_dict(analog)):
        for name, tensor in digital.state_dict().items():
            assert torch.equal(back[name], tensor)


@pytest.mark.parametrize("dtype", CASTS)
@pytest.mark.parametrize("mapping", [{}, {"weight_scaling_omega": 1.0}, {"max_input_size": 5}])
def test_an_analog_network_is_cast_as_a_digital_one(dtype, mapping):
    digital = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    analog = convert_to_analog(digital, RRAMRPUConfig(mapping=MappingParameter(**mapping)))
    x = torch.randn(3, 8)
    CASTS[dtype](analog), CASTS[dtype](digital)
    out = analog(x.to(dtype))
    assert out.dtype == dtype
    torch.testing.assert_close(out, digital(x.to(dtype)), rtol=1e-2, atol=1e-2)
    analog.train()(x.to(dtype)).sum().backward()
    with programmed(analog.eval(), 1):
        assert analog(x.to(dtype)).dtype == dtype


@pytest.mark.parametrize(
    ("dtype", "config"),
    [(torch.float64, TorchInferenceRPUConfig()), (torch.complex64, RRAMRPUConfig())],
)
@pytest.mark.filterwarnings("ignore")
def test_number_types_that_tiles_do_not_take_are_refused(dtype, config):
    net = nn.Sequential(nn.Linear(2, 2).to(dtype))
    with pytest.raises(CnetError, check=lambda e: e.key == "0") as error:
        convert_to_analog(net, config)
    assert ("float" in str(error.value.fix)) != dtype.is_complex  # which torch casts no complex to


def test_layers_without_weights_stay_digital():
    net = nn.Sequential(nn.Linear(3, 0), nn.Linear(0, 2))
    with pytest.raises(CnetError, check=lambda e: e.key == "model"):
        convert_to_analog(net)
    net.append(nn.Linear(2, 2))
    model = convert_to_analog(net).eval()
    assert model.conversion_report.analog == ("2",)
    x = torch.randn(4, 3)
    assert torch.equal(model(x), net(x))


def test_another_class_of_the_name_of_torchs_is_named_in_full():
    kind = type("Linear", (nn.Module,), {"__module__": "somewhere.else_"})
    layer = kind()
    layer.weight = nn.Parameter(torch.zeros(2, 2))
    report = convert_to_analog(nn.Sequential(layer, nn.Linear(9, 9))).conversion_report
    assert report.digital["0"].endswith("somewhere.else_.Linear")


def test_a_sequential_keeps_its_own_parameters_and_hooks():
    network = nn.Sequential(nn.Sequential(nn.Linear(4, 4)))
    network[0].scale = nn.Parameter(torch.full((1, 4), 3.0))
    network[0].register_forward_hook(lambda module, _, out: module.scale * out)
    x = torch.randn(2, 4)
    analog = convert_to_analog(network).eval()
    assert "parameters lie beside" in analog.conversion_report.digital["0"]
    torch.testing.assert_close(analog(x), network(x))
    torch.testing.assert_close(convert_to_digital(analog)(x), network(x))


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        (["fc"], {"fc"}),
        (["f*"], {"first", "fc"}),
        (["grouped", "again"], {"grouped", "again"}),
    ],
)
def test_layers_are_left_digital_by_name_or_pattern(conv_net, exclude, left):
    analog = convert_to_analog(conv_net, exclude=exclude)
    assert set(analog.conversion_report.digital) == left
    assert set(analog_layers(analog)) == {"first", "grouped", "again", "fc"} - left
    for name in left:
        assert type(analog.get_submodule(name)) is type(conv_net.get_submodule(name))
        assert analog.conversion_report.digital[name] == "named in exclude"


def test_excluding_a_block_excludes_all_below_it():
    net = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), nn.Linear(2, 2))
    assert list(analog_layers(convert_to_analog(net, exclude=["0"]))) == ["1"]


def test_unknown_name_in_exclude_gives_the_nearest_names(conv_net):
    with pytest.raises(CnetError, check=lambda e: e.key == "exclude"):
        convert_to_analog(conv_net, exclude=["frist"])


def test_a_lazy_layer_is_named_until_it_has_its_shape():
    network = nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(CnetError, check=lambda e: e.key == "0.weight"):
        convert_to_analog(network, RRAMRPUConfig())
    network(torch.zeros(1, 3))
    assert list(convert_to_analog(network, RRAMRPUConfig()).conversion_report.analog) == ["0", "2"]


def test_network_without_a_layer_to_convert_is_refused():
    with pytest.raises(CnetError, check=lambda e: e.key == "model"):
        convert_to_analog(nn.Sequential(nn.ReLU()))
    with pytest.raises(CnetError, check=lambda e: e.key == "model"):
        analog_layers(nn.Linear(2, 2))


def test_copy_by_default_and_in_place_on_request(conv_net):
    analog = convert_to_analog(conv_net)
    assert type(conv_net.first) is nn.Conv2d
    assert isinstance(analog.first, RRAMConv2d)
    convert_to_analog(conv_net, inplace=True)
    assert isinstance(conv_net.first, RRAMConv2d)


def test_digital_twin_computes_the_same_and_is_plain_torch(conv_net, images):
    conv_net.eval()
    analog = convert_to_analog(conv_net).eval()
    twin = convert_to_digital(analog).eval()
    assert torch.equal(twin(images), conv_net(images))
    assert type(twin) is type(conv_net)
    assert type(twin.grouped) is nn.Conv2d and twin.grouped.groups == 4
    assert isinstance(analog.first, RRAMConv2d)


def test_classes_of_one_name_are_not_confused():
    """aihwkit keys its wrappers by class name; a second class Net would become the first."""

    def make(value: float) -> nn.Module:
        class Net(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.fc = nn.Linear(2, 2)

            def forward(self, x: Tensor) -> Tensor:
                return self.fc(x) * 0 + value

        return Net()

    first, second = convert_to_analog(make(1.0)), convert_to_analog(make(2.0))
    assert first(torch.ones(1, 2)).tolist() == [[1.0, 1.0]]
    assert second(torch.ones(1, 2)).tolist() == [[2.0, 2.0]]


def test_other_configurations_get_aihwkits_own_layers(conv_net):
    net = nn.Sequential(nn.Linear(3, 3), nn.Conv2d(2, 2, 1, groups=2))
    analog = convert_to_analog(net, SingleRPUConfig())
    assert type(analog[0]) is AnalogLinear
    assert "takes no groups" in analog.conversion_report.digital["1"]


def test_model_methods_of_aihwkit_are_there(conv_net, images):
    analog = convert_to_analog(conv_net).eval()
    before = analog(images)
    analog.program_analog_weights()
    assert not torch.allclose(analog(images), before)
    assert copy.deepcopy(analog)(images).shape == before.shape


def test_a_network_on_crossbars_is_not_converted_twice():
    analog = convert_to_analog(nn.Sequential(nn.Linear(2, 2)), RRAMRPUConfig())
    with pytest.raises(CnetError, check=lambda e: e.expected == "a digital network"):
        convert_to_analog(analog, RRAMRPUConfig())
