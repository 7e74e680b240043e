"""Tiny networks of binary weights on stochastic cells."""

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
