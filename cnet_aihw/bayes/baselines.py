"""Digital baselines: one network, dropout at inference, several trained networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from cnet_aihw.bayes.sampling import check_inputs, logits_of
from cnet_aihw.evaluation.chip_run import measuring
from cnet_aihw.rram import find_analog_layers
from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.inputs import Inputs, inputs_on, samples_in, select
from cnet_aihw.runtime.random_state import derive_seed, forked_random_state, seed_random_state
from cnet_aihw.runtime.torch_device import device_of
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import check_count


@checked
def deterministic(model: nn.Module, x: Inputs, batch_size: int = 1000) -> Tensor:
    """Return the logits of the clean network, [1, N, C]; of binary weights, of their means.

    Args:
        model: a network, digital or analog.
        x: inputs, [N, ...].
        batch_size: inputs a forward pass takes at once.
    """
    return _logits(model, x, batch_size)[None]


@checked
def mc_dropout(
    model: nn.Module, x: Inputs, samples: int = 16, seed: int = 0, batch_size: int = 1000
) -> Tensor:
    """Return logits of the clean network whose dropout acts at inference, [T, N, C].

    Source: Gal and Ghahramani, *Dropout as a Bayesian approximation* (ICML 2016).

    Args:
        model: a network with dropout.
        x: inputs, [N, ...].
        samples: number of samples T.
        seed: seed of the draws; each input has its own, which depend on the batch size.
        batch_size: inputs a forward pass takes at once.

    Raises:
        CnetError: for a network without dropout, or with dropout of 0.
    """
    check_count("samples", samples)
    layers, found = dropouts_of(model), []
    for sample in range(samples):
        found.append(_logits(model, x, batch_size, layers, derive_seed(seed, "dropout", sample)))
    return torch.stack(found)


def dropouts_of(model: nn.Module) -> list[nn.Module]:
    """Return the layers of a network that drop something.

    Raises:
        CnetError: for a network without dropout, or with dropout of 0.
    """
    layers: list[nn.Module] = [
        m for m in model.modules() if isinstance(m, _DropoutNd) and m.p > 0.0
    ]
    if not layers:
        fix = "give the network nn.Dropout layers, and train it with them"
        raise bad_value("model", type(model).__name__, "a network with dropout above 0", fix)
    return layers


@checked
def deep_ensemble(models: Sequence[nn.Module], x: Inputs, batch_size: int = 1000) -> Tensor:
    """Return the logits of several clean networks, [T, N, C].

    Source: Lakshminarayanan, Pritzel, Blundell (NeurIPS 2017), without adversarial training.

    Args:
        models: networks trained from different first weights, at least one.
        x: inputs, [N, ...].
        batch_size: inputs a forward pass takes at once.

    Raises:
        CnetError: without networks.
    """
    if not models:
        raise bad_value("models", [], "at least one network")
    return torch.stack([_logits(model, x, batch_size) for model in models])


@torch.no_grad()
def _logits(
    model: nn.Module,
    x: Inputs,
    batch_size: int,
    training: Sequence[nn.Module] = (),
    seed: int = 0,
) -> Tensor:
    """Return logits of the nominal weights, [N, C], with some modules in training mode."""
    check_count("batch_size", batch_size)
    check_inputs(x)
    device = device_of(model)
    inputs = inputs_on(device, x)

    def passed() -> Tensor:
        seed_random_state(seed, device)
        for module in training:
            module.training = True
        batches = []
        for start in range(0, samples_in(inputs), batch_size):
            some: Any = select(inputs, slice(start, start + batch_size))
            batches.append(logits_of(model, some))
        for module in training:
            module.training = False
        return torch.cat(batches)

    if find_analog_layers(model):
        with measuring(model, device):
            return passed()
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        with forked_random_state(device):
            return passed()
    finally:
        for module, mode in modes:
            module.training = mode
