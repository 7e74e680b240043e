"""Tiny networks of binary weights on stochastic cells."""

import pytest
import torch
from torch import nn

from cnet_aihw import rram
from cnet_aihw.training import BayesSettings, TrainingSettings, VariationSettings


def on_cells(network: nn.Module, **settings: float) -> nn.Module:
    """Return a network of binary weights on stochastic cells."""
    device = rram.StochasticCellNoiseModel(**settings)
    model = rram.convert_to_analog(network, rram.RRAMRPUConfig(noise_model=device))
    rram.make_binary(model)
    return model.eval()


def settings(**changes: object) -> TrainingSettings:
    """Return few steps of the posterior's training."""
    values: dict = {
        **{"name": "bayes", "epochs": 2, "batch_size": 8, "optimizer": "bayes_binary", "lr": 0.01},
        **{"weight_decay": 0.0, "select": "last", "validation_chips": 0},
        "variation": VariationSettings(enabled=True, gradient="reparametrized"),
        "bayes": BayesSettings(data_weight=2.0),
    }
    return TrainingSettings(**{**values, **changes})


@pytest.fixture
def cells() -> nn.Module:
    torch.manual_seed(3)
    return on_cells(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)))


@pytest.fixture
def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(40, 6, generator=generator)
    return x, (x[:, 0] > 0).long() + (x[:, 1] > 0.5).long()
