"""Conversion in place: whoever holds a layer holds the analog one; hooks and extras stay."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from cnet_aihw.rram import (
    LogNormalNoiseModel,
    RRAMLinear,
    RRAMRPUConfig,
    analog_layers,
    chip_model,
    convert_to_analog,
    convert_to_digital,
    digital_state_dict,
    programmed,
)
from cnet_aihw.rram.called import called_layers
from cnet_aihw.runtime.errors import CnetError

X = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))


class Holder:
    def __init__(self, *layers: nn.Module) -> None:
        self.layers = list(layers)


class Net(nn.Module):
    """Two layers that are called through whatever ``keep`` makes of them."""

    def __init__(self, keep: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 4)
        self.kept = keep(self.a, self.b)

    def forward(self, x: Tensor) -> Tensor:
        kept = self.kept.layers if isinstance(self.kept, Holder) else self.kept
        return kept[1](kept[0](x).relu())


KEEPERS: dict[str, Callable[[Any, Any], Any]] = {
    "list": lambda a, b: [a, b],
    "tuple": lambda a, b: (a, b),
    "dict": lambda a, b: {0: a, 1: b},
    "partials": lambda a, b: [partial(a), partial(b)],
    "methods": lambda a, b: (a.forward, b.forward),
    "partials of methods": lambda a, b: {0: partial(a.forward), 1: partial(b.forward)},
    "object": Holder,
    "closures": lambda a, b: [lambda x: a(x), lambda x, b=b: b(x)],
}


@pytest.mark.parametrize("keeper", KEEPERS)
@pytest.mark.parametrize("inplace", [False, True])
def test_layers_compute_on_chips_however_they_are_held(keeper, inplace):
    torch.manual_seed(0)
    net = Net(KEEPERS[keeper]).eval()
    wanted = net(X)
    if keeper == "closures" and not inplace:
        with pytest.raises(CnetError, check=lambda e: e.key == "kept" and "inplace" in e.fix):
            convert_to_analog(net)
        return
    model = convert_to_analog(net, inplace=inplace)
    with called_layers(model) as called:
        assert torch.equal(model(X), wanted)
    assert called == {"a", "b"}
    with programmed(model, 1):
        assert not torch.equal(model(X), wanted)
        if keeper == "closures":
            with pytest.raises(CnetError, check=lambda e: e.key == "kept"):
                chip_model(model, 1)
        else:
            assert torch.equal(chip_model(model, 1)(X), model(X))
    state = digital_state_dict(model)
    back = convert_to_digital(model, inplace=True)
    assert torch.equal(back(X), wanted) and type(back.a) is nn.Linear
    assert all(torch.equal(tensor, state[name]) for name, tensor in back.state_dict().items())


def linears() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)).eval()


def test_what_hangs_on_a_layer_stays_on_it():
    net, seen = linears(), []
    handle = net[0].register_forward_hook(lambda _, __, y: 2 * y)
    net[0].register_forward_pre_hook(lambda _, x: seen.append(len(x[0])))
    net[0].register_full_backward_hook(lambda _, __, g: seen.append("backward"))
    net[0].register_buffer("mask", torch.ones(3))
    net[0].tag = "first"
    wanted = net(X)
    model = convert_to_analog(net, inplace=True)
    assert isinstance(net[0], RRAMLinear) and torch.equal(model(X), wanted)
    model(X.clone().requires_grad_()).sum().backward()
    assert seen == [5, 5, 5, "backward"]
    assert model[0].tag == "first" and "0.mask" in dict(model.named_buffers())
    back = convert_to_digital(copy.deepcopy(model))
    assert back[0].tag == "first" and "0.mask" in back.state_dict() and torch.equal(back(X), wanted)
    handle.remove()
    assert not torch.equal(model(X), wanted)


def test_a_layer_with_a_forward_of_its_own_stays_digital():
    net = linears()
    plain = net[0].forward
    net[0].forward = lambda x: 2 * plain(x)
    wanted = net(X)
    with pytest.raises(CnetError, check=lambda e: e.key == "0.forward"):
        convert_to_analog(net)
    with pytest.warns(UserWarning, match=r"^0 stays digital: its forward was replaced"):
        model = convert_to_analog(net, inplace=True)
    assert list(analog_layers(model)) == ["2"] and torch.equal(model(X), wanted)


def test_a_layer_with_gradient_hooks_stays_digital_and_keeps_them():
    net = linears()
    net[0].weight.register_hook(torch.zeros_like)
    with pytest.warns(UserWarning, match=r"^0 stays digital: its weight has gradient hooks"):
        model = convert_to_analog(net)
    model(X).sum().backward()
    assert not model[0].weight.grad.any() and model[0].bias.grad.any()


OLD = {
    "remove_weight_norm": nn.utils.weight_norm,
    "remove_spectral_norm": nn.utils.spectral_norm,
    "prune.remove": lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("fix", OLD)
@pytest.mark.parametrize("inplace", [False, True])
def test_weights_that_a_hook_computes_are_refused_with_the_fix(fix, inplace):
    net = linears()
    OLD[fix](net[0])
    with pytest.raises(CnetError, check=lambda e: e.key == "0" and fix in e.fix):
        convert_to_analog(net, inplace=inplace)
    convert_to_analog(net, exclude=["0"], inplace=True)


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_parametrized_layers_keep_computing_digitally(norm):
    net = linears()
    norm(net[0])
    model = convert_to_analog(net.eval())
    assert torch.equal(model(X), net(X)) and list(analog_layers(model)) == ["2"]


def test_weights_without_values_are_refused():
    with pytest.raises(CnetError, check=lambda e: e.key == "0.weight" and e.value == "meta"):
        convert_to_analog(linears().to("meta"))


def test_a_network_converted_in_inference_mode_can_be_trained():
    with torch.inference_mode():
        model = convert_to_analog(linears()).train()
    model(X).sum().backward()
    assert all(p.grad is not None for p in model[0].analog_module.tile.parameters())


@pytest.mark.parametrize("wrap", [nn.DataParallel, partial(torch.compile, backend="eager")])
def test_wrappers_of_torch_change_no_chip(wrap):
    plain = convert_to_analog(linears())
    before, after = convert_to_analog(wrap(linears())), wrap(convert_to_analog(linears()))
    assert list(analog_layers(before)) == list(analog_layers(after)) == ["0", "2"]
    outputs = []
    for model in (plain, before, after):
        with programmed(model, 3), torch.no_grad():
            outputs.append(model.eval()(X))
    assert all(torch.equal(y, outputs[0]) for y in outputs)


class MyLinear(nn.Linear):
    pass


def test_own_classes_are_converted_by_a_map_of_ones_own():
    net = nn.Sequential(MyLinear(8, 4)).eval()
    model = convert_to_analog(net, converters={MyLinear: RRAMLinear})
    assert model.conversion_report.analog == ("0",) and torch.equal(model(X), net(X))


def test_few_weights_on_crossbars_are_warned_of():
    net = nn.Sequential(MyLinear(8, 8), nn.Linear(8, 2))
    with pytest.warns(UserWarning, match=r"only 16 of 80 weights \(20\.0 %\) are on crossbars"):
        report = convert_to_analog(net).conversion_report
    assert report.analog_share == 16 / 80
    assert str(report).endswith("16 of 80 weights (20.0 %) on crossbars")
    assert [(row.kind, row.weights, row.analog) for row in report.kinds] == [
        ("MyLinear", 64, 0),
        ("Linear", 16, 16),
    ]


def test_a_network_converted_child_by_child_is_reported_by_its_layers():
    net = linears()
    net[0] = convert_to_analog(net[0])
    report = convert_to_analog(net).conversion_report
    assert [(row.name, row.kind, row.weights) for row in report.layers] == [
        ("0", "RRAMLinear", 64),
        ("2", "Linear", 32),
    ]
    with pytest.raises(CnetError, check=lambda e: e.key == "model"):
        convert_to_analog(convert_to_analog(linears(), RRAMRPUConfig()))


def test_layers_that_a_forward_leaves_out_are_not_among_the_called():
    class Aux(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.aux = nn.Linear(8, 4), nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.a.forward(x)

    model = convert_to_analog(Aux(), RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.5)))
    with called_layers(model) as called:
        model(X)
    assert called == {"a"}
