"""The table of networks and placements that the generic checks run over; one row each."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from cnet_aihw.compensation import (
    PAPER,
    Affine,
    Corrector,
    CorrectorCost,
    Digital,
    GeneratorCompensator,
    LayerShape,
    LowRank,
    Placement,
    Vera,
)
from cnet_aihw.compensation.modules import in_type_of_input, pointwise
from cnet_aihw.rram import RRAMRPUConfig, convert_to_analog
from cnet_aihw.zoo import VGG16, LeNet5, ResNet20


class Branches(nn.Module):
    """A user's module: branches, a list, a wrapper's name reused, a layer called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.base_layer = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList([nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1, groups=2)])
        self.shared = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.alias = self.shared
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.base_layer(x))
        x = self.blocks[0](x) + self.blocks[1](x)
        x = self.norm(self.shared(torch.relu(self.alias(x))))
        return self.fc(x.mean((2, 3)))


def conv1d() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 6, 5, stride=2), nn.ReLU(), nn.Conv1d(6, 4, 3, groups=2), nn.Flatten(),
        nn.Linear(4 * 3, 10),
    )  # fmt: skip


def tokens() -> nn.Module:
    """Linear layers on [N, T, features], as in a transformer's block."""
    return nn.Sequential(
        nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5), nn.Flatten(), nn.Linear(20, 10)
    )


@dataclass(frozen=True)
class Stranger(Corrector):
    """A stranger's corrector, the one class that it takes: y + scale * up(down(y))."""

    scale: float = 2.0

    def build(self, shape: LayerShape, size: int) -> nn.Module:
        return StrangerModule(shape, size, self.scale)

    def cost(self, shape: LayerShape, size: int) -> CorrectorCost:
        y = shape.out_channels
        return CorrectorCost(y * size + size + size * y + y, 2 * y * size)

    def shrink(self, module: nn.Module, size: int) -> dict[str, Tensor]:
        first = dict(module.named_parameters())
        return {
            **first,
            "down.weight": first["down.weight"][:size],
            "down.bias": first["down.bias"][:size],
            "up.weight": first["up.weight"][:, :size],
        }


class StrangerModule(nn.Module):
    def __init__(self, shape: LayerShape, size: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.down = pointwise(shape.dims, shape.out_channels, size)
        self.up = pointwise(shape.dims, size, shape.out_channels)
        nn.init.zeros_(self.up.weight), nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        added = in_type_of_input(self.up, in_type_of_input(self.down, y))
        return y + self.scale * added.to(y.dtype)


@dataclass(frozen=True)
class Row:
    """One network with one placement."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    placement: dict[str, float | str]
    corrector: Corrector = PAPER

    def build(self) -> tuple[nn.Module, Tensor]:
        """The converted network in evaluation mode and a batch of inputs."""
        torch.manual_seed(0)
        model = convert_to_analog(self.make(), RRAMRPUConfig()).eval()
        return model, torch.randn(4, *self.shape)

    @property
    def fitted(self) -> set[str]:
        """Layers that have something to fit."""
        on = self.corrector.on_crossbar
        return {n for n, r in self.placement.items() if on and not isinstance(r, str) and r > 0}

    @property
    def digital(self) -> set[str]:
        return {n for n, r in self.placement.items() if r} - self.fitted


CORRECTORS: dict[str, Corrector] = {
    "paper": PAPER,
    "residual": GeneratorCompensator(form="residual", activation="relu"),
    "affine": Affine(),
    "digital": Digital(),
    "a stranger's": Stranger(),
}
EVERYWHERE = {"conv1": 1.0, "fc1": 1.0, "fc3": 1.0}
LENET = {"conv1": 0.5, "conv2": 0.25, "fc1": 0.1, "fc3": 1.0}
ROWS = {
    "lenet": Row(LeNet5, (1, 28, 28), LENET),
    "lenet, one layer": Row(LeNet5, (1, 28, 28), {"conv2": 1.0, "fc2": 0.0}),
    "lenet, reads x": Row(LeNet5, (1, 28, 28), LENET, GeneratorCompensator(reads="x")),
    "lenet, reads y": Row(LeNet5, (1, 28, 28), LENET, GeneratorCompensator(reads="y")),
    "lenet, relu": Row(LeNet5, (1, 28, 28), LENET, GeneratorCompensator(activation="relu")),
    "lenet, tanh 3x3": Row(
        LeNet5, (1, 28, 28), LENET, GeneratorCompensator(activation="tanh", kernel_size=3)
    ),
    "lenet, residual": Row(LeNet5, (1, 28, 28), LENET, GeneratorCompensator(form="residual")),
    "lenet, with a digital layer": Row(
        LeNet5, (1, 28, 28), {"conv1": "digital", "conv2": 0.5, "fc3": "digital"}
    ),
    "lenet, affine": Row(LeNet5, (1, 28, 28), EVERYWHERE, Affine()),
    "lenet, affine and digital": Row(
        LeNet5, (1, 28, 28), {"conv2": 1.0, "fc1": "digital"}, Affine()
    ),
    "lenet, all digital": Row(LeNet5, (1, 28, 28), EVERYWHERE, Digital()),
    "lenet, a stranger's": Row(LeNet5, (1, 28, 28), LENET, Stranger(0.5)),
    "lenet, low rank": Row(LeNet5, (1, 28, 28), LENET, LowRank()),
    "lenet, low rank of patches": Row(LeNet5, (1, 28, 28), LENET, LowRank("patch")),
    "conv1d, low rank of patches": Row(conv1d, (2, 14), {"0": 0.5, "2": 1.0}, LowRank("patch")),
    "branches, low rank of x": Row(
        Branches, (3, 9, 8), {"base_layer": 0.5, "blocks.1": 1.0, "shared": 0.5}, LowRank("x")
    ),
    "branches, low rank of patches": Row(
        Branches, (3, 9, 8), {"base_layer": 0.5, "blocks.1": 1.0, "fc": 0.2}, LowRank("patch")
    ),
    "tokens, low rank of y": Row(tokens, (4, 6), {"0": 0.5, "2": 0.2}, LowRank("y")),
    "lenet, vera": Row(LeNet5, (1, 28, 28), LENET, Vera()),
    "tokens, vera": Row(tokens, (4, 6), {"0": 0.5, "2": 0.2}, Vera(seed=3)),
    "conv1d, a stranger's": Row(conv1d, (2, 14), {"0": 0.5, "2": 1.0}, Stranger()),
    "tokens, affine": Row(tokens, (4, 6), {"0": 1.0, "2": 1.0}, Affine()),
    "branches, affine": Row(Branches, (3, 9, 8), {"blocks.0": 1.0, "shared": 1.0}, Affine()),
    "branches": Row(
        Branches, (3, 9, 8), {"base_layer": 0.5, "blocks.1": 1.0, "shared": 0.5, "fc": 0.2}
    ),
    "branches, residual": Row(
        Branches,
        (3, 9, 8),
        {"blocks.0": 0.5, "shared": 1.0},
        GeneratorCompensator(form="residual", kernel_size=3),
    ),
    "branches, shared layer digital": Row(Branches, (3, 9, 8), {"shared": "digital", "fc": 0.5}),
    "conv1d": Row(conv1d, (2, 14), {"0": 0.5, "2": 1.0, "4": 0.1}),
    "conv1d, 3 taps": Row(
        conv1d, (2, 14), {"0": 0.5, "2": 1.0}, GeneratorCompensator(kernel_size=3, reads="x")
    ),
    "tokens": Row(tokens, (4, 6), {"0": 0.5, "2": 0.2, "4": 0.3}),
    "vgg, narrow": Row(
        lambda: VGG16(width=0.125), (3, 32, 32), {"features.conv1": 1.0, "features.conv5": 0.5}
    ),
    "resnet": Row(
        lambda: ResNet20(width=0.5),
        (3, 32, 32),
        {"conv1": 1.0, "stage2.0.conv1": 0.5, "stage3.2.conv2": 0.25, "fc": 0.1},
    ),
}


@pytest.fixture(params=ROWS)
def row(request: pytest.FixtureRequest) -> Row:
    return ROWS[request.param]


@pytest.fixture
def placed(row: Row) -> Placement:
    return Placement(row.placement)
