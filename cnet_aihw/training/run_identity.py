"""Provenance of a run: refuse to resume with other settings, data or network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cnet_aihw.evaluation.calibration import ChipCalibration
from cnet_aihw.evaluation.chip_identity import (
    describe_network,
    describe_noise_models,
    describe_periphery,
)
from cnet_aihw.rram import analog_layers, noise_model_id, trainable_parameters
from cnet_aihw.runtime.determinism import uses_tf32
from cnet_aihw.runtime.fingerprint import object_text, tensors_fingerprint, text_fingerprint
from cnet_aihw.runtime.inputs import named_tensors
from cnet_aihw.runtime.parts import Part, as_part, gathered
from cnet_aihw.runtime.provenance import provenance_key
from cnet_aihw.tasks import Task, describe_task
from cnet_aihw.training.settings import TrainingSettings
from cnet_aihw.training.variation import changes_after_steps

Augment = Callable[[Any, torch.Generator], Any]
"""Random change of a batch: (inputs, generator) -> inputs of the same structure.

The inputs are on the run's device, the generator is on the CPU, so that the same changes are drawn
on every device: draw with ``device=generator.device`` and move the draws to the inputs' device. The
generator's seed belongs to the run, the epoch and the step; nothing else may be drawn from."""

Objective = Callable[[Any, Tensor, Any], Tensor]
"""A loss in place of the task's: (outputs, targets, inputs) -> scalar."""

_SAMPLE = 16  # inputs that stand for the normalisation, which a data set's fingerprint leaves out


class TrainingData(Protocol):
    """The two parts that training takes of a data set; the test part is not among them.

    Each part is anything that :func:`~cnet_aihw.runtime.parts.as_part` takes.
    """

    @property
    def train(self) -> Any:
        """The samples trained on."""

    @property
    def val(self) -> Any:
        """The samples that choose epochs and stop the run."""

    @property
    def augment(self) -> Augment | None:
        """Random change of training batches, or None."""

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the content and the split."""


@dataclass(frozen=True, eq=False)
class TrainingParts:
    """Two parts to train on, from tensors or loaders."""

    train: Any
    """The samples trained on: a part, a tuple of tensors, or a DataLoader."""

    val: Any
    """The samples that choose epochs and stop the run."""

    augment: Augment | None = None
    """Random change of training batches, or None."""

    def __post_init__(self) -> None:
        """Make parts of the data."""
        object.__setattr__(self, "train", as_part(self.train))
        object.__setattr__(self, "val", as_part(self.val))

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the fingerprints of both parts."""
        return provenance_key({"train": self.train.fingerprint, "val": self.val.fingerprint})


def describe_settings(settings: TrainingSettings) -> dict[str, Any]:
    """Return all settings that determine the course of a run or a fit, as plain values."""
    described = asdict(settings)
    del described["checkpoint_seconds"]
    if described.get("optimizer") != "bayes_binary":
        described.pop("bayes", None)  # it decides nothing
    noise = settings.variation.noise_model
    described["variation"]["noise_model"] = None if noise is None else noise_model_id(noise)
    return described


def absent_settings(settings: TrainingSettings) -> dict[str, Any]:
    """Return the values of settings that the provenance of an earlier version may lack."""
    return {"training": describe_settings(type(settings)())}


def run_provenance(
    model: nn.Module,
    data: TrainingData,
    parts: dict[str, Part],
    settings: TrainingSettings,
    *,
    task: Task,
    calibration: ChipCalibration | None,
    objective: object,
    device: torch.device,
    analog: bool,
    processes: int = 1,
) -> dict[str, Any]:
    """Return what determines the course of a run but the initial weights, as plain values.

    Each of several processes draws and normalises for its own share of a batch, and their sums
    round otherwise: so their number counts.
    """
    samples = {
        f"{name}.{key}": tensor
        for name, part in parts.items()
        for some in (gathered(part.first(_SAMPLE)),)
        for key, tensor in {**named_tensors(some.x), "y": some.y}.items()
    }
    trained = {id(parameter) for parameter in trainable_parameters(model)}
    names = [name for name, parameter in model.named_parameters() if id(parameter) in trained]
    hardware = [*describe_noise_models(model, None), *describe_periphery(model)] if analog else []
    return {
        "training": describe_settings(settings),
        "task": describe_task(task),
        "calibration": None if calibration is None else calibration.fingerprint(),
        "data": {
            "fingerprint": data.fingerprint,
            "normalization": tensors_fingerprint(samples),
            "samples": [len(part) for part in parts.values()],
            "augment": object_text(data.augment),
        },
        "model": {
            "network": text_fingerprint(describe_network(model)),
            "trained_parameters": names,
            "hardware": text_fingerprint(hardware),
            "injected": text_fingerprint(_describe_injected(model) if analog else []),
        },
        "objective": object_text(objective),
        "device": device.type,
        "tf32": uses_tf32(device),
        # one: as in runs from before there was the key
        **({} if processes == 1 else {"processes": processes}),
    }


def _describe_injected(model: nn.Module) -> list[str]:
    """Return a line for each tile: what forwards in training do beside the noise model."""
    return [
        f"{name} {config.modifier} {getattr(config, 'pre_post', None)} "
        f"{getattr(getattr(config, 'variation', None), 't_inference', None)}"
        # nothing where none is asked for: as in runs from before there was the text
        f"{f' {config.clip} {config.remap}' if changes_after_steps(config) else ''}"
        for name, layer in analog_layers(model).items()
        for config in (tile.rpu_config for tile in layer.analog_tiles())
    ]
