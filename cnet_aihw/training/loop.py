"""The training loop: variation, Lipschitz penalty, validation on chips; it survives kills."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnet_aihw.evaluation.calibration import ChipCalibration
from cnet_aihw.evaluation.first_batch import check_first_batch
from cnet_aihw.rram import (
    analog_layers,
    binary_weights,
    clear_chip,
    has_cells,
    load_snapshot,
    noise_model_id,
    snapshot,
    trainable_parameters,
    without_wrappers,
)
from cnet_aihw.rram.training_variation import check_rram_layers
from cnet_aihw.runtime.determinism import deterministic
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.fingerprint import tensors_fingerprint
from cnet_aihw.runtime.locks import alone
from cnet_aihw.runtime.parts import Part, as_part
from cnet_aihw.runtime.random_state import forked_random_state
from cnet_aihw.runtime.records import read_json, write_json_atomic
from cnet_aihw.runtime.torch_device import has_bf16, moved_to, resolve_device
from cnet_aihw.runtime.typed import checked
from cnet_aihw.tasks import Task, smoothed
from cnet_aihw.training.begun import FORMAT, RESULT, RUN, known_run
from cnet_aihw.training.checkpoint import all_finite, load_checkpoint
from cnet_aihw.training.journal import EPOCHS
from cnet_aihw.training.lambda_of_noise import lipschitz_lambda
from cnet_aihw.training.processes import check_processes, training_group
from cnet_aihw.training.run_identity import (
    Objective,
    TrainingData,
    absent_settings,
    run_provenance,
)
from cnet_aihw.training.settings import TrainingSettings, validate_training_settings
from cnet_aihw.training.state import TrainingResult
from cnet_aihw.training.step import training_mode
from cnet_aihw.training.trainer import BEST, CHECKPOINT, Trainer
from cnet_aihw.training.variation import (
    has_analog_layers,
    injected_time,
    training_variation,
    try_variation,
)


@checked
def train(
    model: nn.Module,
    data: TrainingData,
    settings: TrainingSettings,
    folder: str | Path,
    *,
    task: Task | None = None,
    calibration: ChipCalibration | None = None,
    objective: Objective | None = None,
    device: str | torch.device = "auto",
    progress: bool = True,
    processes: int = 1,
) -> TrainingResult:
    """Train a network; the selected epoch's weights are in it afterwards, in evaluation mode.

    All parameters that require a gradient are trained. A run that was killed resumes when it is
    called again in the same way on the same folder. On a CPU it then ends with the same weights,
    bit for bit, as if it had not been killed; so it does on the same kind of CUDA device as far as
    torch has deterministic kernels for all operations (see
    :func:`~cnet_aihw.runtime.determinism.deterministic`). On a folder whose run is complete it only
    loads the result. When it raises, the model holds the weights of the last checkpoint. The model
    is moved to the device for the run, and is back where it was afterwards; a chip that was
    programmed is forgotten.

    The folder gets ``run.json`` (what the run is made from), ``epochs.jsonl`` (one line per epoch),
    ``tensorboard``, ``checkpoint.safetensors`` (to resume from), ``best.safetensors`` (the selected
    weights) and, at the end, ``result.json``.

    Args:
        model: converted model, or a digital network.
        data: its parts ``train`` and ``val`` and its augmentation (see ``run_identity.Augment``);
            the test part is not looked at. :class:`TrainingParts` makes one of tensors or loaders.
        settings: how to train.
        folder: where the run is kept; made when missing.
        task: loss and score; None: classification with the settings' label smoothing.
        calibration: what is calibrated on each validation chip before it is measured: the one that
            the network is going to be used with.
        objective: a loss in place of the task's.
        device: "auto" (CUDA where available), "cpu" or a CUDA device.
        progress: whether to show a progress bar, where stderr is a terminal.
        processes: how many processes compute the gradient of each step, on CUDA one for each GPU.
            The result is that of one to rounding, without BatchNorm in training mode, which sees
            the samples of its own process alone, without dropout, and where each step has one chip.
            A run resumes with as many as it began with.

    Returns:
        The result.

    Raises:
        CnetError: for impossible settings or data, or a folder that holds another run or in which
            one runs.
        TrainingDiverged: when loss or weights become NaN or infinite; the last good checkpoint is
            kept.
    """
    validate_training_settings(settings)
    task = smoothed(task, settings.label_smoothing)
    folder, where = Path(folder), resolve_device(device)
    check_processes(processes, where)
    if settings.bf16 and not has_bf16(where):
        warnings.warn(
            f"training.bf16 is true, but this {'GPU' if where.type == 'cuda' else 'processor'} has "
            "no instructions for bfloat16: steps can take many times as long as with false.",
            stacklevel=3,
        )
    analog = has_analog_layers(model)
    parts = {"train": as_part(data.train), "val": as_part(data.val)}
    _check(model, parts, settings, analog)
    clear_chip(model)
    _check_task(model, parts, settings, task, getattr(data, "classes", None))
    provenance = run_provenance(
        model,
        data,
        parts,
        settings,
        task=task,
        calibration=calibration,
        objective=objective,
        device=where,
        analog=analog,
        processes=processes,
    )
    weights = tensors_fingerprint(snapshot(model))
    try_variation(model, settings)
    if folder.is_file():
        raise bad_value("folder", str(folder), "a folder for the run; there is a file")
    begun = (folder / RUN).exists()
    if begun:
        lambda_ = known_run(folder, provenance, weights, absent_settings(settings))
    else:
        _check_empty(folder)
        lambda_ = _lambda(model, settings)
    if (folder / RESULT).exists():
        load_snapshot(model, load_checkpoint(folder / BEST).model)
        model.eval()
        return TrainingResult.from_record(read_json(folder / RESULT), folder)
    others: dict[str, Any] = {
        **{"parts": parts, "settings": settings, "folder": folder, "task": task},
        **{"augment": data.augment, "calibration": calibration, "objective": objective},
        **{"device": where, "analog": analog, "lambda_": lambda_},
    }
    with (
        moved_to(model, where),
        forked_random_state(where),
        deterministic(where),
        training_group(processes, where, model, others) as group,
    ):
        trainer = Trainer(model, **others, group=group)
        with alone(folder, "training", "a training"):
            if not begun:
                described = {
                    "format": FORMAT,
                    "provenance": provenance,
                    "initial_weights": weights,
                    "lambda": lambda_,
                }
                write_json_atomic(folder / RUN, described)
            if (folder / CHECKPOINT).exists():
                trainer.resume()
            else:
                trainer.start()
            result = trainer.finish(progress)
    write_json_atomic(folder / RESULT, result.as_record())
    return result


def _check(
    model: nn.Module, parts: dict[str, Part], settings: TrainingSettings, analog: bool
) -> None:
    """Check that this model and these data can be trained like this at all."""
    if len(parts["train"]) < 2:
        raise bad_value("data.train", len(parts["train"]), "at least two samples")
    if not trainable_parameters(model):
        raise CnetError(
            "no parameter of the model requires a gradient, so that there is nothing to train; "
            "unfreeze something, for example with unfreeze_analog(model).",
            key="model",
            expected="a parameter that requires a gradient",
            fix="unfreeze something, for example with unfreeze_analog(model)",
        )
    for name, enabled in (
        ("variation", settings.variation.enabled),
        ("lipschitz", settings.lipschitz.enabled),
    ):
        if enabled and not analog:
            raise CnetError(
                f"training.{name}.enabled is true but the model has no analog layer; "
                "convert it with convert_to_analog first, or switch that off.",
                key=f"training.{name}.enabled",
                value=True,
                expected="a model with analog layers",
                fix="convert it with convert_to_analog first, or switch that off",
            )
    if settings.optimizer == "bayes_binary":
        if not analog:
            expected = "a network on stochastic cells, with the optimizer bayes_binary"
            raise bad_value("model", type(model).__name__, expected)
        binary_weights(model)
    elif analog and has_cells(model):
        fix = "choose training=bayes_binary"
        expected = "bayes_binary, as the network is on stochastic cells"
        raise bad_value("training.optimizer", settings.optimizer, expected, fix)
    if analog:
        check_rram_layers(model)


def _check_task(
    model: nn.Module,
    parts: dict[str, Part],
    settings: TrainingSettings,
    task: Task,
    classes: int | None,
) -> None:
    """Check that outputs and targets fit the task, in both modes, before anything is written."""
    buffers = {without_wrappers(model, name) for name, _ in model.named_buffers()}
    for name, tensor in snapshot(model).items():
        if name not in buffers and not all_finite({name: tensor}):
            fix = "give the network finite weights"
            raise CnetError(
                f"{name} is not finite before the training; {fix}.",
                key=name,
                expected="finite numbers",
                fix=fix,
            )
    for part in parts.values():
        check_first_batch(model, part, task, classes=classes)
    samples = min(2, settings.batch_size, len(parts["train"]))
    still = replace(settings, variation=replace(settings.variation, enabled=False))
    with training_mode(model, settings), training_variation(model, still):
        check_first_batch(model, parts["train"], task, samples=samples, training=True)


def _lambda(model: nn.Module, settings: TrainingSettings) -> float | None:
    """Return the singular value that the penalty pulls to; from the noise model of the chips."""
    lipschitz = settings.lipschitz
    if not lipschitz.enabled:
        return None
    if lipschitz.lambda_ is not None:
        return lipschitz.lambda_
    tiles = {
        f"{name}/{number}": tile
        for name, layer in analog_layers(model).items()
        for number, tile in enumerate(layer.analog_tiles())
    }
    noise_models = {
        noise_model_id(n): n for n in (t.rpu_config.noise_model for t in tiles.values())
    }
    if len(noise_models) > 1:
        expected = "a number, as layers have noise models of their own"
        raise bad_value("training.lipschitz.lambda_", None, expected)
    (noise_model,) = noise_models.values()
    weights = {name: tile.tile.crossbar_weight().detach() for name, tile in tiles.items()}
    scales = {n: tile.tile.scales for n, tile in tiles.items() if tile.tile.scales is not None}
    time = injected_time(model)
    return lipschitz_lambda(noise_model, lipschitz.k, weights, t_inference=time, scales=scales)


def _check_empty(folder: Path) -> None:
    """Check that a folder without a run holds nothing that this run would replace."""
    for name in (CHECKPOINT, BEST, EPOCHS):
        if (folder / name).exists():
            raise CnetError(
                f"{folder / name} is there without {RUN}, so that it is not known what it is; "
                "give another folder, or delete that file.",
                key="folder",
                value=name,
                expected="a folder without files of a run",
                fix="give another folder, or delete that file",
            )
