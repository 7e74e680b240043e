"""What a run's folder belongs to, so that no run goes on with other settings, data or network."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cnet_aihw.evaluation.chip_identity import describe_hardware, describe_network
from cnet_aihw.evaluation.metrics import Samples
from cnet_aihw.rram import analog_layers, noise_model_id, trainable_parameters
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.fingerprint import exact_text, tensors_fingerprint, text_fingerprint
from cnet_aihw.training.settings import TrainingSettings

_LATER = ("data.augmented", "model.injected", "objective's name")
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
    described["variation"]["noise_model"] = None if noise is None else noise_model_id(noise)
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
            "augmented": _describe(data.augment),
        },
        "model": {
            "network": text_fingerprint(describe_network(model)),
            "trained parameters": names,
            "hardware": text_fingerprint(describe_hardware(model, None)) if analog else None,
            "injected": text_fingerprint(_describe_injected(model)) if analog else None,
        },
        "objective": objective is not None,
        "objective's name": _describe(objective),
        "device": device.type,
    }


def check_same_run(stored: Mapping[str, Any], wanted: Mapping[str, Any], folder: Path) -> None:
    """Compare what a folder was begun with against what is wanted now.

    What came later than runs that are kept counts only where they have it.

    Raises:
        CnetError: names the first difference.
    """
    old, new = _flat(stored), _flat(wanted)
    for name in (*new, *old):
        if name in _LATER and name not in old:
            continue
        if name not in old or name not in new or old[name] != new[name]:
            raise CnetError(
                f"{folder} holds a run with {name} = {_short(old.get(name))} and now it is "
                f"{_short(new.get(name))}; give another folder, or delete this one to begin anew."
            )


def _describe_injected(model: nn.Module) -> list[str]:
    """A line for each tile: what forwards in training do beside the noise model."""
    return [
        f"{name} {config.modifier} {getattr(config, 'pre_post', None)} "
        f"{getattr(getattr(config, 'variation', None), 't_inference', None)}"
        for name, layer in analog_layers(model).items()
        for config in (tile.rpu_config for tile in layer.analog_tiles())
    ]


def _describe(thing: object) -> str | None:
    """Module and name of a function, or of an object's class with its public settings."""
    if thing is None:
        return None
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    settings = {n: v for n, v in getattr(thing, "__dict__", {}).items() if n[0] != "_"}
    return f"{named.__module__}.{named.__qualname__} {exact_text(settings)}"


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
