"""Runs that were begun in a folder: whether they are those asked for now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnet_aihw.evaluation.calibration import ChipCalibration
from cnet_aihw.rram import snapshot
from cnet_aihw.runtime.epochs import read_epochs
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.fingerprint import tensors_fingerprint
from cnet_aihw.runtime.parts import as_part
from cnet_aihw.runtime.provenance import check_provenance
from cnet_aihw.runtime.records import read_json
from cnet_aihw.runtime.torch_device import resolve_device
from cnet_aihw.tasks import Task, smoothed
from cnet_aihw.training.checkpoint import check_kept, load_checkpoint
from cnet_aihw.training.journal import EPOCHS
from cnet_aihw.training.run_identity import (
    Objective,
    TrainingData,
    absent_settings,
    run_provenance,
)
from cnet_aihw.training.settings import TrainingSettings
from cnet_aihw.training.state import TrainingResult
from cnet_aihw.training.trainer import BEST, CHECKPOINT
from cnet_aihw.training.variation import has_analog_layers

FORMAT = 2
"""Format of run.json."""

RUN = "run.json"
"""The file that says what a run is made from."""

RESULT = "result.json"
"""The file that a finished run ends with."""

_ANOTHER = "give another folder"


def check_begun(
    model: nn.Module,
    data: TrainingData,
    settings: TrainingSettings,
    folder: Path,
    *,
    task: Task,
    calibration: ChipCalibration | None,
    device: str | torch.device,
    processes: int,
    objective: Objective | None = None,
    initial: bool = True,
) -> None:
    """Check that the run in a folder, if any, is the one that is asked for now.

    Args:
        model: as for :func:`~cnet_aihw.training.train`, and so are the others.
        data: its parts.
        settings: how to train.
        folder: where the run is kept.
        task: loss and score.
        calibration: calibration of the validation chips.
        device: device of the run.
        processes: number of its processes.
        objective: a loss in place of the task's.
        initial: whether the model has the weights that the run begins with.

    Raises:
        CnetError: names the first value that differs.
    """
    if not (folder / RUN).exists():
        return
    provenance = run_provenance(
        *(model, data, {"train": as_part(data.train), "val": as_part(data.val)}, settings),
        task=smoothed(task, settings.label_smoothing),
        calibration=calibration,
        objective=objective,
        device=resolve_device(device),
        analog=has_analog_layers(model),
        processes=processes,
    )
    weights = tensors_fingerprint(snapshot(model)) if initial else None
    known_run(folder, provenance, weights, absent_settings(settings))


def known_run(
    folder: Path, provenance: dict[str, Any], weights: str | None, absent: dict[str, Any]
) -> float | None:
    """Check that a folder's run is this one, and that it is whole; return its lambda."""
    stored = read_json(folder / RUN)
    if stored.get("format") != FORMAT:
        raise CnetError(
            f"{folder} holds a run of another version of cnet_aihw; {_ANOTHER}.",
            key="format",
            value=stored.get("format", 1),
            expected=FORMAT,
            fix=_ANOTHER,
        )
    check_provenance(stored["provenance"], provenance, folder, _ANOTHER, absent)
    if weights is not None:
        _check_weights(weights, stored["initial_weights"], folder)
    _check_whole(folder, provenance["training"]["select"])
    lambda_: float | None = stored["lambda"]
    return lambda_


def _check_whole(folder: Path, select: str) -> None:
    """Check that the files are there that a run needs to end, and that no epoch is missing."""
    if (folder / RESULT).exists():
        check_kept(folder / BEST, "the selected weights")
        result = TrainingResult.from_record(read_json(folder / RESULT), folder)
        read_epochs(folder / EPOCHS, result.epochs)
    elif (folder / CHECKPOINT).exists():
        state = load_checkpoint(folder / CHECKPOINT).meta["state"]
        if state["best"] is not None and select != "last":
            check_kept(folder / BEST, "the best weights so far")
        read_epochs(folder / EPOCHS, state["epoch"])


def _check_weights(weights: str, initial: str, folder: Path) -> None:
    """Check that the weights are those the run began with, or its own as it left them."""
    if weights == initial:
        return
    for name in (CHECKPOINT, BEST):
        path = folder / name
        if path.exists() and tensors_fingerprint(load_checkpoint(path).model) == weights:
            return
    raise CnetError(
        f"{folder} holds a run that began with other weights; build the network with the same seed "
        "as then, or give another folder.",
        key="initial_weights",
        value=weights,
        expected=initial,
        fix="build the network with the same seed as then, or give another folder",
    )
