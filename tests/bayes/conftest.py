"""Fixtures: a tiny network on stochastic cells, and data for it."""

import pytest
import torch
from torch import nn

from .binary_networks import on_cells


@pytest.fixture
def cells() -> nn.Module:
    torch.manual_seed(3)
    return on_cells(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)))


@pytest.fixture
def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(40, 6, generator=generator)
    return x, (x[:, 0] > 0).long() + (x[:, 1] > 0.5).long()
