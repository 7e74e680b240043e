"""The training loop: variation, Lipschitz penalty, validation on chips; it survives kills."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from cnet_aihw.evaluation.metrics import check_labels, check_samples, evaluation_mode, inputs_on
from cnet_aihw.rram import (
    analog_layers,
    clear_chip,
    load_snapshot,
    nominal_weight,
    snapshot,
    trainable_parameters,
)
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.fingerprint import tensors_fingerprint
from cnet_aihw.runtime.locks import alone
from cnet_aihw.runtime.random_state import forked_random_state
from cnet_aihw.runtime.records import read_json, write_json_atomic
from cnet_aihw.runtime.torch_device import device_of, resolve_device
from cnet_aihw.training.checkpoint import load_checkpoint
from cnet_aihw.training.journal import EPOCHS
from cnet_aihw.training.lipschitz import lipschitz_lambda
from cnet_aihw.training.result import TrainingResult
from cnet_aihw.training.run_identity import TrainingData, check_same_run, describe_run
from cnet_aihw.training.settings import TrainingSettings, validate_training_settings
from cnet_aihw.training.trainer import BEST, CHECKPOINT, Run
from cnet_aihw.training.variation import has_analog_layers, injected_time, try_variation

Objective = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A loss in place of the cross entropy: (logits [N, classes], labels [N], inputs) -> scalar."""

_RUN = "run.json"
_RESULT = "result.json"


def train(
    model: nn.Module,
    data: TrainingData,
    settings: TrainingSettings,
    folder: str | Path,
    *,
    device: str | torch.device = "auto",
    progress: bool = True,
    objective: Objective | None = None,
) -> TrainingResult:
    """Train a network; the selected epoch's weights are in it afterwards, in evaluation mode.

    All parameters that require a gradient are trained. A run that was killed goes on when it is
    called again in the same way on the same folder, and on the same kind of device ends as if it
    had not been killed: the same weights, bit for bit. On a folder whose run is complete it only
    loads the result. When it raises, the model holds the weights of the last checkpoint.

    The folder gets ``epochs.jsonl`` (one line per epoch), ``tensorboard``,
    ``checkpoint.safetensors`` (to go on from), ``best.safetensors`` (the selected weights) and, at
    the end, ``result.json``.

    Args:
        model: converted model with nominal weights, or a digital network; gives logits.
        data: its parts ``train`` and ``val`` and its augmentation; the test part is not looked at.
        settings: how to train.
        folder: where the run is kept; made when missing.
        device: "auto" (CUDA when there), or any device of torch; the model stays there.
        progress: whether to show a progress bar, where stderr is a terminal.
        objective: a loss in place of the cross entropy.

    Returns:
        The result.

    Raises:
        CnetError: for impossible settings or data, a programmed model, or a folder that holds
            another run or in which one runs.
        TrainingDiverged: when loss or weights become NaN or infinite; the last good checkpoint is
            kept.
    """
    validate_training_settings(settings)
    folder, where = Path(folder), resolve_device(device)
    analog = has_analog_layers(model)
    _check(model, data, settings, analog)
    _check_classes(model, data)
    identity = describe_run(model, data, settings, where, objective, analog)
    weights = tensors_fingerprint(snapshot(model))
    try_variation(model, settings)
    if folder.is_file():
        raise CnetError(f"folder is {folder}, which is a file; give a folder for the run.")
    begun = (folder / _RUN).exists()
    if begun:
        stored = read_json(folder / _RUN)
        check_same_run(stored["identity"], identity, folder)
        _check_weights(weights, stored["initial_weights"], folder)
        lambda_ = stored["lambda"]
    else:
        _check_empty(folder)
        lambda_ = _lambda(model, settings)
    clear_chip(model)
    model.to(where)
    if (folder / _RESULT).exists():
        load_snapshot(model, load_checkpoint(folder / BEST).model)
        model.eval()
        return TrainingResult.from_record(read_json(folder / _RESULT), folder)
    with forked_random_state(where):
        run = Run(model, data, settings, folder, where, analog, lambda_, objective)
        with alone(folder, "training", "a training"):
            if not begun:
                described = {"identity": identity, "initial_weights": weights, "lambda": lambda_}
                write_json_atomic(folder / _RUN, described)
            if (folder / CHECKPOINT).exists():
                run.resume()
            else:
                run.start()
            result = run.finish(progress)
    write_json_atomic(folder / _RESULT, result.as_record())
    return result


def _check(model: nn.Module, data: TrainingData, settings: TrainingSettings, analog: bool) -> None:
    """Whether this model and these data can be trained like this at all."""
    for part in (data.train, data.val):
        check_samples((part.x, part.y))
    if len(data.train.x) < 2:
        raise CnetError("The training part has a single sample; give at least two.")
    if not trainable_parameters(model):
        raise CnetError(
            "No parameter of the model requires a gradient, so that there is nothing to train; "
            "unfreeze something, for example with unfreeze_analog(model)."
        )
    wants = [
        name
        for name, enabled in (
            ("variation", settings.variation.enabled),
            ("lipschitz", settings.lipschitz.enabled),
        )
        if enabled
    ]
    if wants and not analog:
        raise CnetError(
            f"training.{wants[0]}.enabled is true but the model has no analog layer; "
            "convert it with convert_to_analog first, or switch that off."
        )
    for layer in analog_layers(model).values() if analog else ():
        nominal_weight(layer)  # says to convert with an RRAMRPUConfig, where it is another's layer


def _check_classes(model: nn.Module, data: TrainingData) -> None:
    """Whether the labels are among the network's classes, before anything is written."""
    device = device_of(model)
    with torch.no_grad(), forked_random_state(device), evaluation_mode(model):
        logits = model(inputs_on(device, data.train.x[:2]))
        for part in (data.train, data.val):
            check_labels(logits, part.y)


def _lambda(model: nn.Module, settings: TrainingSettings) -> float | None:
    """The singular value that the penalty pulls to; from the noise model of the chips."""
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
    noise_model = next(iter(tiles.values())).rpu_config.noise_model
    weights = {name: tile.tile.weight.detach() for name, tile in tiles.items()}
    time = injected_time(model)
    return lipschitz_lambda(noise_model, lipschitz.k, weights, t_inference=time)


def _check_empty(folder: Path) -> None:
    """A folder without a run may hold other things, but nothing that this run would replace."""
    for name in (CHECKPOINT, BEST, EPOCHS):
        if (folder / name).exists():
            raise CnetError(
                f"{folder / name} is there without {_RUN}, so that it is not known what it is; "
                "give another folder, or delete that file."
            )


def _check_weights(weights: str, initial: str, folder: Path) -> None:
    """The weights must be those the run began with, or its own as it left them in the model."""
    if weights == initial:
        return
    for name in (CHECKPOINT, BEST):
        path = folder / name
        if path.exists() and tensors_fingerprint(load_checkpoint(path).model) == weights:
            return
    raise CnetError(
        f"{folder} holds a run that began with other weights; build the network with the same seed "
        "as then, or give another folder."
    )
