"""Whole networks in files: pickled with their chip, copied, and exported as plain layers."""

import copy
import io
import pickle
import subprocess
import sys

import cloudpickle
import pytest
import torch
from torch import Tensor, nn

from cnet_aihw.rram import (
    RRAMRPUConfig,
    analog_layers,
    clear_chip,
    convert_to_analog,
    convert_to_digital,
    is_programmed,
    periphery,
    program,
    programmed,
)
from cnet_aihw.zoo import MLP

from .conftest import ConvNet


class Own(nn.Module):
    """A class with a way of its own to be pickled."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc, self.note = nn.Linear(4, width), "kept"

    def __reduce__(self):
        return _make_own, (self.fc.out_features, self.state_dict(), type(self) is not Own)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x)


def _make_own(width: int, state: dict, analog: bool) -> nn.Module:
    made = convert_to_analog(Own(width)) if analog else Own(width)
    made.load_state_dict(state)
    return made


def by_pickle(model: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(model))


def by_cloudpickle(model: nn.Module) -> nn.Module:
    return pickle.loads(cloudpickle.dumps(model))


def by_torch(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


WAYS = {
    "pickle": by_pickle,
    "cloudpickle": by_cloudpickle,
    "torch": by_torch,
    "copy": copy.deepcopy,
}
CONFIGS = {
    "perfect": RRAMRPUConfig(),
    "ADC": RRAMRPUConfig(forward=periphery(adc_bits=6)),
}


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("way", WAYS)
def test_a_network_comes_back_as_it_was(conv_net, images, way, config):
    model = convert_to_analog(conv_net, CONFIGS[config]).eval()
    next(iter(analog_layers(model).values())).requires_grad_(False)
    again = WAYS[way](model)
    assert type(again) is type(model) and type(again).__bases__[1] is ConvNet
    assert torch.equal(again(images), model(images))
    assert again.conversion_report == model.conversion_report
    with programmed(again, 1), programmed(model, 1):
        assert torch.equal(again(images), model(images))
    assert [p.requires_grad for p in again.parameters()] == [
        p.requires_grad for p in model.parameters()
    ]
    again.train()(images).sum().backward()


@pytest.mark.parametrize("way", WAYS)
def test_a_chip_comes_along(conv_net, images, way):
    model = convert_to_analog(conv_net).eval()
    clean = model(images)
    program(model, 3)
    again = WAYS[way](model)
    assert is_programmed(again) and torch.equal(again(images), model(images))
    clear_chip(again)
    assert torch.equal(again(images), clean)


def test_a_class_that_pickles_in_its_own_way_keeps_it():
    model = convert_to_analog(Own(3)).eval()
    again = by_pickle(model)
    x = torch.randn(2, 4)
    assert torch.equal(again.eval()(x), model(x)) and again.note == "kept"


def test_a_file_is_read_by_another_process(tmp_path):
    torch.manual_seed(0)
    model = convert_to_analog(MLP((1, 4, 4), 3)).eval()
    torch.save(model, tmp_path / "model.pt")
    code = (
        "import sys, torch; model = torch.load(sys.argv[1], weights_only=False);"
        "print(model(torch.ones(1, 1, 4, 4)).tolist(), len(list(model.analog_tiles())))"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "model.pt")]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert said == f"{model(torch.ones(1, 1, 4, 4)).tolist()} 3\n"


def test_a_chip_is_exported_as_plain_layers(conv_net, images):
    model = convert_to_analog(conv_net).eval()
    with programmed(model, 1):
        wanted = model(images)
        plain = convert_to_digital(model).eval()
    exported = torch.export.export(plain, (images,)).module()
    torch.testing.assert_close(exported(images), wanted)


class Again(nn.Module):
    """A class that says itself which arguments make it again."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc = nn.Linear(4, width)

    def __reduce__(self):
        return type(self), (self.fc.out_features,), vars(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x)


@pytest.mark.parametrize(
    "make", [lambda: Again(3), lambda: torch.compile(MLP((4,), classes=3), backend="eager")]
)
def test_a_network_that_is_made_again_from_arguments_is_copied_with_its_chip(make) -> None:
    torch.manual_seed(0)
    model, x = convert_to_analog(make()).eval(), torch.randn(5, 4)
    program(model, 3)
    copied = copy.deepcopy(model)
    assert type(copied) is type(model)
    assert is_programmed(copied)
    assert torch.equal(copied(x), model(x))
    torch.testing.assert_close(convert_to_digital(model)(x), model(x))
    clear_chip(model)
    assert is_programmed(copied)
