"""Any noise model of aihwkit as a model of devices here, so that it composes and drifts rightly.

Source, units (uS, seconds) and valid range are the model's own.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from aihwkit.exceptions import ArgumentError
from aihwkit.inference.noise.base import BaseNoiseModel
from torch import Tensor

from cnet_aihw.rram.devices.any_model import label_of
from cnet_aihw.rram.devices.conductances import WeightScale, range_of
from cnet_aihw.rram.devices.noise import DeviceNoiseModel
from cnet_aihw.rram.devices.noise_model_id import unprinted_attributes
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.typed import checked


class AihwkitNoiseModel(DeviceNoiseModel):
    """A noise model of aihwkit, whose conductances keep their scale when they drift.

    aihwkit converts the programmed weights again when they drift, and so multiplies a tile by its
    largest programmed weight. Its draws are otherwise those of the model; read noise that it has
    with drift is drawn once for a chip and a time.

    Args:
        noise_model: a model that works on conductances; also one of your own. It is copied.

    Raises:
        CnetError: if it is not a noise model of aihwkit, or already one of ours.
    """

    drifts = True

    @checked
    def __init__(self, noise_model: BaseNoiseModel) -> None:
        if not isinstance(noise_model, BaseNoiseModel) or isinstance(noise_model, DeviceNoiseModel):
            raise CnetError(
                f"noise_model is a {type(noise_model).__name__}; give a noise model of aihwkit, "
                "and those of cnet_aihw as they are.",
                key="noise_model",
                value=type(noise_model).__name__,
                expected="a noise model of aihwkit, and those of cnet_aihw as they are",
            )
        self.noise_model = deepcopy(noise_model)
        self.valid_range = range_of(self.noise_model.g_converter)
        super().__init__(self.noise_model.g_converter)

    def __str__(self) -> str:
        return f"{super().__str__()}{unprinted_attributes(self.noise_model)}"

    def label(self) -> str:
        """A short name for tables and records."""
        return label_of(self.noise_model)

    def program_device(self, g: Tensor, scale: WeightScale) -> tuple[Tensor, Any]:
        """Program by the model's own hook; kept are conductances and drift coefficients."""
        programmed = self.noise_model.apply_programming_noise_to_conductance(g.clone())
        coefficients = self.noise_model.generate_drift_coefficients(g.clone())
        return programmed, (programmed, coefficients)

    def drift_device(self, g: Tensor, memory: Any, t_inference: float) -> Tensor:
        """Drift by the model's own hook."""
        programmed, coefficients = memory
        try:
            return self.noise_model.apply_drift_noise_to_conductance(
                programmed.clone(), coefficients, t_inference
            )
        except ArgumentError as error:
            raise CnetError(
                f"t_inference is {t_inference:g}; {error}", key="t_inference", value=t_inference
            ) from error
