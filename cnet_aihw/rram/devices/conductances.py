"""The devices of a tile: how its weights become conductances, what happens to them, what they give.

Weights are mapped once, when a tile is programmed, and keep that scale: what happens to the devices
later never changes what the others stand for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol, get_args

import torch
from aihwkit.inference.converter.base import BaseConductanceConverter
from torch import Tensor

from cnet_aihw.runtime.errors import CnetError, bad_value

Stage = Literal["levels", "variation", "faults", "drift", "read noise"]
STAGES: tuple[Stage, ...] = get_args(Stage)
"""The order in which models act when a chip is programmed."""

# A stuck device does not drift: later, faults have the last word.
_AGEING: tuple[Stage, ...] = ("levels", "variation", "drift", "faults", "read noise")


@dataclass(frozen=True)
class WeightScale:
    """Meaning of the conductances of one programmed tile."""

    g_min: float
    """Smallest conductance in uS that weights are mapped to."""

    g_max: float
    """Largest one."""

    largest_weight: Tensor
    """Largest absolute nominal weight of the tile, in the tile's units, a scalar; the full scale of
    a converter that has one."""

    converter: BaseConductanceConverter
    """Converter from conductances to weights."""

    params: dict[str, Any]
    """The converter's own numbers for this tile."""

    devices: int
    """Devices of a weight; 0 where the converter takes a tensor in place of a list."""

    @cached_property
    def slopes(self) -> list[Tensor]:
        """For each device of a weight, by how much the weight changes per uS."""
        # Weights are affine in the conductances, so that one cell tells the slopes.
        bare, like = self.devices == 0, self.largest_weight
        cell = [like.new_zeros(1, 1) for _ in range(max(self.devices, 1))]
        zero = _to_weights(self.converter, cell, self.params, bare)
        slopes = []
        for number in range(len(cell)):
            one = [g + (i == number) for i, g in enumerate(cell)]
            slopes.append(_to_weights(self.converter, one, self.params, bare) - zero)
        return slopes


class ActingModel(Protocol):
    """Interface that a tile's devices need of a noise model; see ``DeviceNoiseModel``."""

    stage: Any
    acts_with_time: Any

    def program_devices(
        self, devices: list[Tensor], scale: WeightScale
    ) -> list[tuple[Tensor, Any]]:
        """Program all devices of a tile."""

    def drift_device(self, g: Tensor, memory: Any, t_inference: float) -> Tensor:
        """Return the same devices at a later time."""

    def read_std_of_device(self, g: Tensor, scale: WeightScale) -> Tensor:
        """Return the standard deviation in uS of one reading of each device."""


@dataclass
class TileDevices:
    """The devices of one programmed tile.

    A weight lies on one or more devices; each tensor holds one of them for all weights of the tile,
    [out, in] in uS (or [1, in] where all outputs share it, as a reference column).

    Attributes:
        targets: conductances that were asked for.
        memories: for each model and each tensor, what the model keeps of its draws; empty where
            nothing acts with time.
        present: conductances at the time last asked for.
        scale: what they stand for.
        converter: how they become weights.
        params: the converter's own numbers for this tile.
        bare: whether the converter takes a tensor in place of a list.
    """

    targets: list[Tensor]
    memories: list[list[Any]]
    present: list[Tensor]
    scale: WeightScale
    converter: BaseConductanceConverter
    params: dict[str, Any]
    bare: bool

    @classmethod
    def of(cls, weights: Tensor, converter: BaseConductanceConverter) -> TileDevices:
        """Map the weights of a tile, [out, in]."""
        given, params = converter.convert_to_conductances(weights)
        bare = isinstance(given, Tensor)  # aihwkit's SingleDevice converter gives no list
        targets = [given] if bare else list(given)
        # Where the device would be waited for, nothing is checked: programming is on the CPU.
        if weights.device.type == "cpu" and not all(torch.isfinite(g).all() for g in targets):
            if not bool(torch.isfinite(weights).all()):
                fix = "look at its training, which may have diverged"
                raise bad_value("weights", "not finite", "finite numbers to program", fix)
            raise CnetError(
                f"{type(converter).__name__} gives conductances that are not finite; it cannot map "
                "a tile whose weights are all equal; use a pair of devices per weight, or leave "
                "that layer digital.",
                key="g_converter",
                value=type(converter).__name__,
            )
        devices = 0 if bare else len(targets)
        low, high = range_of(converter)
        full = getattr(converter, "full_scale", None)
        largest = weights.abs().max() if full is None else weights.new_tensor(full)
        scale = WeightScale(low, high, largest, converter, params, devices)
        return cls(targets, [], targets, scale, converter, params, bare)

    def program(self, chain: Sequence[ActingModel]) -> None:
        """Let models act on the devices, one after the other.

        The draws of one model come before those of the next, so that a further model leaves what
        earlier ones draw.
        """
        ages = any(model.acts_with_time for model in chain)
        for model in chain:
            programmed = _pairs(model, model.program_devices(self.present, self.scale))
            self.present = _as_given(model, [g for g, _ in programmed], self.present)
            if ages:
                self.memories.append([memory for _, memory in programmed])

    def drift(self, chain: Sequence[ActingModel], t_inference: float) -> None:
        """Let the devices, programmed by the same models, become those of a time in seconds."""
        self.present = self.targets
        stages = list(zip(chain, self.memories, strict=True))
        for model, memories in sorted(stages, key=lambda stage: _AGEING.index(stage[0].stage)):
            drifted = [
                model.drift_device(g, memory, t_inference)
                for g, memory in zip(self.present, memories, strict=True)
            ]
            self.present = _as_given(model, drifted, self.present)

    def read_stds(self, chain: Sequence[ActingModel]) -> list[Tensor]:
        """Return how far a reading of the weights is off; see ``DeviceNoiseModel.read_stds``."""
        variances: dict[torch.Size, Tensor] = {}
        for model in chain:
            if model.stage != "read noise":
                continue
            stds = [model.read_std_of_device(g, self.scale) for g in self.present]
            stds = _as_given(model, stds, self.present)
            for g, std, slope in zip(self.present, stds, self.scale.slopes, strict=True):
                variance = (slope * std).square()
                variances[g.shape] = variances.get(g.shape, torch.zeros_like(g)) + variance
        return [variance.sqrt() for variance in variances.values()]

    def weights(self) -> Tensor:
        """Return what the present conductances stand for, [out, in]."""
        return _to_weights(self.converter, self.present, self.params, self.bare)


def range_of(converter: BaseConductanceConverter) -> tuple[float, float]:
    """Return the smallest and the largest conductance of a converter, in uS.

    Raises:
        CnetError: if it does not say.
    """
    known = vars(converter)
    if "g_min" not in known or "g_max" not in known:
        raise CnetError(
            f"{type(converter).__name__} does not say its range of conductances; give it the "
            "attributes g_min and g_max, in uS.",
            key=str(type(converter).__name__),
            fix="give it the attributes g_min and g_max, in uS",
        )
    return known["g_min"], known["g_max"]


def _pairs(model: ActingModel, programmed: list[Any]) -> list[tuple[Tensor, Any]]:
    """Return what a model gives for each device: conductances, and what its drift needs.

    Raises:
        CnetError: for anything else, such as the conductances alone.
    """
    for one in programmed:
        if not isinstance(one, tuple) or len(one) != 2:
            kind, expected = type(model).__name__, "two values: the conductances, and a memory"
            raise CnetError(
                f"{kind} programs a device and returns {type(one).__name__}; expected {expected} "
                "that its drift needs, or None.",
                key=kind,
                value=type(one).__name__,
                expected=expected,
            )
    return programmed


def _as_given(model: ActingModel, found: list[Tensor], given: list[Tensor]) -> list[Tensor]:
    """Return what a model makes of devices, which must be one number for each of them.

    Raises:
        CnetError: for tensors of another shape or type: others would be broadcast, or cast.
    """
    for one, g in zip(found, given, strict=True):
        right = isinstance(one, Tensor) and one.shape == g.shape and one.dtype == g.dtype
        if not right:
            kind, expected = type(model).__name__, f"{g.dtype} {tuple(g.shape)}"
            was = (
                f"{one.dtype} {tuple(one.shape)}" if isinstance(one, Tensor) else type(one).__name__
            )
            raise CnetError(
                f"{kind} gives {was} for conductances {expected}; return one number for each "
                "device, in the shape and type of what it is given.",
                key=kind,
                value=was,
                expected=expected,
                fix="return the shape and type of what it is given",
            )
    return found


def _to_weights(
    converter: BaseConductanceConverter, devices: list[Tensor], params: dict[str, Any], bare: bool
) -> Tensor:
    return converter.convert_back_to_weights(devices[0] if bare else devices, params)
