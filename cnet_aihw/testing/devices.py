"""The contract of noise models of devices."""

from __future__ import annotations

import copy
import re
from contextlib import suppress
from typing import Any

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
from cnet_aihw.rram.devices.chip_scope import chip_scope
from cnet_aihw.rram.devices.conductances import STAGES, TileDevices
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.random_state import seeded_rng
from cnet_aihw.testing.promises import check_copies, check_settings, promise, promised

_DRAWN = ("variation", "faults")
"""Stages whose chips differ."""

_AS_ASKED = ("drift", "read noise")
"""Stages that leave devices as they were asked for when they are programmed."""


_ROUNDING = 1e-6
"""Change of a weight by the way to conductances and back."""


def check_device(
    model: DeviceNoiseModel,
    *,
    times: tuple[float | None, ...] = (None, 3600.0),
    alike: bool = False,
) -> None:
    """Check that a noise model makes repeatable chips and leaves the weights beside them alone.

    Args:
        model: the noise model, with settings under which it does something.
        times: seconds after programming at which chips are compared; None: just programmed.
        alike: whether all chips are the same, though its stage is variation or faults: its error
            is known from the wanted conductances alone.

    Raises:
        AssertionError: names the promise that is not kept.
    """
    promise(model.stage in STAGES, model, f"its stage is one of {', '.join(STAGES)}")
    label = label_of(model)
    promise(bool(label) and label.isprintable(), model, "label() is a short text")
    address = re.search(r"(\w+)=[^=]*\bat 0x[0-9a-f]+", str(model))
    promise(
        address is None,
        model,
        f"the setting {address[1] if address else ''!r} is a number, a text, a table, or an object "
        "whose text (__repr__) names its own settings, as it tells records apart; keep others "
        "under a private name",
    )
    check_copies(model, lambda one: (label_of(one), str(one)))
    check_settings(model, str)
    parts = model.chain() or getattr(model, "models", [model])
    for part in parts:
        _check_part(part, [time for time in times if time is not None])
    _check_chips(model, times, alike)
    _check_zero(model)


def _check_part(model: DeviceNoiseModel, times: list[float]) -> None:
    """Check what a model does to the devices of one tile."""
    model = copy.deepcopy(model)
    devices = TileDevices.of(_tile(), model.g_converter)
    given = [g.clone() for g in devices.targets]

    def program(seed: int = 5) -> list[tuple[Tensor, Any]]:
        with seeded_rng(seed), chip_scope(seed):
            return list(model.program_devices(devices.targets, devices.scale))

    if model.is_off:  # never asked; but what draws is not off
        one, other = ([g for g, _ in program(seed)] for seed in (5, 6))
        promise(_same(one, other), model, "is_off means that no device changes")
        return
    with promised(model, "program_device() returns conductances and a memory"):
        found = [(g, memory) for g, memory in program()]
    _check_like(model, "program_device()", [g for g, _ in found], given)
    promise(
        _same(devices.targets, given),
        model,
        "program_device() leaves the conductances that it is given as they are",
    )
    if model.stage in _AS_ASKED:
        promise(
            _same([g for g, _ in found], given),
            model,
            f"program_device() changes nothing, as its stage is {model.stage!r}; take the stage "
            "'variation'",
        )
    if model.stage == "read noise":
        _check_reading(model, given, devices)
    for time in times:
        _check_drift(model, program, given, time)


def _check_drift(model: DeviceNoiseModel, program: Any, given: list[Tensor], time: float) -> None:
    found = program()
    just = [g.clone() for g, _ in found]

    def drifted() -> list[Tensor]:
        with seeded_rng(6), chip_scope(5):
            return [
                model.drift_device(g, memory, time).clone()
                for g, (_, memory) in zip(given, found, strict=True)
            ]

    sentence = "drift_device() returns the devices at a later time"
    with promised(model, sentence if model.acts_with_time else f"{sentence}: those programmed"):
        later, again = drifted(), drifted()
    _check_like(model, "drift_device()", later, given)
    promise(
        _same(later, again),
        model,
        "drift_device() gives the same again at the same time, and leaves its memory as it is",
    )
    if not model.acts_with_time:
        promise(
            all(torch.allclose(a, b) for a, b in zip(later, just, strict=True)),
            model,
            "says drifts = True, as drift_device() changes conductances; else it is never asked",
        )


def _check_reading(model: DeviceNoiseModel, given: list[Tensor], devices: TileDevices) -> None:
    with promised(model, "read_std_of_device() returns standard deviations"):
        stds, again = (
            [model.read_std_of_device(g, devices.scale) for g in given] for _ in range(2)
        )
    _check_like(model, "read_std_of_device()", stds, given)
    promise(
        all(bool((std >= 0).all()) for std in stds),
        model,
        "read_std_of_device() is 0 or more",
    )
    promise(_same(stds, again), model, "read_std_of_device() gives the same again")


def _check_like(model: DeviceNoiseModel, what: str, found: list[Any], given: list[Tensor]) -> None:
    for one, g in zip(found, given, strict=True):
        right = isinstance(one, Tensor) and one.shape == g.shape and one.dtype == g.dtype
        promise(right, model, f"{what} returns a tensor in the shape and type of what it is given")
        promise(bool(torch.isfinite(one).all()), model, f"{what} returns finite numbers")


def _check_chips(model: DeviceNoiseModel, times: tuple[float | None, ...], alike: bool) -> None:
    """Check what chips of a network are."""
    network, elsewhere = _analog(model), _analog(model)
    nominal, wanted = snapshot(network), list(effective_weights(network).values())
    changed = model.has_read_noise
    draws = any(part.stage in _DRAWN for part in model.chain()) and not alike
    for time in times:
        first, again, other = (_weights(network, seed, time) for seed in (1, 1, 2))
        promise(
            all(torch.isfinite(w).all() for w in first),
            model,
            "weights are finite",
        )
        promise(
            all(
                a.shape == b.shape and a.dtype == b.dtype
                for a, b in zip(first, wanted, strict=True)
            ),
            model,
            "chips have the shapes and types of the weights",
        )
        promise(_same(first, again), model, f"the same seed gives the same chip (at {time} s)")
        backwards = _weights(elsewhere, 2, time), _weights(elsewhere, 1, time)
        promise(
            _same(other, backwards[0]) and _same(first, backwards[1]),
            model,
            f"a chip does not depend on those programmed before it (at {time} s)",
        )
        last = list(effective_weights(network))[-1]
        with programmed(network, 1, t_inference=time, layers=[last]):
            alone = effective_weights(network)[last]
        promise(
            torch.equal(alone, first[-1]),
            model,
            f"a layer's part of a chip does not depend on other layers (at {time} s)",
        )
        promise(
            _same(first, wanted) or not model.is_off, model, "is_off means that no weight changes"
        )
        moved = (a - b for a, b in zip(first, wanted, strict=True))
        changed = changed or any(bool((step.abs() > _ROUNDING).any()) for step in moved)
        promise(
            not (draws and _same(first, other)),
            model,
            "other seeds give other chips, as draws are from torch's generator; give alike=True "
            f"where all chips are to be the same (at {time} s)",
        )
    promise(changed or model.is_off, model, "changes weights, as is_off is False")
    if model.has_read_noise:
        _check_readings(model, network)
    after = snapshot(network)
    promise(
        nominal.keys() == after.keys() and all(torch.equal(nominal[n], after[n]) for n in nominal),
        model,
        "the nominal weights stay as they are",
    )


@torch.no_grad()
def _check_readings(model: DeviceNoiseModel, network: nn.Module) -> None:
    x = torch.linspace(-1.0, 1.0, 48).view(4, 12)
    readings = []
    for _ in range(2):
        with programmed(network, 1):
            readings.append([network(x), network(x)])
    promise(_same(*readings), model, "the same seed gives the same readings")
    promise(not torch.equal(*readings[0]), model, "each forward reads other weights")


def _check_zero(model: DeviceNoiseModel) -> None:
    """Check a layer whose weights are all 0, as freshly added ones may be."""
    layer = nn.Linear(8, 8)
    nn.init.zeros_(layer.weight)
    network = convert_to_analog(
        nn.Sequential(layer), RRAMRPUConfig(noise_model=copy.deepcopy(model))
    )
    with suppress(CnetError):  # it may refuse them
        finite = all(torch.isfinite(w).all() for w in _weights(network, 1, None))
        promise(finite, model, "weights of a layer of zeros are finite")


def _tile() -> Tensor:
    return 2.0 * torch.rand(6, 5, generator=torch.Generator().manual_seed(4)) - 1.0


def _analog(model: DeviceNoiseModel) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 8))
    return convert_to_analog(network, RRAMRPUConfig(noise_model=copy.deepcopy(model))).eval()


def _weights(network: nn.Module, seed: int, time: float | None) -> list[Tensor]:
    with programmed(network, seed, t_inference=time):
        return [weight.clone() for weight in effective_weights(network).values()]


def _same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
