"""RPU configurations for RRAM, in aihwkit's manner: dataclasses for the torch tile."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from aihwkit.inference.noise.base import BaseNoiseModel
from aihwkit.simulator.configs import TorchInferenceRPUConfig
from aihwkit.simulator.parameters import IOParameters, MappingParameter
from aihwkit.simulator.parameters.enums import (
    BoundManagementType,
    NoiseManagementType,
    WeightModifierType,
)

from cnet_aihw.rram.crossbar.charge import Charge
from cnet_aihw.rram.crossbar.mapping import CrossbarMapping
from cnet_aihw.rram.crossbar.saved_state import RRAMTileArray
from cnet_aihw.rram.crossbar.simulator_tile import RRAMSimulatorTile
from cnet_aihw.rram.crossbar.tiles import RRAMInferenceTile
from cnet_aihw.rram.crossbar.variation import VariationParameter
from cnet_aihw.rram.devices.lognormal import LogNormalNoiseModel
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.typed import check_type, checked


@dataclass
class RRAMRPUConfig(TorchInferenceRPUConfig):
    """RRAM crossbars on aihwkit's torch tile, with the noise model injected in training.

    The defaults are the setting of CorrectNet as we read the paper: lognormal variation of every
    weight, perfect periphery, no drift compensation, one tile per layer, weights as they are.
    """

    simulator_tile_class: type = RRAMSimulatorTile
    """Simulator tile; it injects the variation."""

    tile_class: type = RRAMInferenceTile
    """Tile class of a layer."""

    tile_array_class: type = RRAMTileArray
    """Class of the tiles of a layer that one crossbar cannot hold."""

    noise_model: BaseNoiseModel = field(default_factory=LogNormalNoiseModel)
    """Effect of programming on the weights; any aihwkit noise model."""

    forward: IOParameters = field(
        default_factory=lambda: _perfect(), metadata={"bindings_include": True}
    )
    """DAC, ADC and noise at the periphery; perfect by default. See :func:`periphery`."""

    drift_compensation: Any = None
    """aihwkit's drift compensation, or None. It rescales outputs in evaluation and so hides part of
    the variation.
    """

    mapping: MappingParameter = None
    """Layout of weights on tiles: aihwkit's description, or a :class:`CrossbarMapping`, which is
    turned into one. By default one tile per layer, and weights as they are with perfect periphery;
    with DAC, ADC or noise at the periphery, each column's largest weight is mapped to 1, the unit
    their ranges are in."""

    variation: VariationParameter = field(default_factory=VariationParameter)
    """Variation injected in training."""

    readout: Charge | None = None
    """Charge read-out of the columns; None: their currents. See :class:`Charge`."""

    def __post_init__(self) -> None:
        """Turn our description of the mapping into aihwkit's."""
        check_type("noise_model", self.noise_model, BaseNoiseModel)
        check_type("variation", self.variation, VariationParameter)
        check_type("mapping", self.mapping, CrossbarMapping | MappingParameter | None)
        mapping: Any = self.mapping
        if mapping is None:
            mapping = CrossbarMapping()
        if isinstance(mapping, CrossbarMapping):
            self.mapping = mapping.as_parameter(self.forward.is_perfect)
        check_type("readout", self.readout, Charge | None)
        if self.readout is not None:
            self._check_charge()

    def _check_charge(self) -> None:
        """Refuse what charge read-out does not go with."""
        for key, value, expected in (
            ("forward", not self.forward.is_perfect, "a perfect periphery: no DAC, ADC or wires"),
            ("weight_scaling", self.mapping.weight_scaling_omega, "none: outputs are not scaled"),
            ("drift_compensation", self.drift_compensation, "None: outputs are not scaled"),
            ("modifier", self.modifier.type not in _NO_MODIFIER, "none: variation acts instead"),
            ("input_range", self.pre_post.input_range.enable, "off: inputs are times"),
        ):
            if value:
                fix = "or read currents (readout=current)"
                raise bad_value(key, value, f"{expected}, with charge read-out", fix)

    def get_default_tile_module_class(self, out_size: int = 0, in_size: int = 0) -> type:
        """Return the class for a layer of that size: one tile, or an array of several."""
        # The parent takes 0, which stands for no limit, for a limit where the other one is given.
        limits = (self.mapping.max_input_size, self.mapping.max_output_size)
        sizes = zip((in_size, out_size), limits, strict=True)
        fits = all(limit <= 0 or size <= limit for size, limit in sizes)
        return self.tile_class if fits else self.tile_array_class

    def compatible_with(self, tile_class_name: str) -> bool:
        """Return whether a state saved from a tile of that class can be loaded."""
        return tile_class_name in ("TorchInferenceTile", "InferenceTile", "RRAMInferenceTile")


_NO_MODIFIER = (WeightModifierType.NONE, WeightModifierType.COPY)


def _perfect() -> IOParameters:
    return periphery()


@checked
def periphery(
    dac_bits: int | None = None,
    adc_bits: int | None = None,
    out_noise: float = 0.0,
    inp_noise: float = 0.0,
    *,
    dac_range: float | None = None,
    adc_range: float | None = 12.0,
    wire_resistance: float = 0.0,
    g_max: float | None = None,
) -> IOParameters:
    """Describe what is at the edge of a crossbar; the defaults are a perfect periphery.

    Bound management is off, because on the torch tile it makes results depend on the batch.

    Args:
        dac_bits: bits of the DAC, or None for infinite resolution.
        adc_bits: bits of the ADC, or None for infinite resolution.
        out_noise: standard deviation of the noise of an output, where the largest weight times the
            largest input is 1.
        inp_noise: standard deviation of the noise of an input, where the largest input is 1.
        dac_range: the largest input: larger ones are clipped. None: each input vector of a crossbar
            is scaled to its own largest entry (aihwkit's noise management).
        adc_range: largest output that the ADC takes, in the unit of ``out_noise``; larger ones are
            clipped. It counts only where an ADC is given. None: to be found by
            :func:`cnet_aihw.evaluation.calibrate_adc`.
        wire_resistance: resistance in Ohm of the wire from one cell of a column to the next, for IR
            drop; see :func:`cnet_aihw.rram.crossbar.mvm.voltage_loss`.
        g_max: largest conductance in uS, for IR drop.

    Returns:
        aihwkit's description of the periphery.

    Raises:
        CnetError: for values out of range, and for IR drop without ``g_max``.
    """
    for name, bits in (("dac_bits", dac_bits), ("adc_bits", adc_bits)):
        if bits is not None and not 2 <= bits <= 32:
            raise CnetError(
                f"{name} is {bits}; give 2 to 32 bits, or null for infinite resolution.",
                key=name,
                value=bits,
                expected="2 to 32 bits, or null for infinite resolution",
            )
    for name, noise in (("out_noise", out_noise), ("inp_noise", inp_noise)):
        if not 0.0 <= noise < float("inf"):
            raise CnetError(
                f"{name} is {noise}; it is a standard deviation, give a number >= 0.",
                key=name,
                value=noise,
                expected="a number >= 0",
            )
    for name, limit in (("dac_range", dac_range), ("adc_range", adc_range)):
        if limit is not None and not 0.0 < limit < float("inf"):
            raise CnetError(
                f"{name} is {limit}; give a number > 0.",
                key=name,
                value=limit,
                expected="a number > 0",
            )
    if not 0.0 <= wire_resistance < float("inf"):
        raise CnetError(
            f"wire_resistance is {wire_resistance}; give Ohm >= 0.",
            key="wire_resistance",
            value=wire_resistance,
            expected="Ohm >= 0",
        )
    if wire_resistance > 0.0 and not (g_max is not None and 0.0 < g_max < float("inf")):
        raise CnetError(
            f"wire_resistance is {wire_resistance} Ohm but g_max is {g_max}; IR drop needs the "
            "largest conductance in uS.",
            key="wire_resistance",
            value=wire_resistance,
        )
    noisy = out_noise > 0.0 or inp_noise > 0.0 or wire_resistance > 0.0
    if not noisy and dac_bits is None and adc_bits is None and dac_range is None:
        return IOParameters(is_perfect=True)
    parameters = IOParameters(
        inp_res=-1.0 if dac_bits is None else 1.0 / (2**dac_bits - 2),
        out_res=-1.0 if adc_bits is None else 1.0 / (2**adc_bits - 2),
        out_bound=0.0 if adc_bits is None or adc_range is None else adc_range,
        out_noise=out_noise,
        inp_noise=inp_noise,
        bound_management=BoundManagementType.NONE,
    )
    if dac_range is not None:
        parameters.noise_management = NoiseManagementType.CONSTANT
        parameters.nm_thres = dac_range
    if wire_resistance > 0.0 and g_max is not None:
        parameters.ir_drop = 1.0
        parameters.ir_drop_g_ratio = 1.0 / (wire_resistance * g_max * 1e-6)
    return parameters
