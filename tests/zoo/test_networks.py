"""The networks: known weight counts, shapes, layer classes, seeded start, errors."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.zoo import MLP, VGG16, LeNet5, ResNet20
from cnet_aihw.zoo.resnet import BasicBlock

CASES: list[tuple[Callable[..., nn.Module], tuple[int, ...], dict[str, Any]]] = [
    (LeNet5, (1, 28, 28), {}),
    (LeNet5, (3, 32, 32), {}),
    (VGG16, (3, 32, 32), {"width": 0.125}),
    (VGG16, (1, 32, 32), {"width": 0.125, "batch_norm": False}),
    (ResNet20, (3, 32, 32), {}),
    (ResNet20, (1, 28, 28), {"width": 0.5}),
    (MLP, (1, 28, 28), {}),
    (MLP, (3, 8, 9), {"hidden": ()}),
]


def count(model: nn.Module, kinds: tuple[type, ...], names: tuple[str, ...]) -> int:
    return sum(
        parameter.numel()
        for module in model.modules()
        if isinstance(module, kinds)
        for name, parameter in module.named_parameters(recurse=False)
        if name in names
    )


def weight_layers(model: nn.Module) -> int:
    return sum(isinstance(m, nn.Conv2d | nn.Linear) for m in model.modules())


@pytest.mark.parametrize(("network", "shape", "options"), CASES)
def test_every_network(
    network: Callable[..., nn.Module], shape: tuple[int, ...], options: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    model = network(shape, 7, **options)
    after = torch.get_rng_state()
    torch.manual_seed(0)
    same = network(list(shape), 7, **options)
    assert torch.equal(after, torch.get_rng_state())
    for (name, one), (_, two) in zip(
        model.state_dict().items(), same.state_dict().items(), strict=True
    ):
        assert torch.equal(one, two), name
    logits = model(torch.randn(4, *shape))
    assert logits.shape == (4, 7) and torch.isfinite(logits).all()
    logits.square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    # what is converted to analog layers is of exactly torch's classes, and all weights are there
    for module in model.modules():
        if list(module.parameters(recurse=False)):
            assert type(module) in (nn.Conv2d, nn.Linear, nn.BatchNorm2d)
    assert network(shape, 1, **options)(torch.randn(2, *shape)).shape == (2, 1)  # a regression
    with pytest.raises(CnetError, check=lambda e: e.key == "classes"):
        network(shape, 0, **options)


def test_lenet5_has_the_classical_61706_weights() -> None:
    model = LeNet5((1, 28, 28), 10)
    assert sum(p.numel() for p in model.parameters()) == 61_706
    assert weight_layers(model) == 5


def test_lenet5_on_28_pixels_is_that_on_32_with_a_black_border() -> None:
    small, large = LeNet5((1, 28, 28), 10), LeNet5((1, 32, 32), 10)
    large.load_state_dict(small.state_dict())
    x = torch.randn(3, 1, 28, 28)
    torch.testing.assert_close(small(x), large(nn.functional.pad(x, (2, 2, 2, 2))))


@pytest.mark.parametrize("batch_norm", [True, False])
def test_vgg16_has_the_known_weights(batch_norm: bool) -> None:
    with torch.device("meta"):
        model = VGG16((3, 32, 32), 10, batch_norm=batch_norm)
    assert count(model, (nn.Conv2d,), ("weight",)) == 14_710_464
    biases = 0 if batch_norm else 4224
    norms = 2 * 4224 if batch_norm else 0
    linear = 2 * (512 * 512 + 512) + 512 * 10 + 10
    assert sum(p.numel() for p in model.parameters()) == 14_710_464 + biases + norms + linear
    assert weight_layers(model) == 16
    assert sum(isinstance(m, nn.BatchNorm2d) for m in model.modules()) == 13 * batch_norm


def test_resnet20_has_the_papers_270_thousand_weights() -> None:
    model = ResNet20((3, 32, 32), 10)
    # convolutions by hand: 432 + 6*2304 + (4608 + 5*9216) + (18432 + 5*36864)
    assert count(model, (nn.Conv2d,), ("weight",)) == 267_696
    assert sum(p.numel() for p in model.parameters()) == 267_696 + 2 * 688 + 650
    assert weight_layers(model) == 20


def test_resnet20_shortcuts_subsample_and_pad_with_zeros() -> None:
    block = BasicBlock(16, 32, stride=2).eval()
    nn.init.zeros_(block.bn2.weight)  # the two convolutions add nothing
    x = torch.rand(2, 16, 8, 8)
    y = block(x)
    assert y.shape == (2, 32, 4, 4)
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert y[:, :8].abs().max() == y[:, 24:].abs().max() == 0


def test_mlp_has_the_layers_asked_for() -> None:
    model = MLP((1, 28, 28), 10, hidden=(300, 100))
    sizes = [tuple(m.weight.shape) for m in model.modules() if isinstance(m, nn.Linear)]
    assert sizes == [(300, 784), (100, 300), (10, 100)]


@pytest.mark.parametrize(
    ("width", "channels"), [(1.0, (64, 512)), (0.5, (32, 256)), (0.3, (16, 152)), (0.01, (8, 8))]
)
def test_widths_are_multiples_of_eight(width: float, channels: tuple[int, int]) -> None:
    with torch.device("meta"):
        model = VGG16((3, 32, 32), 10, width=width)
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert (convolutions[0].out_channels, convolutions[-1].out_channels) == channels


@pytest.mark.parametrize(
    ("network", "shape", "options", "message"),
    [
        (LeNet5, (1, 30, 30), {}, "LeNet5"),
        (LeNet5, (1, 28, 32), {}, "LeNet5"),
        (LeNet5, (28, 28), {}, "LeNet5"),
        (VGG16, (1, 28, 28), {}, "VGG16"),
        (VGG16, (3, 32, 32), {"width": 0}, "width"),
        (VGG16, (3, 32, 32), {"width": float("nan")}, "width"),
        (ResNet20, (3, 7, 32), {}, "ResNet20"),
        (ResNet20, (3, 32, 32), {"width": -1.0}, "width"),
        (MLP, (0, 28, 28), {}, "input_shape"),
        (MLP, (1, 28, 28), {"hidden": (10, 0)}, "hidden"),
    ],
)
def test_what_does_not_fit(
    network: Callable[..., nn.Module], shape: tuple[int, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(CnetError, check=lambda e: e.key == message):
        network(shape, 10, **options)
