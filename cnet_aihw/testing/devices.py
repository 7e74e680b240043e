"""The contract of noise models of devices."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from cnet_aihw.rram import (
    DeviceNoiseModel,
    RRAMRPUConfig,
    convert_to_analog,
    effective_weights,
    label_of,
    programmed,
    snapshot,
)
from cnet_aihw.testing.promises import promise


def check_device(
    model: DeviceNoiseModel, *, times: tuple[float | None, ...] = (None, 3600.0)
) -> None:
    """Check that a noise model makes repeatable chips and leaves the weights beside them alone.

    Args:
        model: the noise model, with settings under which it does something.
        times: seconds after programming at which chips are compared; None: just programmed.

    Raises:
        AssertionError: names the promise that is not kept.
    """
    label = label_of(model)
    promise(bool(label) and label.isprintable(), model, "label() is a short text")
    promise(label_of(copy.deepcopy(model)) == label, model, "a copy has the same label")
    network = convert_to_analog(_network(), RRAMRPUConfig(noise_model=copy.deepcopy(model)))
    nominal = snapshot(network)
    for time in times:
        first, again, other = (_weights(network, seed, time) for seed in (1, 1, 2))
        promise(all(torch.isfinite(w).all() for w in first), model, "weights are finite")
        promise(_same(first, again), model, f"the same seed gives the same chip (at {time} s)")
        wanted = effective_weights(network).values()
        if model.is_off:
            promise(_same(first, list(wanted)), model, "is_off means that no weight changes")
        elif not _same(first, list(wanted)) and not _same(first, other):
            promise(
                all(a.shape == b.shape for a, b in zip(first, other, strict=True)),
                model,
                "chips have the shapes of the weights",
            )
    after = snapshot(network)
    promise(
        nominal.keys() == after.keys() and all(torch.equal(nominal[n], after[n]) for n in nominal),
        model,
        "the nominal weights stay as they are",
    )
    _check_zero(model)


def _check_zero(model: DeviceNoiseModel) -> None:
    """Check a layer whose weights are all 0, as freshly added ones may be."""
    layer = nn.Linear(8, 8)
    nn.init.zeros_(layer.weight)
    network = convert_to_analog(
        nn.Sequential(layer), RRAMRPUConfig(noise_model=copy.deepcopy(model))
    )
    finite = all(torch.isfinite(w).all() for w in _weights(network, 1, None))
    promise(finite, model, "weights of a layer of zeros are finite")


def _network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 8))


def _weights(network: nn.Module, seed: int, time: float | None) -> list[Tensor]:
    with programmed(network, seed, t_inference=time):
        return [weight.clone() for weight in effective_weights(network).values()]


def _same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
