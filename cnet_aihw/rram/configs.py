"""RPU configurations for RRAM, in aihwkit's manner: dataclasses for the torch tile."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from aihwkit.inference.noise.base import BaseNoiseModel
from aihwkit.simulator.configs import TorchInferenceRPUConfig
from aihwkit.simulator.parameters import IOParameters, MappingParameter
from aihwkit.simulator.parameters.enums import BoundManagementType
from aihwkit.simulator.parameters.helpers import _PrintableMixin

from cnet_aihw.errors import CnetError
from cnet_aihw.rram.noise import LogNormalNoiseModel
from cnet_aihw.rram.tiles import RRAMInferenceTile, RRAMSimulatorTile

GRADIENTS = ("auto", "reparametrized", "straight_through")


@dataclass
class VariationParameter(_PrintableMixin):
    """What the forward passes of training inject: samples of the configuration's noise model.

    Raises:
        CnetError: if ``gradient`` is unknown or ``t_inference`` is negative.
    """

    enabled: bool = True
    """Whether training forwards see varied weights; evaluation forwards never do by this."""

    hold: bool = False
    """Keep one chip until ``resample_variation(model, seed)`` draws the next; otherwise every
    forward of every layer draws anew."""

    gradient: str = "auto"
    """How the gradient reaches the nominal weights: ``"reparametrized"`` (through the factor of a
    multiplicative noise model), ``"straight_through"`` (as if the noise were not there), or
    ``"auto"``: the first where the model allows it, otherwise the second."""

    t_inference: float | None = None
    """Time after programming in seconds whose drift is included; None: just programmed."""

    def __post_init__(self) -> None:
        """Check the values."""
        if self.gradient not in GRADIENTS:
            raise CnetError(
                f"variation.gradient is {self.gradient!r}; give one of {', '.join(GRADIENTS)}."
            )
        if self.t_inference is not None and self.t_inference < 0.0:
            raise CnetError(
                f"variation.t_inference is {self.t_inference}; give seconds >= 0, or null."
            )


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

    noise_model: BaseNoiseModel = field(default_factory=LogNormalNoiseModel)
    """What programming does to the weights; any aihwkit noise model."""

    forward: IOParameters = field(
        default_factory=lambda: periphery(), metadata={"bindings_include": True}
    )
    """DAC, ADC and noise at the periphery; perfect by default. See :func:`periphery`."""

    drift_compensation: Any = None
    """aihwkit's drift compensation, or None. It rescales outputs in evaluation and so hides part of
    the variation.
    """

    mapping: MappingParameter = None
    """How weights lie on tiles. By default one tile per layer, and weights as they are with perfect
    periphery; with DAC, ADC or noise at the periphery, each column's largest weight is mapped to 1,
    the unit their ranges are in."""

    variation: VariationParameter = field(default_factory=VariationParameter)
    """What training injects."""

    def __post_init__(self) -> None:
        """Choose the mapping where none is given."""
        if self.mapping is None:
            perfect = self.forward.is_perfect
            self.mapping = MappingParameter(
                max_input_size=0,
                max_output_size=0,
                weight_scaling_omega=0.0 if perfect else 1.0,
                weight_scaling_columnwise=not perfect,
            )

    def compatible_with(self, tile_class_name: str) -> bool:
        """Say whether a state saved from a tile of that class can be loaded."""
        return tile_class_name in ("TorchInferenceTile", "InferenceTile", "RRAMInferenceTile")


def periphery(
    dac_bits: int | None = None,
    adc_bits: int | None = None,
    out_noise: float = 0.0,
    inp_noise: float = 0.0,
    out_bound: float = 12.0,
) -> IOParameters:
    """Describe DAC, ADC and noise at the edge of a crossbar; the defaults are a perfect periphery.

    Each input vector is scaled to its largest entry before the DAC (aihwkit's noise management);
    bound management is off, because on the torch tile it makes results depend on the batch.

    Args:
        dac_bits: bits of the DAC, or None for infinite resolution.
        adc_bits: bits of the ADC, or None for infinite resolution.
        out_noise: standard deviation of the noise of an output, where the largest weight times the
            largest input is 1.
        inp_noise: standard deviation of the noise of an input, where the largest input is 1.
        out_bound: largest output that the ADC takes, in the unit of ``out_noise``; it clips only
            where an ADC is given.

    Returns:
        aihwkit's description of the periphery.

    Raises:
        CnetError: if bits are below 2 or a noise is negative.
    """
    for name, bits in (("dac_bits", dac_bits), ("adc_bits", adc_bits)):
        if bits is not None and not 2 <= bits <= 32:
            raise CnetError(
                f"{name} is {bits}; give 2 to 32 bits, or null for infinite resolution."
            )
    for name, noise in (("out_noise", out_noise), ("inp_noise", inp_noise)):
        if not 0.0 <= noise < float("inf"):
            raise CnetError(f"{name} is {noise}; it is a standard deviation, give a number >= 0.")
    if not out_bound > 0.0:
        raise CnetError(f"out_bound is {out_bound}; give a number > 0.")
    if dac_bits is None and adc_bits is None and out_noise == 0.0 and inp_noise == 0.0:
        return IOParameters(is_perfect=True)
    return IOParameters(
        inp_res=-1.0 if dac_bits is None else 1.0 / (2**dac_bits - 2),
        out_res=-1.0 if adc_bits is None else 1.0 / (2**adc_bits - 2),
        out_bound=0.0 if adc_bits is None else out_bound,
        out_noise=out_noise,
        inp_noise=inp_noise,
        bound_management=BoundManagementType.NONE,
    )
