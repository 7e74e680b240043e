"""What a run's folder belongs to, so that no run goes on with other settings, data or network."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cnet_aihw.errors import CnetError
from cnet_aihw.evaluation.fingerprint import (
    describe_hardware,
    describe_network,
    tensors_fingerprint,
    text_fingerprint,
)
from cnet_aihw.evaluation.measure import Samples
from cnet_aihw.rram import trainable_parameters
from cnet_aihw.training.settings import TrainingSettings

_SAMPLE = 16  # inputs that stand for the normalization, which the data's fingerprint leaves out


class TrainingData(Protocol):
    """What training takes from a data set; the test part is not among it."""

    @property
    def train(self) -> Samples:
        """The samples trained on."""

    @property
    def val(self) -> Samples:
        """The samples that choose epochs and stop the run."""

    @property
    def augment(self) -> Callable[[Tensor, torch.Generator], Tensor] | None:
        """Changes a batch of inputs at random, or None."""

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the content and the split."""


def describe_settings(settings: TrainingSettings) -> dict[str, Any]:
    """All settings that determine the course of a run or a fit, as plain values.

    What came later than runs and evaluations that are kept is left out at its default, so that
    they stay valid.
    """
    described = asdict(settings)
    del described["checkpoint_seconds"]
    if not described["channels_last"]:
        del described["channels_last"]
    if not described["variation"]["ramp_epochs"]:
        del described["variation"]["ramp_epochs"]
    noise = settings.variation.noise_model
    described["variation"]["noise_model"] = (
        None if noise is None else f"{type(noise).__name__} {noise}"
    )
    return described


def describe_run(
    model: nn.Module,
    data: TrainingData,
    settings: TrainingSettings,
    device: torch.device,
    objective: object,
    analog: bool,
) -> dict[str, Any]:
    """Everything that determines the course of a run but the initial weights, as plain values."""
    parts = {
        f"{name}.{axis}": tensor[:_SAMPLE]
        for name, part in (("train", data.train), ("val", data.val))
        for axis, tensor in (("x", part.x), ("y", part.y))
    }
    trained = {id(parameter) for parameter in trainable_parameters(model)}
    names = [name for name, parameter in model.named_parameters() if id(parameter) in trained]
    return {
        "training": describe_settings(settings),
        "data": {
            "fingerprint": data.fingerprint,
            "normalization": tensors_fingerprint(parts),
            "samples": [len(data.train.x), len(data.val.x)],
            "augment": data.augment is not None,
        },
        "model": {
            "network": text_fingerprint(describe_network(model)),
            "trained parameters": names,
            "hardware": text_fingerprint(describe_hardware(model, None)) if analog else None,
        },
        "objective": objective is not None,
        "device": device.type,
    }


def check_same_run(stored: Mapping[str, Any], wanted: Mapping[str, Any], folder: Path) -> None:
    """Compare what a folder was begun with against what is wanted now.

    Raises:
        CnetError: names the first difference.
    """
    old, new = _flat(stored), _flat(wanted)
    for name in (*new, *old):
        if name not in old or name not in new or old[name] != new[name]:
            raise CnetError(
                f"{folder} holds a run with {name} = {_short(old.get(name))} and now it is "
                f"{_short(new.get(name))}; give another folder, or delete this one to begin anew."
            )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
