"""Identifiers of noise models for cache keys and records."""

from __future__ import annotations

from typing import Any

from aihwkit.inference.noise.base import BaseNoiseModel

from cnet_aihw.rram.devices.noise import DeviceNoiseModel
from cnet_aihw.runtime.fingerprint import class_elsewhere, exact_text, holds_table
from cnet_aihw.runtime.typed import checked

_NOT_LAW = ("g_converter", "scale_ratio")  # the latter is what a converter mapped last


@checked
def noise_model_id(noise_model: BaseNoiseModel) -> str:
    """Return a text of all that tells a noise model apart, for keys and records."""
    kind = class_elsewhere(noise_model) or type(noise_model).__name__
    return f"{kind} {noise_model}{unprinted_attributes(noise_model)}"


@checked
def unprinted_attributes(noise_model: BaseNoiseModel) -> str:
    """Return what the text of a noise model leaves out of its public attributes; often nothing.

    aihwkit's converters print conductances with two decimals, tables are printed in part, and a
    model without a text of its own prints its class alone. Models of ours tell all.
    """
    if isinstance(noise_model, DeviceNoiseModel):
        return ""
    text = str(noise_model)
    attributes = {**vars(noise_model), **vars(noise_model.g_converter)}
    return "".join(
        f" {name}={exact_text(value)}" for name, value in sorted(attributes.items())
        if name[0] != "_" and name not in _NOT_LAW and not _tells(text, name, value)
    )  # fmt: skip


def _tells(text: str, name: str, value: Any) -> bool:
    if value is None or holds_table(value):
        return value is None
    shown = [str(value)]
    if isinstance(value, float) and float(f"{value:.2f}") == value:
        shown.append(f"{value:.2f}")
    return any(f"{name}={each}{end}" in text for each in shown for end in ",)")
