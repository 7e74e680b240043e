"""Converters: each computes and learns as torch does at sigma 0, and varies with the chip."""

import copy
import warnings
from inspect import signature

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from cnet_aihw.rram import (
    CONVERTERS,
    CrossbarGRU,
    CrossbarLSTM,
    CrossbarMultiheadAttention,
    CrossbarRNN,
    LayerWrapper,
    LogNormalNoiseModel,
    RRAMConv2d,
    RRAMConv3d,
    RRAMConvTranspose2d,
    RRAMLinear,
    RRAMRPUConfig,
    RRAMTransposedLinear,
    analog_layers,
    convert_to_analog,
    convert_to_digital,
    digital_state_dict,
    effective_weights,
    load_digital_state_dict,
    periphery,
    program,
    programmed,
    snapshot,
    trainable_parameters,
)
from cnet_aihw.runtime.errors import CnetError


def perfect() -> RRAMRPUConfig:
    return RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.0))


class Conv1D(nn.Module):
    """Linear layer as Hugging Face has it."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf, self.nx = nf, nx
        self.weight = nn.Parameter(torch.randn(nx, nf))
        self.bias = nn.Parameter(torch.randn(nf))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


def first(outputs: object) -> Tensor:
    """Sum of all tensors of an output, each with weights of its own."""
    tensors = outputs if isinstance(outputs, tuple) else (outputs,)
    total = torch.zeros(())
    for tensor in tensors:
        if isinstance(tensor, tuple):
            total = total + first(tensor)
        elif isinstance(tensor, Tensor):
            weights = torch.linspace(-1, 2, tensor.numel()).view(tensor.shape)
            total = total + (tensor * weights).sum()
    return total


def draw(*shape: int) -> Tensor:
    return torch.randn(shape)


LAYERS = {
    "linear": (lambda: nn.Linear(6, 4), lambda: (draw(3, 5, 6),)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, 2, 1, groups=2), lambda: (draw(2, 4, 9),)),
    "conv2d": (lambda: nn.Conv2d(4, 6, 3, padding="same", bias=False), lambda: (draw(2, 4, 5, 6),)),
    "conv3d": (lambda: nn.Conv3d(2, 4, (1, 2, 3), 2, 1, 2), lambda: (draw(2, 2, 6, 7, 8),)),
    "conv3d, groups": (lambda: nn.Conv3d(2, 4, 2, groups=2), lambda: (draw(2, 2, 3, 4, 5),)),
    "transposed 1d": (lambda: nn.ConvTranspose1d(3, 5, 4, 2, 1, 1), lambda: (draw(2, 3, 6),)),
    "transposed 2d": (
        lambda: nn.ConvTranspose2d(4, 6, (3, 2), (2, 3), (1, 0), (1, 2), 2, dilation=2),
        lambda: (draw(2, 4, 4, 5),),
    ),
    "transposed 2d, plain": (lambda: nn.ConvTranspose2d(4, 2, 2, 2), lambda: (draw(3, 4, 4, 4),)),
    "transposed 3d": (
        lambda: nn.ConvTranspose3d(2, 3, 2, 2, 1, bias=False),
        lambda: (draw(2, 2, 3, 3, 4),),
    ),
    "transposed, unbatched": (lambda: nn.ConvTranspose1d(3, 5, 4), lambda: (draw(3, 6),)),
    "Conv1D": (lambda: Conv1D(5, 3), lambda: (draw(2, 4, 3),)),
    "attention": (lambda: nn.MultiheadAttention(8, 2), lambda: (*[draw(5, 3, 8)] * 3,)),
    "attention across": (
        lambda: nn.MultiheadAttention(8, 4, batch_first=True, kdim=6, vdim=5),
        lambda: (draw(3, 4, 8), draw(3, 7, 6), draw(3, 7, 5)),
    ),
    "attention, all": (
        lambda: nn.MultiheadAttention(8, 2, add_bias_kv=True, add_zero_attn=True),
        lambda: (draw(5, 3, 8), draw(4, 3, 8), draw(4, 3, 8)),
    ),
    "attention without bias": (
        lambda: nn.MultiheadAttention(8, 2, bias=False, batch_first=True),
        lambda: (*[draw(5, 3, 8)] * 3,),
    ),
    "attention, unbatched": (lambda: nn.MultiheadAttention(8, 2), lambda: (*[draw(5, 8)] * 3,)),
    "lstm": (lambda: nn.LSTM(4, 6), lambda: (draw(5, 3, 4),)),
    "lstm, all": (
        lambda: nn.LSTM(4, 6, 2, batch_first=True, bidirectional=True, proj_size=3),
        lambda: (draw(3, 5, 4),),
    ),
    "lstm, states": (
        lambda: nn.LSTM(4, 6, 2),
        lambda: (draw(5, 3, 4), (draw(2, 3, 6), draw(2, 3, 6))),
    ),
    "gru": (lambda: nn.GRU(4, 6, 2, bidirectional=True), lambda: (draw(5, 3, 4),)),
    "gru, unbatched": (lambda: nn.GRU(4, 6, bias=False), lambda: (draw(5, 4), draw(1, 6))),
    "rnn": (lambda: nn.RNN(4, 6, 2), lambda: (draw(5, 3, 4),)),
    "rnn, relu": (
        lambda: nn.RNN(4, 6, nonlinearity="relu", bidirectional=True, batch_first=True),
        lambda: (draw(3, 5, 4), draw(2, 3, 6)),
    ),
}


def build(name: str, seed: int) -> tuple[nn.Module, tuple[object, ...]]:
    torch.manual_seed(seed)
    make, inputs = LAYERS[name]
    return make(), inputs()


OWN = "its own parameters lie beside its layers"


def leaves(inputs: tuple[object, ...]) -> list[Tensor]:
    found: list[Tensor] = []
    for value in inputs:
        found += leaves(value) if isinstance(value, tuple) else [value]
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("seed", [0, 1])
def test_each_converter_computes_and_learns_as_torch_does(name, seed):
    digital, inputs = build(name, seed)
    analog = convert_to_analog(copy.deepcopy(digital), perfect())
    digital_rows = analog.conversion_report.digital
    assert digital_rows == ({"": OWN} if name == "attention, all" else {})
    gradients = []
    for model in (digital, analog):
        tensors = leaves(inputs)
        for tensor in tensors:
            tensor.requires_grad_(True).grad = None
        loss = first(model(*inputs))
        loss.backward()
        gradients.append((loss.detach(), [tensor.grad.clone() for tensor in tensors]))
        parameters = trainable_parameters(model)
        torch.optim.SGD(parameters, lr=0.1).step()
    torch.testing.assert_close(gradients[1], gradients[0], rtol=2e-5, atol=2e-5)
    stepped = digital_state_dict(analog)
    assert list(stepped) == list(digital.state_dict())
    torch.testing.assert_close(stepped, dict(digital.state_dict()), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_each_converter_varies_with_the_chip_and_is_repeatable(name):
    digital, inputs = build(name, 0)
    analog = convert_to_analog(digital, RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.3))).eval()
    nominal = first(analog(*inputs))
    with torch.no_grad():
        outputs = []
        for seed in (3, 3, 4):
            with programmed(analog, seed):
                outputs.append(first(analog(*inputs)))
                chip = effective_weights(analog)
        assert outputs[0] == outputs[1] != outputs[2]
        assert first(analog(*inputs)) == nominal
    for layer, weight in effective_weights(analog).items():
        assert not torch.equal(chip[layer], weight)


@pytest.mark.parametrize("name", LAYERS)
def test_inputs_can_be_given_by_torchs_names(name):
    digital, inputs = build(name, 0)
    names = list(signature(digital.forward).parameters)
    named = dict(zip(names, inputs, strict=False))
    analog = convert_to_analog(digital, perfect()).eval()
    seen: list[tuple[object, ...]] = []
    analog.register_forward_hook(lambda _, given, __: seen.append(given))
    wanted = first(digital.eval()(**named))
    torch.testing.assert_close(first(analog(**named)), wanted, rtol=1e-5, atol=1e-6)
    if names[0] != "query":  # what looks at a layer's inputs finds them where they usually are
        assert seen[0][0] is inputs[0]


@pytest.mark.parametrize("name", LAYERS)
def test_digital_states_go_both_ways(name):
    digital, inputs = build(name, 0)
    other, _ = build(name, 1)
    analog = convert_to_analog(digital, perfect()).eval()
    load_digital_state_dict(analog, other.state_dict())
    back = digital_state_dict(analog)
    assert all(torch.equal(back[key], value) for key, value in other.state_dict().items())
    plain = convert_to_digital(analog)
    assert type(plain) is type(digital)
    torch.testing.assert_close(first(plain(*inputs)), first(other.eval()(*inputs)))
    with pytest.raises(CnetError, check=lambda e: e.key == "state"):
        load_digital_state_dict(analog, {"weight": torch.zeros(1)})


class Beside(LayerWrapper):
    """A layer with a number beside it."""

    def __init__(self, layer):
        super().__init__(layer)
        self.beside = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return self.base_layer(x) * self.beside


@pytest.mark.parametrize("wrapped", ["layer", "network"])
def test_digital_states_reach_layers_in_wrappers(wrapped):
    digital = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))
    analog = convert_to_analog(digital, perfect())
    if wrapped == "layer":
        analog[0] = Beside(analog[0])
    else:
        analog = nn.DataParallel(analog)
    changed = {name: t + 1 for name, t in digital_state_dict(analog).items()}
    load_digital_state_dict(analog, changed)
    assert {n: t.tolist() for n, t in digital_state_dict(analog).items()} == {
        n: t.tolist() for n, t in changed.items()
    }


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"padding_mode": "circular"}, "padding_mode"),
        ({"padding": -1}, "padding"),
        ({"groups": 4}, "groups"),
        ({"in_channels": 0}, "in_channels"),
        ({"output_padding": -1}, "output_padding"),
        ({"stride": 0}, "stride"),
    ],
)
def test_a_transposed_convolution_refuses_what_it_does_not_compute(changes, key):
    """torch's own has no padding modes; with one, zeros would be computed with all the same."""
    with pytest.raises(CnetError, check=lambda e: e.key == key):
        RRAMConvTranspose2d(**{"in_channels": 6, "out_channels": 6, "kernel_size": 3, **changes})


PERIPHERY = [name for name in LAYERS if name.startswith(("conv", "transposed", "Conv1D"))]


@pytest.mark.parametrize("name", PERIPHERY)
def test_behind_dac_and_adc_the_outputs_are_near(name):
    digital, inputs = build(name, 0)
    config = perfect()
    config.forward = periphery(dac_bits=14, adc_bits=16, adc_range=100.0)
    analog = convert_to_analog(copy.deepcopy(digital), config).eval()
    y, wanted = analog(*inputs), digital(*inputs)
    assert y.shape == wanted.shape and not torch.equal(y, wanted)
    torch.testing.assert_close(y, wanted, rtol=0.01, atol=0.02)


def causal(length: int, more: int) -> Tensor:
    return torch.ones(length, more).triu(1).bool()


MASKS = [
    {"need_weights": False},
    {"average_attn_weights": False},
    {"attn_mask": causal(5, 5)},
    {"attn_mask": causal(5, 5), "need_weights": False, "is_causal": True},
    {"attn_mask": torch.randn(6, 5, 5), "need_weights": False},
    {"key_padding_mask": causal(3, 5), "attn_mask": causal(5, 5), "need_weights": False},
    {"key_padding_mask": torch.randn(3, 5), "attn_mask": torch.randn(5, 5)},
    {"key_padding_mask": causal(3, 5), "attn_mask": causal(5, 5), "is_causal": True},
]


@pytest.mark.parametrize("arguments", MASKS)
@pytest.mark.parametrize("more", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_attention_takes_all_of_torchs_arguments(arguments, more, training):
    torch.manual_seed(0)
    dropout = 0.3 if training else 0.0
    settings = {"add_bias_kv": more, "add_zero_attn": more, "batch_first": True}
    digital = nn.MultiheadAttention(8, 2, dropout, **settings).train(training)
    config = perfect()
    config.variation.enabled = False  # it would draw before dropout does
    analog = convert_to_analog(digital, config)
    assert isinstance(analog, CrossbarMultiheadAttention)
    x = torch.randn(3, 5, 8)
    found = []
    for model in (digital, analog):
        torch.manual_seed(5)
        found.append(model(x, x + 1, x - 1, **arguments))
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"is_causal": True}, "attn_mask"),
        ({"attn_mask": torch.ones(5, 4)}, "attn_mask"),
        ({"attn_mask": torch.ones(5, 5).long()}, "attn_mask"),
        ({"key_padding_mask": torch.ones(5, 3).bool()}, "key_padding_mask"),
    ],
)
def test_attention_refuses_masks_that_do_not_fit(arguments, key):
    analog = convert_to_analog(nn.MultiheadAttention(8, 2, batch_first=True), perfect())
    x = torch.randn(3, 5, 8)
    with pytest.raises(CnetError, check=lambda e: e.key == key):
        analog(x, x, x, **arguments)


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("norm_first", [True, False])
def test_transformers_of_torch_compute_in_both_modes(mode, norm_first):
    torch.manual_seed(0)
    settings = {"dropout": 0.0, "norm_first": norm_first}
    digital = nn.Transformer(8, 2, 2, 2, 16, **settings, batch_first=True).train(mode)
    analog = convert_to_analog(digital, perfect())
    assert len(analog.conversion_report.analog) == 2 * (4 + 2) + 2 * (8 + 2)
    source, target = torch.randn(3, 5, 8), torch.randn(3, 4, 8)
    masks = {
        "tgt_mask": nn.Transformer.generate_square_subsequent_mask(4),
        "src_key_padding_mask": (padded := torch.tensor([[False] * 4 + [True]] * 3)),
        "memory_key_padding_mask": padded,
        "tgt_is_causal": True,
    }
    with torch.no_grad():
        wanted = digital(source, target, **masks)
        torch.testing.assert_close(analog(source, target, **masks), wanted, rtol=1e-4, atol=1e-5)
        back = convert_to_digital(analog)(source, target, **masks)
    torch.testing.assert_close(back, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("lengths", [[5, 4, 2], [2, 5, 3], [3, 3, 3]])
def test_packed_sequences(kind, lengths):
    torch.manual_seed(0)
    digital = kind(4, 6, 2, bidirectional=True)
    analog = convert_to_analog(digital, perfect())
    x = torch.randn(5, 3, 4)
    packed = pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
    found = []
    for model in (digital, analog):
        out, last = model(packed)
        found.append((*pad_packed_sequence(out), last))
    torch.testing.assert_close(found[1], found[0])


def test_dropout_between_recurrent_layers_acts_in_training_alone():
    torch.manual_seed(0)
    analog = convert_to_analog(nn.GRU(4, 6, 2, dropout=0.5), perfect())
    x = torch.randn(5, 3, 4)
    assert not torch.equal(analog(x)[0], analog(x)[0])
    assert torch.equal(analog.eval()(x)[0], analog(x)[0])


def test_all_steps_of_a_training_forward_see_one_sample_of_the_variation():
    torch.manual_seed(0)
    digital = nn.RNN(1, 1, bias=False, nonlinearity="relu")
    nn.init.ones_(digital.weight_ih_l0)
    nn.init.ones_(digital.weight_hh_l0)
    analog = convert_to_analog(digital, RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.5)))
    impulse = torch.tensor([1.0, 0.0, 0.0, 0.0]).view(4, 1, 1)
    outputs = analog(impulse)[0].flatten()
    ratios = outputs[1:] / outputs[:-1]
    torch.testing.assert_close(ratios, ratios[:1].expand(3))
    assert ratios[0] != 1.0
    assert analog(impulse)[0].flatten()[1] / analog(impulse)[0].flatten()[0] != ratios[0]


def test_parts_can_be_left_digital_and_others_not():
    layers = nn.ModuleDict(
        {"a": nn.MultiheadAttention(8, 2), "b": nn.LSTM(4, 4), "c": nn.GRU(4, 4)}
    )
    analog = convert_to_analog(layers, perfect(), exclude=["*.v_proj", "b"])
    report = analog.conversion_report
    assert report.analog == ("a.q_proj", "a.k_proj", "a.out_proj", "c.ih_l0", "c.hh_l0")
    assert report.digital == {"a.v_proj": "named in exclude", "b": "named in exclude"}
    assert report.unfolded == ("a", "c")
    assert type(analog["a"].v_proj) is nn.Linear and type(analog["b"]) is nn.LSTM
    kinds = {row.kind: (row.analog, row.weights) for row in report.kinds}
    assert kinds == {"MultiheadAttention": (192, 256), "LSTM": (0, 128), "GRU": (96, 96)}
    assert str(report).endswith("288 of 480 weights (60.0 %) on crossbars")
    everything = convert_to_analog(layers, perfect(), exclude=["a.*", "b"])
    assert type(everything["a"]) is nn.MultiheadAttention
    assert type(convert_to_digital(analog)["a"]) is nn.MultiheadAttention


def test_modules_that_share_weights_are_not_taken_apart():
    net = nn.Sequential(nn.LSTM(4, 4), nn.LSTM(4, 4), nn.Linear(4, 4))
    net[1].weight_ih_l0 = net[0].weight_ih_l0
    report = convert_to_analog(net, perfect()).conversion_report
    assert report.analog == ("2",)
    assert "weight_ih_l0 is shared with 1" in report.digital["0"]
    with pytest.warns(UserWarning, match="only 16 of"):
        report = convert_to_analog(net, perfect(), tied="untie").conversion_report
    assert "not taken apart" in report.digital["0"]


def test_old_weight_norm_of_a_recurrent_matrix_keeps_it_digital():
    with pytest.warns(FutureWarning):
        lstm = nn.utils.weight_norm(nn.LSTM(4, 4), "weight_hh_l0")
    net = nn.Sequential(lstm, nn.Linear(4, 64))
    report = convert_to_analog(net, perfect(), inplace=True).conversion_report
    assert "weight_hh_l0 is computed from others" in report.digital["0"]


def test_one_module_under_two_names_stays_one():
    block = nn.GRU(4, 4)
    net = nn.ModuleList([block, block])
    analog = convert_to_analog(net, perfect())
    assert analog[0] is analog[1] and isinstance(analog[0], CrossbarGRU)
    assert list(analog_layers(analog)) == ["0.ih_l0", "0.hh_l0"]


def test_hooks_and_frozen_parts_stay_with_a_module_that_is_taken_apart():
    torch.manual_seed(0)
    net = nn.Sequential(nn.LSTM(4, 4))
    net[0].weight_hh_l0.requires_grad_(False)
    seen = []
    net[0].register_forward_hook(lambda module, *_: seen.append(type(module)))
    convert_to_analog(net, perfect(), inplace=True)
    net(torch.randn(2, 1, 4))
    assert seen == [CrossbarLSTM]
    assert not net[0].hh_l0.analog_module.tile.weight.requires_grad
    assert net[0].ih_l0.analog_module.tile.weight.requires_grad
    back = convert_to_digital(net)
    assert [n for n, p in back.named_parameters() if not p.requires_grad] == ["0.weight_hh_l0"]


class Doubled(nn.Module):
    """A linear map of twice the input, in a class of a user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(4, 3))

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x @ self.kernel.T


def as_linear(layer: Doubled) -> nn.Linear:
    linear = nn.Linear(3, 4, bias=False)
    linear.weight = nn.Parameter(2 * layer.kernel.detach())
    return linear


@pytest.mark.parametrize("kind", [Doubled, "Doubled", f"{__name__}.Doubled"])
def test_a_users_own_kind_takes_one_line(kind):
    net = nn.Sequential(Doubled(), nn.Linear(4, 2))
    analog = convert_to_analog(net, perfect(), converters={kind: as_linear}).eval()
    assert analog.conversion_report.analog == ("0", "1")
    x = torch.randn(5, 3)
    torch.testing.assert_close(analog(x), net(x))
    assert "kernel" not in dict(analog[0].named_parameters())


@pytest.mark.parametrize("kind", ["LSTM", "torch.nn.modules.rnn.LSTM", nn.LSTM])
def test_a_users_own_entry_counts_before_the_table_by_its_name_too(kind):
    net = nn.Sequential(nn.Linear(8, 64), nn.LSTM(64, 2))
    report = convert_to_analog(net, perfect(), converters={kind: None}).conversion_report
    assert report.digital == {"1": "converters leave LSTM digital"}


def test_names_of_converters_may_stand_for_layers_of_what_is_taken_apart():
    net = nn.Sequential(Doubled(), nn.Conv1d(4, 4, 1))
    table = {Doubled: as_linear, "Linear": None, nn.LSTM: None}  # a class may wait for its layers
    report = convert_to_analog(net, perfect(), converters=table).conversion_report
    assert report.analog == ("1",)


def test_a_network_whose_copy_fails_without_a_word_is_refused():
    class Single(nn.Linear):
        def __deepcopy__(self, memo):
            raise ValueError

    with pytest.raises(CnetError, check=lambda e: e.key == "inplace"):
        convert_to_analog(nn.Sequential(Single(2, 2), nn.Linear(2, 2)), perfect())


def test_converters_can_be_names_and_none():
    net = nn.Sequential(nn.Conv1d(2, 2, 1), nn.Linear(4, 64))
    table = {"torch.nn.modules.linear.Linear": "cnet_aihw.rram.RRAMLinear", "Conv1d": None}
    report = convert_to_analog(
        net, perfect(), converters=table | {nn.Conv1d: None}
    ).conversion_report
    assert report.analog == ("1",)
    assert report.digital["0"] == "converters leave Conv1d digital"


@pytest.mark.parametrize(
    ("converters", "key"),
    [
        ({nn.Linear: "nowhere.Layer"}, "converters.Linear"),
        ({"Linear": 3}, "converters.Linear"),
        ({"Linear": None}, "model"),
        ({3: as_linear}, "converters"),
        ({"Linaer": as_linear}, "converters.Linaer"),
        ({nn.Linear: lambda layer: layer}, "converters.Linear"),
        ({nn.Linear: lambda layer: 3}, "converters.Linear"),
        ({nn.Linear: lambda layer: layer.columns}, "converters.Linear"),
        ({nn.Linear: RRAMConv3d}, "converters.Linear"),
    ],
)
def test_converters_that_are_none_are_refused(converters, key):
    with pytest.raises(CnetError, check=lambda e: e.key == key):
        convert_to_analog(nn.Sequential(nn.Linear(2, 2)), perfect(), converters=converters)


def test_a_class_that_is_called_conv1d_but_is_another_stays_digital():
    class Conv1D(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 3, 3))

    net = nn.Sequential(Conv1D(), nn.Linear(4, 64))
    assert convert_to_analog(net, perfect()).conversion_report.analog == ("1",)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Conv1D", RRAMTransposedLinear),
        ("conv3d", RRAMConv3d),
        ("transposed 2d", RRAMConvTranspose2d),
    ],
)
def test_layers_say_shape_and_type_of_their_weights(name, kind):
    digital, _ = build(name, 0)
    analog = convert_to_analog(digital, perfect())
    assert isinstance(analog, kind) and analog.weight.shape == digital.weight.shape
    half = convert_to_analog(copy.deepcopy(digital).double(), perfect())
    state = digital_state_dict(half)
    assert state["weight"].dtype == torch.float64
    assert torch.equal(state["weight"], digital.weight.double())


def test_the_rnn_classes_and_the_table_agree():
    for digital, analog in ((nn.LSTM, CrossbarLSTM), (nn.GRU, CrossbarGRU), (nn.RNN, CrossbarRNN)):
        assert CONVERTERS[digital] is analog


def test_states_of_another_shape_are_refused():
    analog = convert_to_analog(nn.GRU(4, 6, 2), perfect())
    with pytest.raises(CnetError, check=lambda e: e.key == "hx" and e.expected == [(2, 3, 6)]):
        analog(torch.randn(5, 3, 4), torch.randn(1, 3, 6))
    with pytest.raises(CnetError, check=lambda e: e.key == "input"):
        analog(torch.randn(5, 3, 3))


def test_a_snapshot_has_the_names_of_the_parts_and_copies_keep_the_chip():
    analog = convert_to_analog(nn.Sequential(nn.LSTM(4, 6)), RRAMRPUConfig()).eval()
    assert set(snapshot(analog)) == {
        f"0.{matrix}_l0.{part}" for matrix in ("ih", "hh") for part in ("weight", "bias")
    }
    program(analog, 3)
    x = torch.randn(5, 3, 4)
    assert torch.equal(copy.deepcopy(analog)(x)[0], analog(x)[0])


def test_a_forward_of_its_own_that_an_analog_layer_does_not_call_is_warned_of():
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    class Same(nn.Conv2d):
        def _conv_forward(self, x, weight, bias):
            return super()._conv_forward(x, weight, bias)

    class Renamed(nn.Linear):
        pass

    for layer, analog in ((Doubled(3, 3), RRAMLinear), (Same(1, 1, 1), RRAMConv2d)):
        with pytest.warns(UserWarning, match=f"{type(layer).__name__} has a .*forward of its own"):
            convert_to_analog(nn.Sequential(layer), perfect(), converters={type(layer): analog})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        convert_to_analog(
            nn.Sequential(Renamed(3, 3), nn.LSTM(2, 2)), perfect(), converters={Renamed: RRAMLinear}
        )
