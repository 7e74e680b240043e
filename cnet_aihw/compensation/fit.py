"""Fit of a model's correctors on sampled chips, while everything else stays as it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from cnet_aihw.compensation.fit_choice import FitChoice, FitResult
from cnet_aihw.compensation.settings import FitSettings, validate_fit_settings
from cnet_aihw.compensation.wrapping import compensation_parameters, remove_compensation
from cnet_aihw.evaluation.calibration import ChipCalibration
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.torch_device import resolve_device
from cnet_aihw.runtime.typed import checked
from cnet_aihw.tasks import Task
from cnet_aihw.training import Distillation, train
from cnet_aihw.training.run_identity import TrainingData


@checked
def fit_compensation(
    model: nn.Module,
    data: TrainingData,
    settings: FitSettings,
    folder: str | Path,
    *,
    task: Task | None = None,
    calibration: ChipCalibration | None = None,
    device: str | torch.device = "auto",
    progress: bool = True,
) -> FitResult:
    """Fit a model's compensation on sampled chips (CorrectNet, step 2, as we read the paper).

    Only the correctors change: analog weights, biases and BatchNorm stay, bit for bit. It is the
    training loop of :func:`cnet_aihw.training.train`, and survives kills as that does. Ours are
    the start in closed form on several chips, a batch that is divided among chips, and that the
    result is never worse on the validation chips than the start or no correction: then these are
    the result. The paper, as we read it, has none of them (``compensation=paper``).

    Args:
        model: compensated model; the fitted correctors are in it afterwards.
        data: its parts ``train`` and ``val`` and its augmentation.
        settings: settings of the fit.
        folder: where the run is kept.
        task: loss and score; None: classification with the settings' label smoothing.
        calibration: calibration of each validation chip before it is measured: the one that the
            network is going to be used with.
        device: "auto" (CUDA if available), "cpu" or a CUDA device.
        progress: whether to show a progress bar, if stderr is a terminal.

    Returns:
        The result, with the scores of what was kept. A warning is logged where the training ended
        with a larger loss than a constant prediction has.

    Raises:
        CnetError: if the model has nothing to fit, or as :func:`cnet_aihw.training.train`.
    """
    validate_fit_settings(settings)
    settings = replace(settings, freeze_batchnorm=settings.batchnorm == "frozen")
    folder, where = Path(folder), resolve_device(device)
    fitted = {id(p) for p in compensation_parameters(model).values()}
    if not fitted:
        raise CnetError(
            "the model has no compensation to fit; call compensate(model, ...) first.",
            key="model",
            fix="call compensate(model, ...) first",
        )
    objective = _distillation(model, settings, task)
    chosen = FitChoice(model, data, settings, folder, task, calibration, where)
    with _only_trainable(model, fitted), _batchnorm_kept(model):
        chosen.check_earlier(objective)
        chosen.put_start()
        if settings.epochs == 0:
            return chosen.choose(None, objective)
        trained = train(
            model,
            data,
            settings,
            folder,
            task=task,
            calibration=calibration,
            objective=objective,
            device=device,
            progress=progress,
        )
        return chosen.choose(trained, objective)


def _distillation(
    model: nn.Module, settings: FitSettings, task: Task | None
) -> Distillation | None:
    """The loss that also aims at the clean network, without its correctors; None without it."""
    if settings.distillation == 0.0:
        return None
    teacher, share = remove_compensation(deepcopy(model)), settings.distillation
    return Distillation(teacher, share, settings.temperature, task, settings.label_smoothing)


@contextmanager
def _only_trainable(model: nn.Module, chosen: set[int]) -> Iterator[None]:
    """Let only the chosen parameters require a gradient inside the block."""
    before = [(p, p.requires_grad) for p in model.parameters()]
    for parameter, _ in before:
        parameter.requires_grad_(id(parameter) in chosen)
    try:
        yield
    finally:
        for parameter, required in before:
            parameter.requires_grad_(required)


@contextmanager
def _batchnorm_kept(model: nn.Module) -> Iterator[None]:
    """Keep BatchNorm's running statistics, bit for bit, also where it uses those of the batch.

    Its counter of batches stays too, so that what a run saves is what the model has afterwards.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    before = {m: (m.momentum, deepcopy(dict(m.named_buffers()))) for m in norms}

    def uncount(norm: _BatchNorm, *_: object) -> None:
        counted = norm.training and norm.track_running_stats and norm.momentum == 0.0
        if counted and norm.num_batches_tracked is not None:  # momentum: not re-estimating
            norm.num_batches_tracked.sub_(1)

    hooks = [norm.register_forward_hook(uncount) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for norm, (momentum, buffers) in before.items():
            norm.momentum = momentum
            for name, buffer in norm.named_buffers():
                buffer.copy_(buffers[name])
