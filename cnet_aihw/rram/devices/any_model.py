"""Questions to any noise model, also to those of aihwkit."""

from __future__ import annotations

from collections.abc import Iterable

from aihwkit.inference.noise.base import BaseNoiseModel

from cnet_aihw.rram.devices.noise import DeviceNoiseModel
from cnet_aihw.runtime.typed import checked


def label_of(noise_model: BaseNoiseModel) -> str:
    """Return a short name of any noise model, for tables and records."""
    if isinstance(noise_model, DeviceNoiseModel):
        return noise_model.label()
    return type(noise_model).__name__.removesuffix("NoiseModel")


def has_read_noise(noise_model: BaseNoiseModel) -> bool:
    """Return whether each forward pass on a chip of any noise model reads other weights."""
    return isinstance(noise_model, DeviceNoiseModel) and noise_model.has_read_noise


@checked
def acts_with_time(noise_model: BaseNoiseModel) -> bool:
    """Return whether devices are others at a later time; of aihwkit's models all count as such."""
    ours = isinstance(noise_model, DeviceNoiseModel)
    return not ours or any(model.acts_with_time for model in noise_model.chain())


@checked
def check_times(noise_model: BaseNoiseModel, times: Iterable[float | None]) -> None:
    """Check that a noise model knows its device at these times, before any work.

    Args:
        noise_model: any noise model; aihwkit's own say nothing.
        times: seconds since programming; None: just programmed.

    Raises:
        CnetError: for the first time that it does not know.
    """
    if isinstance(noise_model, DeviceNoiseModel):
        for t_inference in times:
            if t_inference is not None:
                noise_model.check_time(t_inference)
