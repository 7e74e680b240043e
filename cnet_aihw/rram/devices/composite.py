"""Noise models one after the other on the same devices.

Source, units (uS, seconds) and valid range are those of the models composed; the order is ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aihwkit.inference.converter.base import BaseConductanceConverter
from aihwkit.inference.noise.base import BaseNoiseModel

from cnet_aihw.rram.devices.aihwkit_model import AihwkitNoiseModel
from cnet_aihw.rram.devices.conductances import STAGES
from cnet_aihw.rram.devices.noise import DeviceNoiseModel
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.typed import checked


class CompositeNoiseModel(DeviceNoiseModel):
    """Several noise models, at most one of each stage, in the order of the stages.

    1. levels: conductances that can be programmed at all; 2. variation; 3. faults; 4. drift;
    5. read noise, new at each forward pass. The order in which models are given does not count. A
    stuck device neither varies nor drifts, but is read with noise. Models that are off are passed
    over, and adding a later one does not change what earlier ones draw for a chip.

    All act on the same devices, so that a variation that by itself acts on weights here acts on
    each device of a weight: the same law for the pair of devices with g_min = 0.

    Args:
        models: models of this package, or of aihwkit (as a variation that drifts).
        g_converter: how weights become conductances; by default that of the model that has one
            given, else that of the variation, else a pair of devices from 0 to 25 uS.
        g_max: largest conductance in uS of a pair of devices.
        g_min: smallest conductance in uS of a pair of devices.

    Raises:
        CnetError: if two models have the same stage, a drift is added to a model that drifts by
            itself, a composition is composed, two models ask for different converters, or a
            model's device is not known at these conductances.
    """

    @checked
    def __init__(
        self,
        models: Iterable[BaseNoiseModel],
        g_converter: BaseConductanceConverter | None = None,
        g_max: float | None = None,
        g_min: float | None = None,
    ) -> None:
        ours = [
            model if isinstance(model, DeviceNoiseModel) else AihwkitNoiseModel(model)
            for model in models
        ]
        if not ours:
            raise bad_value("models", [], "one or more noise models")
        _check_stages(ours)
        self.models = sorted(ours, key=lambda model: STAGES.index(model.stage))
        if g_converter is None and g_max is None and g_min is None:
            g_converter = _common_converter(self.models)
        super().__init__(g_converter, g_max, g_min)

    def label(self) -> str:
        """The labels of the models that act, in order."""
        return " + ".join(model.label() for model in self.chain()) or "nothing"

    @property
    def is_off(self) -> bool:
        """Whether no model does anything."""
        return not self.chain()

    def chain(self) -> Sequence[DeviceNoiseModel]:
        """Return the models that act, in order; those that are off do not."""
        return [model for model in self.models if not model.is_off]

    def check_range(self, g_min: float, g_max: float) -> None:
        """Check the conductances, in uS, with every model."""
        for model in self.models:
            model.check_range(g_min, g_max)

    def check_time(self, t_inference: float) -> None:
        """Check the time, in seconds, with every model that acts."""
        super().check_time(t_inference)
        for model in self.chain():
            model.check_time(t_inference)


def _check_stages(models: Sequence[DeviceNoiseModel]) -> None:
    for model in models:
        if isinstance(model, CompositeNoiseModel):
            raise CnetError(
                "models has a CompositeNoiseModel; name its models themselves.",
                key="models",
                fix="name its models themselves",
            )
        same = [type(m).__name__ for m in models if m.stage == model.stage]
        if len(same) > 1:
            raise CnetError(
                f"{' and '.join(same)} are both models of {model.stage}; compose one of each stage "
                f"({', '.join(STAGES)}).",
                key=str(" and ".join(same)),
            )
    drifting = [type(m).__name__ for m in models if m.drifts and not m.is_off]
    if len(drifting) > 1:
        raise CnetError(
            f"{' and '.join(drifting)} both change with time, which would count drift twice; leave "
            "one out.",
            key=str(" and ".join(drifting)),
        )


def _common_converter(models: Sequence[DeviceNoiseModel]) -> BaseConductanceConverter | None:
    """The converter that a model was given, or that of the variation; None: there is neither."""
    given = [model for model in models if model.range_is_given]
    for model in given[1:]:
        if model.converter_text() != given[0].converter_text():
            raise CnetError(
                f"{type(given[0]).__name__} has {given[0].converter_text()}, but "
                f"{type(model).__name__} has {model.converter_text()}; give g_converter, or g_min "
                "and g_max, to the composition alone.",
                key=str(type(given[0]).__name__),
                value=given[0].converter_text(),
                expected="g_converter, or g_min and g_max, to the composition alone",
            )
    chosen = given or [model for model in models if model.stage == "variation"]
    return chosen[0].g_converter if chosen else None
