"""A fit of a stated number of steps on a fixed choice of training samples."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnet_aihw.compensation import (
    FitSettings,
    fit_compensation,
    placement_of,
    validate_fit_settings,
)
from cnet_aihw.evaluation.chip_identity import describe_network
from cnet_aihw.rram import (
    VariationParameter,
    analog_layers,
    clear_chip,
    snapshot,
    unprinted_attributes,
)
from cnet_aihw.runtime.determinism import uses_tf32
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.fingerprint import tensors_fingerprint, text_fingerprint
from cnet_aihw.runtime.inputs import joined, map_tensors, named_tensors, select
from cnet_aihw.runtime.parts import TensorPart, as_part, gathered
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.runtime.torch_device import resolve_device
from cnet_aihw.runtime.values import check_count
from cnet_aihw.search.evaluators.chips import torch_threads
from cnet_aihw.tasks import Task, describe_task, smoothed
from cnet_aihw.training import TrainingParts, TrainingResult
from cnet_aihw.training.run_identity import TrainingData, describe_settings

_AUGMENTED = 16  # samples whose augmentation stands for all


class ShortFit:
    """Fits compensation with a stated number of optimizer steps, always on the same samples.

    The samples are a seeded choice of as many as the steps take, each once, kept in memory. If that
    is more than the training part has, there are several passes over a choice, and the number of
    steps is rounded up to whole passes of equal length. The last step's compensation is the result.

    Args:
        data: its parts ``train`` and ``val`` and its augmentation.
        settings: settings of the fit; epochs, selection and validation do not count.
        steps: optimizer steps.
        task: loss; None: classification with the settings' label smoothing.
        device: "auto", "cpu" or a CUDA device; the same type in all processes.
        threads: threads that torch computes with.

    Raises:
        CnetError: for an impossible value.
    """

    def __init__(
        self,
        data: TrainingData,
        settings: FitSettings,
        steps: int,
        task: Task | None,
        device: str | torch.device,
        threads: int,
    ) -> None:
        check_count("steps", steps)
        validate_fit_settings(settings)
        part, size = as_part(data.train), settings.batch_size
        a_pass = max(1, len(part) // size)
        passes = math.ceil(steps / a_pass)
        length = math.ceil(steps / passes)
        self.steps = passes * length
        self.settings = replace(
            settings, epochs=passes, select="last", patience=None,
            validation_chips=0, validate_every=passes,
        )  # fmt: skip
        shuffled = part.shuffled(size, derive_seed(settings.seed, "samples"))
        batches = list(islice(shuffled, length))
        x = map_tensors(joined([inputs for inputs, _ in batches]), lambda tensor: tensor.cpu())
        self.train = TensorPart(x, torch.cat([targets for _, targets in batches]).cpu())
        validation = gathered(as_part(data.val).first(1))  # such a fit chooses nothing
        self.data = TrainingParts(self.train, validation, data.augment)
        self.task, self.threads = task, threads
        self.device = str(resolve_device(device))

    def describe(self, model: nn.Module) -> dict[str, Any]:
        """Return all that determines a fit of the network without compensation, as plain values."""
        settings, device = describe_settings(self.settings), torch.device(self.device)
        for name in ("name", "epochs", "validate_every"):
            del settings[name]
        return {
            "weights": tensors_fingerprint(snapshot(model)),
            "network": text_fingerprint(describe_network(model)),
            "hardware": text_fingerprint(_describe_training_hardware(model)),
            "task": describe_task(smoothed(self.task, self.settings.label_smoothing)),
            "data": self.train.fingerprint,
            "samples": len(self.train),
            "augment": self._augmented(),
            "steps": self.steps,
            "settings": settings,
            "device": device.type,
            "tf32": uses_tf32(device),
            "threads": self.threads,
        }

    def run(self, model: nn.Module, folder: str | Path, progress: bool = False) -> TrainingResult:
        """Fit a compensated model in a folder; a fit that was killed there resumes."""
        with torch_threads(self.threads):
            return fit_compensation(
                model,
                self.data,
                self.settings,
                folder,
                task=self.task,
                device=self.device,
                progress=progress,
            )

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the number of a GPU, which belongs to this process."""
        return {**self.__dict__, "device": torch.device(self.device).type}

    def _augmented(self) -> str | None:
        """Fingerprint of a few augmented samples."""
        if self.data.augment is None:
            return None
        some = select(self.train.x, slice(_AUGMENTED))
        augmented = self.data.augment(some, torch.Generator().manual_seed(0))
        return tensors_fingerprint(named_tensors(augmented))


def bare(model: nn.Module) -> nn.Module:
    """Copy a network to the CPU, in evaluation mode.

    Raises:
        CnetError: if it is not analog, or is compensated.
    """
    analog_layers(model)  # says to convert first, if none is
    if placement_of(model):
        raise CnetError(
            "the model is compensated already; an evaluator compensates it itself, so call "
            "remove_compensation(model) first.",
            key="model",
            fix="call remove_compensation(model) first",
        )
    copied = deepcopy(model)
    clear_chip(copied)
    return copied.cpu().eval()


def _describe_training_hardware(model: nn.Module) -> list[str]:
    """One line per tile: its configuration, with only the time of what training injects."""
    lines = []
    for name, layer in analog_layers(model).items():
        for tile in layer.analog_tiles():
            config = tile.rpu_config
            time = VariationParameter(t_inference=config.variation.t_inference)
            more = unprinted_attributes(config.noise_model)
            lines.append(f"{name} {replace(config, variation=time)}{more}")
    return lines
