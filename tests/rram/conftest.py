"""Small digital networks for the tests of this room."""

import pytest
import torch
from torch import Tensor, nn


class ConvNet(nn.Module):
    """Grouped, padded and dilated convolutions, BatchNorm, a branch, a layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 8, 3, stride=2, groups=4, padding=1, padding_mode="reflect")
        self.again = nn.Conv2d(8, 8, (3, 1), padding="same", dilation=2, bias=False)
        self.fc = nn.Linear(8 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        x = torch.relu(self.grouped(x))
        x = x + self.again(torch.relu(self.again(x)))
        return self.fc(x.flatten(1))


@pytest.fixture
def conv_net() -> nn.Module:
    """A digital network for inputs [N, 3, 8, 8]."""
    torch.manual_seed(0)
    return ConvNet()


@pytest.fixture
def images() -> Tensor:
    """Inputs for it, [5, 3, 8, 8]."""
    return torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))
