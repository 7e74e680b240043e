"""Stand-ins for the weights of analog layers: what they say of themselves, what they refuse."""

import copy

import pytest
import torch
from aihwkit.simulator.parameters import MappingParameter
from torch import Tensor, nn
from torch.nn import functional as F

from cnet_aihw.rram import RRAMRPUConfig, convert_to_analog, freeze_analog
from cnet_aihw.runtime.errors import CnetError

LAYERS = [
    nn.Linear(8, 6),
    nn.Linear(8, 6, bias=False),
    nn.Conv1d(4, 6, 3, groups=2),
    nn.Conv2d(3, 4, (3, 2), bias=False),
]


@pytest.mark.parametrize("digital", LAYERS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layer_says_of_its_weights_what_the_digital_one_says(digital, dtype):
    digital = copy.deepcopy(digital).to(dtype)
    layer = convert_to_analog(nn.Sequential(digital))[0]
    weight: Tensor = layer.weight
    assert isinstance(weight, Tensor) and not isinstance(weight, nn.Parameter)
    for name in ("shape", "dtype", "device", "ndim", "requires_grad", "is_cuda"):
        assert getattr(weight, name) == getattr(digital.weight, name)
    assert weight.size(0) == len(weight) == digital.weight.size(0)
    assert weight.numel() == digital.weight.numel() and weight.is_floating_point()
    assert (layer.bias is None) == (digital.bias is None)
    assert digital.bias is None or torch.equal(layer.bias, digital.bias)
    assert repr(layer).splitlines()[0].startswith(type(layer).__name__)


def test_a_stand_in_follows_the_layer():
    model = convert_to_analog(
        nn.Sequential(nn.Linear(8, 6)), RRAMRPUConfig(mapping=MappingParameter(max_input_size=3))
    )
    assert model[0].weight.shape == (6, 8)
    assert model.double()[0].weight.dtype == torch.float64
    freeze_analog(model)
    assert not model[0].weight.requires_grad


@pytest.mark.parametrize(
    ("name", "compute"),
    [
        ("linear", lambda w: F.linear(torch.ones(1, 8), w)),
        ("add", lambda w: w + 1),
        ("T", lambda w: w.T),
        ("data", lambda w: w.data),
        ("__getitem__", lambda w: w[0]),
        ("detach", lambda w: w.detach()),
        ("numpy", lambda w: w.numpy()),
        ("normal_", nn.init.normal_),
        ("cat", lambda w: torch.cat([w, w])),
    ],
)
def test_arithmetic_is_refused_by_one_sentence(name, compute):
    layer = convert_to_analog(nn.Sequential(nn.Linear(8, 8)))[0]
    with pytest.raises(
        CnetError, check=lambda e: e.key == "weight" and "exclude" in e.fix
    ) as error:
        compute(layer.weight)
    assert error.value.value == name or name == "cat"


@pytest.mark.parametrize("part", ["weight", "bias"])
@pytest.mark.parametrize("value", [nn.Parameter(torch.ones(8, 8)), torch.ones(8)])
def test_weights_are_not_replaced_past_the_tiles(part, value):
    layer = convert_to_analog(nn.Sequential(nn.Linear(8, 8)))[0]
    with pytest.raises(CnetError, check=lambda e: e.key == part and "set_weights" in e.fix):
        setattr(layer, part, value)


class ReadsType(nn.Module):
    """As T5 and BEiT do."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(8, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.out.weight, Tensor) and x.dtype != self.out.weight.dtype:
            x = x.to(self.out.weight.dtype)
        y = self.out(x.to(self.out.weight.device))
        return y if self.out.bias is None else 120 + y


def test_parents_that_read_type_and_device_compute_as_before():
    net = ReadsType().eval()
    x = torch.randn(3, 8, dtype=torch.float64)
    assert torch.equal(convert_to_analog(net)(x), net(x))


def test_first_weights_are_drawn_as_those_of_the_digital_layer():
    for digital in (nn.Linear(8, 6), nn.Conv2d(3, 4, 3)):
        layer = convert_to_analog(nn.Sequential(digital))[0]
        torch.manual_seed(1)
        layer.reset_parameters()
        torch.manual_seed(1)
        digital.reset_parameters()
        assert torch.equal(layer.get_weights()[0].view_as(digital.weight), digital.weight)
        assert torch.equal(layer.bias, digital.bias)
