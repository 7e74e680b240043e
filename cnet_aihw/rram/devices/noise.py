"""Base of the noise models: weights become devices, devices change and are read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from typing import Any, ClassVar

from aihwkit.inference.converter.base import BaseConductanceConverter
from aihwkit.inference.converter.conductance import SinglePairConductanceConverter
from aihwkit.inference.noise.base import BaseNoiseModel
from torch import Generator, Tensor
from torch.autograd import no_grad

from cnet_aihw.rram.devices.chip_scope import generator_of_chip
from cnet_aihw.rram.devices.conductances import (
    Stage,
    TileDevices,
    WeightScale,
    range_of,
)
from cnet_aihw.rram.devices.whole_class import check_class
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.fingerprint import exact_text


class DeviceNoiseModel(BaseNoiseModel):
    """A noise model that says what happens to each device, in uS.

    A subclass is one file that names its source, its units and its valid range. It says its
    ``stage``, its :meth:`label` and when it :attr:`is_off`, and overrides :meth:`program_device`,
    and :meth:`drift_device` and :meth:`read_std_of_device` where it drifts or is read with noise.
    Its settings are plain public attributes: they tell models apart in records.

    Args:
        g_converter: how weights become conductances; by default a pair of devices per weight.
        g_max: largest conductance in uS of the default converter.
        g_min: smallest conductance in uS of the default converter.

    Raises:
        CnetError: if the conductances are no range or outside that of the device, both a
            converter and its range are given, or the class names a stage that there is not or
            lacks a method.
    """

    stage: ClassVar[Stage] = "variation"
    """Stage in a :class:`~cnet_aihw.rram.CompositeNoiseModel`."""

    drifts: ClassVar[bool] = False
    """Whether it has a change with time of its own; False: :meth:`drift_device` gives what was
    programmed, for compositions."""

    valid_range: tuple[float, float] = (0.0, math.inf)
    """Conductances in uS that the device was measured at."""

    default_range: tuple[float, float] = (0.0, 25.0)
    """Conductances in uS that weights are mapped to where nothing else is said."""

    def __init__(
        self,
        g_converter: BaseConductanceConverter | None = None,
        g_max: float | None = None,
        g_min: float | None = None,
    ) -> None:
        check_class(self, DeviceNoiseModel)
        self.range_is_given = not (g_converter is None and g_max is None and g_min is None)
        super().__init__(self.make_converter(g_converter, g_max, g_min))
        self.check_range(*range_of(self.g_converter))

    # -- what a model says of itself

    def label(self) -> str:
        """A short name for tables and records."""
        raise NotImplementedError

    @property
    def is_off(self) -> bool:
        """Whether the model, as configured, leaves all weights as they are, bit for bit."""
        return False

    @property
    def has_read_noise(self) -> bool:
        """Whether each forward pass reads other weights."""
        return any(model.stage == "read noise" for model in self.chain())

    def default_converter(self, g_max: float, g_min: float) -> BaseConductanceConverter:
        """Return how weights become conductances where no converter is given."""
        return SinglePairConductanceConverter(g_max=g_max, g_min=g_min)

    def make_converter(
        self, g_converter: BaseConductanceConverter | None, g_max: float | None, g_min: float | None
    ) -> BaseConductanceConverter:
        """Return a copy of the converter, or the default one of this range, in uS.

        Raises:
            CnetError: if the conductances are no range, or both are given.
        """
        if g_converter is not None:
            if not (g_max is None and g_min is None):
                raise CnetError(
                    f"g_max = {g_max} and g_min = {g_min} are given beside a converter, which has "
                    "its own; give them to the converter.",
                    key="g_max",
                    value=g_max,
                    fix="give them to the converter",
                )
            return deepcopy(g_converter)
        low, high = self.default_range
        g_min, g_max = low if g_min is None else g_min, high if g_max is None else g_max
        if not 0.0 <= g_min < g_max < math.inf:
            raise CnetError(
                f"g_min is {g_min} and g_max is {g_max}; give conductances in uS, "
                "0 <= g_min < g_max.",
                key="g_min",
                value=g_min,
                expected="conductances in uS, 0 <= g_min < g_max",
            )
        return self.default_converter(g_max, g_min)

    def check_range(self, g_min: float, g_max: float) -> None:
        """Check that the device is known at these conductances, in uS.

        Raises:
            CnetError: if it is not.
        """
        low, high = self.valid_range
        if g_min < low or g_max > high:
            raise CnetError(
                f"weights are mapped to {g_min:g} to {g_max:g} uS, but {type(self).__name__} holds "
                f"from {low:g} to {high:g} uS; set g_min and g_max inside that.",
                key="g_max" if g_max > high else "g_min",
                value=(g_min, g_max),
                expected=(low, high),
            )

    def check_time(self, t_inference: float) -> None:
        """Check that the device is known at this time after programming, in seconds.

        Raises:
            CnetError: if it is not.
        """
        if not 0.0 <= t_inference < math.inf:
            raise CnetError(
                f"t_inference is {t_inference}; give seconds >= 0.",
                key="t_inference",
                value=t_inference,
                expected="seconds >= 0",
            )

    # -- what it does to each device

    def program_device(self, g: Tensor, scale: WeightScale) -> tuple[Tensor, Any]:
        """Program one device of every weight.

        Args:
            g: conductances asked for in uS, [out, in] or [1, in]; not to be changed in place.
            scale: what they stand for.

        Returns:
            Conductances just programmed, and what :meth:`drift_device` needs of the draws.
        """
        return g, None

    def program_devices(
        self, devices: list[Tensor], scale: WeightScale
    ) -> list[tuple[Tensor, Any]]:
        """Program all devices of a tile; to be overridden where they have something in common."""
        return [self.program_device(g, scale) for g in devices]

    def chip_generator(self, name: str) -> Generator:
        """Return a generator, on the CPU, for what all tiles of a chip have in common.

        Each tile draws from a seed of its own, from torch's global generator; this one begins with
        the same draws at each tile of one chip.

        Args:
            name: name of the part in common; others draw otherwise.

        Raises:
            CnetError: where no chip is programmed, as in training without one that is held.
        """
        return generator_of_chip(name, type(self).__name__)

    def drift_device(self, g: Tensor, memory: Any, t_inference: float) -> Tensor:
        """Return the same devices at a later time; asked for where :attr:`drifts` is True.

        Args:
            g: conductances in uS that the models before this one give at that time.
            memory: what :meth:`program_device` kept.
            t_inference: seconds since programming.
        """
        raise NotImplementedError

    def read_std_of_device(self, g: Tensor, scale: WeightScale) -> Tensor:
        """Return the standard deviation in uS of one reading of each device."""
        raise NotImplementedError

    def chain(self) -> Sequence[DeviceNoiseModel]:
        """Return the models that act, in order; those that are off do not."""
        return () if self.is_off else (self,)

    # -- aihwkit's interface

    @no_grad()
    def apply_programming_noise(self, weights: Tensor) -> tuple[Tensor, list[Any]]:
        """Program one tile.

        Args:
            weights: nominal weights in the tile's units, [out, in].

        Returns:
            Weights of the chip, [out, in], and a list of the tile's :class:`TileDevices` (of None
            where the model is off).

        Raises:
            CnetError: if the converter cannot map these weights.
        """
        chain = self.chain()
        if not chain:
            return weights.clone(), [None]
        devices = TileDevices.of(weights, self.g_converter)
        devices.program(chain)
        exact = not hasattr(self.g_converter, "full_scale")  # conductances would round
        if exact and all(model.stage in ("drift", "read noise") for model in chain):
            return weights.clone(), [devices]
        return devices.weights(), [devices]

    @no_grad()
    def apply_drift_noise(
        self, weights: Tensor, drift_noise_parameters: list[Any], t_inference: float
    ) -> Tensor:
        """Return the tile's weights at a later time.

        The devices keep the scale that they were programmed with; aihwkit would rescale the tile by
        its largest programmed weight.

        Args:
            weights: weights just programmed, [out, in].
            drift_noise_parameters: what :meth:`apply_programming_noise` gave beside them.
            t_inference: seconds since programming.

        Raises:
            CnetError: if the device is not known at that time.
        """
        self.check_time(t_inference)
        (devices,) = drift_noise_parameters
        chain = self.chain()
        if not any(model.acts_with_time for model in chain):
            return weights.clone()
        devices.drift(chain, t_inference)
        return devices.weights()

    @no_grad()
    def apply_noise(self, weights: Tensor, t_inference: float) -> Tensor:
        """Return the weights of a fresh chip at a time after programming, [out, in]."""
        programmed, parameters = self.apply_programming_noise(weights)
        return self.apply_drift_noise(programmed, parameters, t_inference)

    @no_grad()
    def read_stds(self, drift_noise_parameters: list[Any]) -> list[Tensor]:
        """Return how far one reading of a programmed tile is off, in the tile's units.

        A reading is off by the sum of independent normal draws, one tensor for each that is
        returned; a tensor of shape [1, in] is common to all outputs. Empty: no read noise.

        Args:
            drift_noise_parameters: what :meth:`apply_programming_noise` gave; the devices count as
                they were at the time last asked for.
        """
        (devices,) = drift_noise_parameters
        return [] if devices is None else devices.read_stds(self.chain())

    @property
    def acts_with_time(self) -> bool:
        """Whether its devices are others at a later time: by drift, or by how they are read."""
        return self.drifts

    # -- telling models apart

    def __str__(self) -> str:
        names = [n for n in vars(self) if n not in _NOT_SETTINGS and n[0] != "_"]
        settings = [f"{name}={exact_text(getattr(self, name))}" for name in names]
        settings.append(f"g_converter={self.converter_text()}")
        return f"{type(self).__name__}({', '.join(settings)})"

    def __repr__(self) -> str:
        return str(self)

    def converter_text(self) -> str:
        """Say the converter with all its numbers; aihwkit's own text rounds them."""
        converter = self.g_converter
        values = {n: v for n, v in vars(converter).items() if v is not None}
        numbers = ", ".join(f"{n}={exact_text(v)}" for n, v in values.items())
        return f"{type(converter).__name__}({numbers})"

    def __eq__(self, other: object) -> bool:
        """Compare the settings, not the identity, of converter and parameters."""
        return type(self) is type(other) and str(self) == str(other)

    def __hash__(self) -> int:
        """Hash by the law."""
        return hash(str(self))


class MultiplicativeNoiseModel(DeviceNoiseModel):
    """A noise model that multiplies each weight by a random factor.

    Training can then pass the gradient through the factor: ``d w_chip / d w = factor``. By itself
    it acts on weights; in a composition on each of their devices.
    """

    @property
    def multiplicative(self) -> bool:
        """Whether the model, as configured, is a factor on each weight."""
        return True

    @property
    def alike(self) -> bool:
        """Whether the factors of all weights are independent draws of one law."""
        return False

    def sample_factor(self, weights: Tensor) -> Tensor:
        """Draw the factors of one tile, [out, in], for weights of that shape, type and device."""
        raise NotImplementedError

    def factor_moments(self) -> tuple[float, float]:
        """Return mean and standard deviation of the factor, in closed form."""
        raise NotImplementedError

    def program_device(self, g: Tensor, scale: WeightScale) -> tuple[Tensor, Any]:
        """Multiply each conductance by a factor of its own."""
        programmed = g * self.sample_factor(g)
        return programmed, programmed

    def drift_device(self, g: Tensor, memory: Any, t_inference: float) -> Tensor:
        """Return the programmed conductances: nothing drifts."""
        return memory

    @no_grad()
    def apply_programming_noise(self, weights: Tensor) -> tuple[Tensor, list[Any]]:
        """Program one tile, [out, in] -> [out, in]; there are no drift parameters."""
        if self.is_off:
            return weights.clone(), [None]
        return self.sample_factor(weights).mul_(weights), [None]


_NOT_SETTINGS = ("g_converter", "range_is_given", "valid_range", "default_range")
