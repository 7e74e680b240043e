"""A tiny problem that trains in a fraction of a second."""

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn

from cnet_aihw.rram import LogNormalNoiseModel, RRAMRPUConfig, convert_to_analog


@dataclass(frozen=True)
class Part:
    x: Tensor
    y: Tensor


def blobs(samples: int, seed: int) -> Part:
    """Three classes of 6x6 images around three centers."""
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(3, 1, 6, 6, generator=torch.Generator().manual_seed(99))
    y = torch.arange(samples) % 3
    return Part(centers[y] + torch.randn(samples, 1, 6, 6, generator=generator), y)


@dataclass(frozen=True)
class Data:
    """Like a data set, but whoever looks at the test part fails."""

    train: Part = field(default_factory=lambda: blobs(70, 1))
    val: Part = field(default_factory=lambda: blobs(60, 2))
    augment: object = None
    fingerprint: str = "blobs"

    @property
    def test(self) -> Part:
        raise AssertionError("training looked at the test part")


def digital_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Flatten(),
        nn.Linear(64, 3),
    )


def analog_network(**config: object) -> nn.Module:
    config.setdefault("noise_model", LogNormalNoiseModel(0.5))
    return convert_to_analog(digital_network(), RRAMRPUConfig(**config))


@pytest.fixture
def data() -> Data:
    return Data()
