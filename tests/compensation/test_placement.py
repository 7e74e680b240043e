"""Placements: parsing, checks against the model, costs, and the largest uniform one."""

import numpy as np
import pytest
import torch
from aihwkit.simulator.configs import TorchInferenceRPUConfig
from aihwkit.simulator.parameters import IOParameters
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cnet_aihw.compensation import (
    PAPER,
    Affine,
    Digital,
    GeneratorCompensator,
    LowRank,
    PerChipFit,
    Placement,
    WithCompensation,
    calibration_overhead,
    check_placement,
    compensate,
    compensation_cost,
    compensation_disabled,
    digital_placement,
    load_compensation,
    network_cost,
    off_crossbar_cost,
    over_limit,
    overheads,
    placement_of,
    remove_compensation,
    save_compensation,
    total_overhead,
    uniform_placement,
)
from cnet_aihw.compensation.cost import is_within
from cnet_aihw.evaluation import AffineCorrection
from cnet_aihw.rram import convert_to_analog
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.zoo import LeNet5

RESIDUAL = GeneratorCompensator(form="residual")


@pytest.fixture
def lenet():
    torch.manual_seed(0)
    return convert_to_analog(LeNet5()).eval()


@pytest.fixture
def costs(lenet):
    return network_cost(lenet, torch.zeros(1, 1, 28, 28))


@pytest.mark.parametrize(
    "text",
    ["{conv1: 0.5, fc1: digital}", '{"conv1": 0.5, "fc1": "digital"}', "conv1: 0.5\nfc1: digital"],
)
def test_yaml_and_json_are_read_and_written(text, tmp_path):
    placement = Placement.parse(text)
    assert dict(placement) == {"conv1": 0.5, "fc1": "digital"}
    for written in (placement.to_json(), placement.to_yaml()):
        (tmp_path / "placement").write_text(written)
        assert Placement.read(tmp_path / "placement") == placement
        assert hash(Placement.parse(written)) == hash(placement)


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("{conv1: 1.5}", "placement.conv1", 1.5),
        ("{conv1: -0.1}", "placement.conv1", -0.1),
        ("{conv1: true}", "placement.conv1", True),
        ("{conv1: analog}", "placement.conv1", "analog"),
        ("{1: 0.5}", "placement", 1),
        ("[conv1]", "placement", "[conv1]"),
        ("{conv1: [", "placement", "{conv1: ["),
    ],
)
def test_impossible_placements_are_refused_in_one_sentence(text, key, value):
    with pytest.raises(CnetError) as error:
        Placement.parse(text)
    assert (error.value.key, error.value.value) == (key, value)
    assert "\n" not in str(error.value)


def test_not_a_number_is_refused():
    with pytest.raises(CnetError) as error:
        Placement({"conv1": float("nan")})
    assert error.value.key == "placement.conv1"


def test_missing_file_is_named(tmp_path):
    with pytest.raises(CnetError) as error:
        Placement.read(tmp_path / "none.yaml")
    assert error.value.value == str(tmp_path / "none.yaml")


def test_unknown_layer_gives_the_nearest_names(lenet):
    with pytest.raises(CnetError) as error:
        compensate(lenet, Placement({"conv3": 0.5}))
    assert error.value.key == "placement.conv3"
    assert {"conv1", "conv2"} <= set(error.value.expected)


def test_layers_that_are_not_analog_are_refused():
    model = convert_to_analog(LeNet5(), exclude=["fc1"])
    config = TorchInferenceRPUConfig(forward=IOParameters(is_perfect=True), drift_compensation=None)
    stock = convert_to_analog(nn.Sequential(nn.Linear(2, 2)), config)
    for refused, name in ((model, "fc1"), (stock, "0"), (convert_to_analog(nn.Linear(2, 2)), "")):
        with pytest.raises(CnetError) as error:
            check_placement(Placement({name: 0.5}), refused)
        assert error.value.key in ("placement", f"placement.{name}")


def test_misuse_of_the_verbs_is_refused(lenet, tmp_path):
    placement = Placement({"conv1": 0.5})
    with pytest.raises(CnetError) as error:
        save_compensation(lenet, tmp_path / "c.safetensors")
    assert error.value.fix == "call compensate(model, ...) first"
    compensate(lenet, placement)
    with pytest.raises(CnetError) as error:
        compensate(lenet, placement)
    assert error.value.fix == "call remove_compensation(model) first"
    (tmp_path / "bad").write_bytes(b"something else")
    with pytest.raises(CnetError) as error:
        load_compensation(remove_compensation(lenet), tmp_path / "bad")
    assert error.value.key == str(tmp_path / "bad")


def test_a_ratio_that_the_corrector_does_not_have_leaves_the_model_as_it_was(lenet):
    with pytest.raises(CnetError) as error:
        compensate(lenet, Placement({"conv1": 1.0, "conv2": 0.5}), Affine())
    assert error.value.key == "ratio"
    assert not placement_of(lenet)


def test_a_digital_corrector_is_the_placement_digital(lenet):
    compensate(lenet, Placement({"conv1": 1.0, "fc1": 0.0}), Digital())
    assert dict(placement_of(lenet)) == {"conv1": "digital"}


def test_file_of_another_network_is_refused_and_leaves_the_model_as_it_was(lenet, tmp_path):
    compensate(lenet, Placement({"conv1": 0.5}))
    save_compensation(lenet, tmp_path / "c.safetensors")
    other = convert_to_analog(LeNet5(input_shape=(3, 32, 32)))
    with pytest.raises(CnetError) as error:
        load_compensation(other, tmp_path / "c.safetensors")
    assert error.value.key == "conv1.generator.weight"
    compensate(other, Placement({"conv1": 0.5}))


def test_digital_layers_do_not_vary_and_cost_their_weights(lenet, costs):
    x = torch.randn(3, 1, 28, 28)
    before = lenet(x)
    everything = Placement(dict.fromkeys(costs.layers, "digital"))
    compensate(lenet, everything)
    assert torch.equal(lenet.train()(x), before)
    cost = compensation_cost(costs, everything, PAPER)
    assert cost.overhead_weights == 1.0 and cost.overhead_macs == 1.0
    with compensation_disabled(lenet):
        assert not torch.equal(lenet(x), before)


def test_lenet_has_its_known_costs(costs):
    assert costs.weights == 61_706
    assert costs.layers["conv1"].macs == 28 * 28 * 25 * 6
    assert costs.macs == 28 * 28 * 150 + 10 * 10 * 2400 + 400 * 120 + 120 * 84 + 840


def test_cost_of_the_papers_compensation_by_hand(costs):
    cost = compensation_cost(costs, Placement({"conv2": 0.25, "fc3": 0.0}), PAPER)
    weights = (6 + 16) * 4 + 4 + (16 + 4) * 16 + 16
    assert cost.weights == {"conv2": weights, "fc3": 0}
    assert cost.macs["conv2"] == ((6 + 16) * 4 + (16 + 4) * 16) * 100
    assert cost.overhead_weights == weights / 61_706


class Frames(nn.Module):
    """A convolution on each of T frames, [N, T, 3, H, W], and a layer on their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.compensation = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.conv(x.flatten(0, 1)).mean((2, 3))
        return self.compensation(features.view(*x.shape[:2], 8).mean(1))


class StepsFirst(nn.Module):
    """A layer on a sequence whose first axis is that of its steps."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x.transpose(0, 1)).mean(0)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (Frames(), (5, 3, 8, 8)),
        (StepsFirst(), (7, 8)),
        (nn.Sequential(nn.Conv2d(1, 8, 3), nn.ConvTranspose2d(8, 3, 2, 2)), (1, 10, 10)),
        (nn.Sequential(nn.Conv3d(1, 8, 3), nn.Flatten(), nn.Linear(64, 10)), (1, 4, 4, 4)),
        (nn.Sequential(nn.Conv1d(4, 6, 3, groups=2, stride=2), nn.Linear(5, 7)), (4, 12)),
    ],
    ids=["frames", "steps first", "transposed", "3d", "1d"],
)
@pytest.mark.parametrize("samples", [1, 3])
def test_macs_are_those_that_torch_counts(model, shape, samples):
    x = torch.randn(samples, *shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x)
    costs = network_cost(convert_to_analog(model), x)
    assert costs.macs == counter.get_total_flops() // 2 // samples
    assert sum(layer.macs for layer in costs.layers.values()) == costs.macs
    assert costs.weights == sum(p.numel() for p in model.parameters())


def test_a_convolution_over_three_dimensions_is_counted_and_not_compensated():
    model = nn.Sequential(nn.Conv3d(1, 8, 3), nn.Flatten(), nn.Linear(64, 10))
    costs = network_cost(model, torch.zeros(1, 1, 4, 4, 4))
    with pytest.raises(CnetError) as error:
        compensation_cost(costs, Placement({"0": 0.5}), PAPER)
    assert (error.value.key, error.value.value) == ("placement.0", 0.5)
    assert compensation_cost(costs, Placement({"0": "digital"})).weights["0"] == 8 * 27 + 8


def test_layers_off_the_crossbars_cost_as_if_they_were_placed_digital():
    model = convert_to_analog(LeNet5(), exclude=["conv1", "fc3"])
    costs = network_cost(model, torch.zeros(1, 1, 28, 28))
    off = off_crossbar_cost(costs)
    placed = compensation_cost(costs, Placement({"conv1": "digital", "fc3": "digital"}))
    assert vars(off) == vars(placed)
    assert set(off.weights) == {"conv1", "fc3"}
    assert off.overhead_weights == (150 + 6 + 840 + 10) / 61_706


@pytest.mark.parametrize("place", [uniform_placement, digital_placement])
def test_layers_off_the_crossbars_are_not_placed(place):
    """They cannot be compensated, and would be paid for a second time as digital ones."""
    model = convert_to_analog(LeNet5(), exclude=["fc3"])
    costs = network_cost(model, torch.zeros(1, 1, 28, 28))
    with pytest.raises(CnetError, match="correctable") as error:
        place(costs, list(costs.layers), 0.5, limit_macs=None)
    assert (error.value.key, error.value.value) == ("layers", "fc3")
    assert costs.correctable == ["conv1", "conv2", "fc1", "fc2"]
    compensate(model, uniform_placement(costs, costs.correctable, 0.5, LowRank()), LowRank())


def test_costs_of_no_sample_are_refused(lenet):
    with pytest.raises(CnetError) as error:
        network_cost(lenet, torch.zeros(0, 1, 28, 28))
    assert (error.value.key, error.value.value) == ("example", 0)


def test_weights_that_digital_layers_share_cost_once():
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(8, 8, bias=False), nn.Linear(8, 8)
            self.b.weight = self.a.weight
            self.c = nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.c(self.b(self.a(x)))

    model = convert_to_analog(Shared(), exclude=["a", "b"])
    off = off_crossbar_cost(network_cost(model, torch.zeros(1, 8)))
    assert off.weights == {"a": 64, "b": 8}
    assert off.macs == {"a": 64, "b": 64}
    assert off.overhead_weights == 72 / (72 + 36)


class Sized(nn.Module):
    """A transposed convolution that is given the size that its stride leaves open."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(4, 2, 3, stride=2, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.up(self.down(x), output_size=list(x.shape[-2:]))


@pytest.mark.parametrize("choice", ["size 1", "digital"])
def test_a_compensated_layer_takes_the_size_of_its_output(choice):
    torch.manual_seed(0)
    model, x = convert_to_analog(Sized()).eval(), torch.randn(2, 1, 8, 8)
    before = model(x)
    compensate(model, Placement({"up": choice}), LowRank())
    assert before.shape[-2:] == (8, 8)
    assert torch.equal(model(x), before)
    with compensation_disabled(model):
        assert torch.equal(model(x), before)


def test_overheads_add_up():
    assert total_overhead([0.1, None, 0.0, 0.02]) == pytest.approx(0.12)
    assert total_overhead([None, 0.0]) is None
    costs = network_cost(convert_to_analog(LeNet5()), torch.zeros(1, 1, 28, 28))
    assert calibration_overhead(costs, 617) == 617 / 61_706


class Attention(nn.Module):
    """Attention over tokens [N, T, 8], as torch has it; its products are not those of layers."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.fc = nn.Linear(8, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.fc(self.attention(tokens, tokens, tokens, need_weights=False)[0])


@pytest.mark.filterwarnings("ignore:only")
@pytest.mark.parametrize("exclude", [(), ("attention",)])
@pytest.mark.parametrize("samples", [1, 3])
def test_attention_is_counted(samples, exclude):
    model = convert_to_analog(Attention(), exclude=exclude)
    costs = network_cost(model, torch.randn(samples, 5, 8))
    projections, products = 4 * 5 * 8 * 8, 2 * 5 * 5 * 8
    assert costs.other_macs == products + (projections if exclude else 0)
    assert costs.macs == projections + products + 5 * 8 * 3
    assert costs.uncounted == ()
    assert len(costs.correctable) == (1 if exclude else 5)


def test_recurrent_layers_count_every_step():
    model = convert_to_analog(nn.LSTM(4, 6, 2, batch_first=True))
    costs = network_cost(model, torch.randn(3, 5, 4))
    assert {name: (layer.positions, layer.macs) for name, layer in costs.layers.items()} == {
        "ih_l0": (5, 5 * 24 * 4),
        "hh_l0": (5, 5 * 24 * 6),
        "ih_l1": (5, 5 * 24 * 6),
        "hh_l1": (5, 5 * 24 * 6),
    }
    assert costs.uncounted == () and costs.other_macs == 0


def test_transposed_convolutions_count_inputs_and_their_correctors_outputs():
    model = convert_to_analog(nn.Sequential(nn.ConvTranspose2d(3, 4, 2, 2), nn.Conv2d(4, 2, 1)))
    costs = network_cost(model, torch.randn(2, 3, 5, 5))
    assert costs.correctable == ["0", "1"]
    assert (costs.layers["0"].positions, costs.layers["0"].macs) == (100, 25 * 3 * 4 * 4)
    cost = compensation_cost(costs, Placement({"0": "size 1"}), LowRank())
    assert cost.macs == {"0": 100 * (3 + 4 + 4)}
    assert compensation_cost(costs, Placement({"0": "digital"})).macs == {"0": 25 * 3 * 4 * 4}


def test_modules_that_cannot_be_counted_are_named(caplog):
    model = nn.Sequential(nn.LSTM(4, 6, batch_first=True))
    costs = network_cost(model, torch.randn(2, 5, 4))
    counted = costs.other_macs == 5 * 4 * 6 * (4 + 6)
    assert counted or (costs.uncounted == ("0",) and "0" in caplog.text)


class Scale(nn.Module):
    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gamma


@pytest.mark.parametrize("shape", [(4, 1, 1), (1, 1, 1), (1, 4, 1, 1)])
def test_scales_of_channels_are_not_products_that_cannot_be_counted(shape):
    model = convert_to_analog(nn.Sequential(nn.Conv2d(3, 4, 1), Scale(*shape)))
    costs = network_cost(model, torch.randn(2, 3, 5, 5))
    assert costs.uncounted == ()
    assert (costs.macs, costs.others["1"].macs) == (25 * 3 * 4, 0)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 2), nn.Linear(3, 2)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return self.a(a) + self.b(b)


def test_inputs_can_be_tuples_and_mappings():
    a, b = torch.randn(5, 4), torch.randn(5, 3)
    for inputs in ((a, b), {"b": b, "a": a}):
        assert network_cost(TwoInputs(), inputs).macs == 14


@pytest.mark.parametrize("limit", [0.005, 0.01, 0.02, 0.05, 0.5])
@pytest.mark.parametrize("corrector", [PAPER, RESIDUAL])
def test_uniform_placement_is_the_largest_within_the_limit(costs, limit, corrector):
    layers = ["conv1", "conv2", "fc1"]
    placement = uniform_placement(costs, layers, limit, corrector, limit_macs=None)
    (ratio,) = set(placement.values())
    assert compensation_cost(costs, placement, corrector).overhead_weights <= limit
    if ratio < 1.0:
        wider = Placement(dict.fromkeys(placement, min(1.0, ratio + 1 / 6)))
        assert compensation_cost(costs, wider, corrector).overhead_weights > limit
    if len(placement) < 3:
        more = Placement(dict.fromkeys(layers[: len(placement) + 1], 1e-9))
        assert compensation_cost(costs, more, corrector).overhead_weights > limit


def test_uniform_placement_takes_fewer_layers_rather_than_a_smaller_ratio(costs):
    layers = ["conv1", "fc1", "conv2"]
    thin = uniform_placement(costs, layers, 0.02, RESIDUAL, limit_macs=None)
    assert list(thin) == layers and max(thin.values()) < 0.1
    wide = uniform_placement(costs, layers, 0.02, RESIDUAL, 0.1, limit_macs=None)
    assert list(wide) == ["conv1", "conv2"] and min(wide.values()) >= 0.1


def test_digital_placement_takes_the_first_that_fit(costs):
    order = ["fc1", "conv2", "fc3", "conv1"]
    placements = {
        limit: digital_placement(costs, order, limit, limit_macs=None)
        for limit in (0.01, 0.02, 0.05)
    }
    assert [list(p) for p in placements.values()] == [
        ["conv1"],
        ["fc3", "conv1"],
        ["conv2", "conv1"],
    ]
    assert all(
        compensation_cost(costs, p, PAPER).overhead_weights <= limit
        for limit, p in placements.items()
    )
    with pytest.raises(CnetError) as error:
        digital_placement(costs, order, 0.001, limit_macs=None)
    assert error.value.key == "limit"
    with pytest.raises(CnetError) as error:
        digital_placement(costs, ["fc9"], 0.01)
    assert error.value.key == "fc9"


def test_correctors_without_a_size_have_one_ratio(costs):
    assert dict(uniform_placement(costs, ["conv1", "fc3"], 0.05, Affine())) == {
        "conv1": 1.0,
        "fc3": 1.0,
    }
    assert dict(uniform_placement(costs, ["fc1", "fc3"], 0.05, Digital())) == {"fc3": 1.0}


def test_where_no_filter_fits_scale_and_offset_alone_are_placed(costs):
    layers = ["conv1", "conv2", "fc3"]
    placement = uniform_placement(costs, layers, 0.001, LowRank(), limit_macs=0.0)
    assert dict(placement) == {"conv1": "size 0", "conv2": "size 0"}
    added = compensation_cost(costs, placement, LowRank())
    assert added.overhead_weights == 2 * (6 + 16) / costs.weights < 0.001  # fc3 has 20 more
    assert added.overhead_macs == 0.0
    with pytest.raises(CnetError, match=r"the least, at 'conv1', costs 0\.000194"):
        uniform_placement(costs, layers, 1e-5, LowRank())


@pytest.mark.parametrize("limits", [(0.05, 0.03), (None, 0.03), (0.5, 0.05), (0.005, 0.05)])
def test_placements_stay_within_both_limits_and_fill_one(costs, limits):
    layers, (weights, macs) = ["conv1", "conv2", "fc1"], limits
    placement = uniform_placement(costs, layers, weights, RESIDUAL, limit_macs=macs)
    assert over_limit(compensation_cost(costs, placement, RESIDUAL), weights, macs) is None
    wider = Placement({name: ratio + 1 / 6 for name, ratio in placement.items()})
    over = over_limit(compensation_cost(costs, wider, RESIDUAL), weights, macs)
    assert over.overhead > over.limit == {"limit": weights, "limit_macs": macs}[over.key]


def test_digital_layers_count_in_both_measures(costs):
    both = digital_placement(costs, ["conv1", "fc3"], 0.05, limit_macs=0.05)
    assert list(both) == ["fc3"]  # conv1 has a quarter of the MACs
    with pytest.raises(CnetError) as error:
        digital_placement(costs, ["conv1"], 0.05, limit_macs=0.05)
    assert (error.value.key, error.value.value) == ("limit_macs", 0.05)


def test_limit_that_allows_nothing_says_what_the_least_costs(costs):
    with pytest.raises(CnetError, match=r"the least, at 'conv1', costs 0\.0009"):
        uniform_placement(costs, ["conv1"], 1e-5, PAPER)
    with pytest.raises(CnetError) as error:
        uniform_placement(costs, [], 0.05, PAPER)
    assert error.value.key == "layers"


class OncePerBatch(nn.Module):
    """A layer that makes one gate for the whole batch."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.fc = nn.Linear(5, 8), nn.Linear(8, 4)
        self.register_buffer("of", torch.ones(1, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x * self.gate(self.of))


@pytest.mark.parametrize("samples", [1, 2, 8])
def test_costs_do_not_depend_on_the_batch(samples):
    costs = network_cost(convert_to_analog(OncePerBatch()), torch.randn(samples, 8))
    assert costs.macs == 5 * 8 + 8 * 4
    assert {name: layer.positions for name, layer in costs.layers.items()} == {"gate": 1, "fc": 1}


class PairsOnly(nn.Module):
    """A network that does not take one sample."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x.view(-1, 2, 3).flatten(1)).repeat_interleave(2, 0)


def test_networks_that_do_not_take_one_sample_are_counted_with_more():
    costs = network_cost(convert_to_analog(PairsOnly()), torch.randn(4, 3))
    assert costs.macs == 6 * 4 // 2


class Tokens(nn.Module):
    """Digital weights of all kinds in front of one layer on a crossbar."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 8)
        self.lstm = nn.LSTM(8, 8, batch_first=True)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm((5, 8))
        self.fc = nn.Linear(8, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.lstm(self.embedding(tokens))[0]
        return self.fc(self.norm(self.attention(x, x, x, need_weights=False)[0]))


@pytest.mark.filterwarnings("ignore:only")
def test_all_digital_weights_are_counted_and_unknown_macs_are_not_0():
    model = convert_to_analog(Tokens(), exclude=["lstm", "attention"])
    costs = network_cost(model, torch.zeros(2, 5, dtype=torch.int64))
    off = off_crossbar_cost(costs)
    weights = {
        "embedding": 80,
        "lstm": 4 * 8 * (8 + 8 + 2),
        "attention": 3 * 8 * 9,
        "attention.out_proj": 8 * 9,
        "norm": 2 * 5 * 8,
    }
    assert off.weights == weights
    assert off.overhead_weights == sum(weights.values()) / (sum(weights.values()) + 27)
    assert costs.weights == sum(p.numel() for p in Tokens().parameters())
    assert off.macs["embedding"] == off.macs["norm"] == off.macs["attention.out_proj"] == 0
    assert off.macs["attention"] == 5 * 4 * 8 * 8 + 2 * 5 * 5 * 8
    assert off.unknown == list(costs.uncounted)
    assert ("lstm" in off.unknown) == (off.overhead_macs is None)
    given = {"overhead_weights": 0.1, "overhead_macs": 0.2}
    both = overheads(model, torch.zeros(2, 5, dtype=torch.int64), None, given)
    assert both["overhead_weights"] == pytest.approx(off.overhead_weights + 0.1)
    assert both["digital"]["unknown_macs"] == off.unknown
    assert (both["overhead_macs"] is None) == bool(off.unknown)


def test_overheads_of_digital_layers_calibration_and_compensation_are_added():
    net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))  # 15 + 8 weights, 12 + 6 MACs
    model, x = convert_to_analog(net, exclude=["1"]), torch.rand(4, 4)
    affine, given = AffineCorrection(x), {"overhead_weights": 0.1, "overhead_macs": 0.2}
    both = overheads(model, x, affine, given)
    assert both["overhead_weights"] == pytest.approx((8 + 2 * 3) / 23 + 0.1)
    assert both["overhead_macs"] == pytest.approx(6 / 18 + 0.2)
    assert both["calibration"] == {"label": affine.label(), "overhead_weights": 6 / 23}
    fitted = WithCompensation(Placement({"0": "size 1"}), LowRank(), PerChipFit(x))
    # its correctors are what is given
    assert overheads(model, x, fitted, given)["calibration"]["overhead_weights"] == 0.0


def test_ratios_of_numpy_are_ratios():
    given = Placement({"conv1": np.float32(0.5), "fc1": np.int64(1)})
    assert given == Placement({"conv1": 0.5, "fc1": 1.0})
    assert Placement.parse(given.to_json()) == given


def test_a_sum_that_differs_from_a_limit_in_its_last_bits_keeps_it():
    assert 0.1 + 0.2 > 0.3
    assert is_within(0.1 + 0.2, 0.3) and is_within(7.0, None)
    assert not is_within(0.3 + 1e-9, 0.3)
