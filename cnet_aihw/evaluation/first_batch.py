"""The check of a network and its data: the first samples go through before any work."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from aihwkit.nn.modules.container import AnalogWrapper
from aihwkit.optim.context import AnalogContext
from torch import Tensor, nn

from cnet_aihw.evaluation.metrics import evaluation_mode
from cnet_aihw.evaluation.task_trial import failing, try_task
from cnet_aihw.rram import find_analog_layers, named_tiles
from cnet_aihw.rram.called import called_layers
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.inputs import Inputs, call, inputs_on, named_tensors, samples_in
from cnet_aihw.runtime.origin import fault
from cnet_aihw.runtime.parts import Part, TensorPart
from cnet_aihw.runtime.random_state import forked_random_state
from cnet_aihw.runtime.torch_device import device_of
from cnet_aihw.tasks import Task
from cnet_aihw.tasks.base import check_counted, counted

SAMPLES = 2

_OF_CLASSES = ("classification", "segmentation")
"""Tasks whose outputs have an axis of classes."""


def check_first_batch(
    model: nn.Module,
    part: Part,
    task: Task | None = None,
    *,
    samples: int = SAMPLES,
    training: bool = False,
    labelled: bool = True,
    classes: int | None = None,
) -> None:
    """Pass the first samples through a network, and check that it computes what is reported.

    Modes, buffers, ranges of tiles and random states are as before afterwards.

    Args:
        model: the network, analog or digital.
        part: the data.
        task: what outputs and targets have to fit; None: not checked.
        samples: how many samples.
        training: whether to run as the network is, where it is put into training mode, rather than
            in evaluation mode.
        labelled: whether the targets are used, of which then one at least has to count.
        classes: how many classes the data set has; None: unknown.

    Raises:
        CnetError: where the network does not take the data, its outputs or the targets do not fit
            the task, no target counts for it, its loss or score is none, or none of the network's
            analog layers is called.

    Warns:
        UserWarning: for each analog layer that is not called, and for outputs of more classes than
            the data set has.
    """
    inputs, targets = next(iter(part.first(samples).batches(samples)))
    outputs = check_inputs(model, inputs, training=training)
    if task is not None:
        try:
            with failing(task, "check"):
                task.check(outputs, part.y if isinstance(part, TensorPart) else targets)
        except CnetError as error:
            if isinstance(outputs, Tensor):
                raise
            raise _not_a_tensor(outputs, training) from error
        if classes is not None and task.name in _OF_CLASSES and outputs.shape[1] > classes:
            warnings.warn(
                f"the network has {outputs.shape[1]} outputs and the data set {classes} classes, "
                f"so that an answer of {classes} or above is always wrong; unless this is meant, "
                f"give the network {classes} outputs.",
                stacklevel=3,
            )
        if labelled:
            if isinstance(part, TensorPart):
                check_counted(task, counted(task, part.y), len(part))
            with forked_random_state(device_of(model)):
                try_task(task, outputs, targets.to(device_of(model)))


def check_inputs(model: nn.Module, inputs: Inputs, *, training: bool = False) -> Any:
    """Pass inputs through a network as :func:`check_first_batch` does.

    Args:
        model: the network, analog or digital.
        inputs: some samples; moved to the model's device.
        training: as in :func:`check_first_batch`.

    Returns:
        The outputs.
    """
    device = device_of(model)
    _check_tensors(inputs)
    with torch.no_grad(), forked_random_state(device), eager(), called_layers(model) as called:
        try:
            if training:
                with _state_kept(model):
                    outputs = call(model, inputs_on(device, inputs))
            else:
                with evaluation_mode(model):
                    outputs = call(model, inputs_on(device, inputs))
        except CnetError:
            raise
        except Exception as error:
            raise _does_not_take(model, inputs, error, training) from error
    if not training:  # parts of a network may be for training alone, but not the other way round
        _check_called(model, called)
    return outputs


def checked_call(model: nn.Module, inputs: Inputs) -> Any:
    """Call a network on inputs as they are; its errors say that it does not take them.

    Args:
        model: the network, as it stands.
        inputs: some samples, on its device.

    Returns:
        The outputs.

    Raises:
        CnetError: if it cannot compute with them.
    """
    _check_tensors(inputs)
    try:
        return call(model, inputs)
    except CnetError:
        raise
    except Exception as error:
        raise _does_not_take(model, inputs, error, False) from error


def _check_tensors(inputs: Inputs) -> None:
    if not named_tensors(inputs):
        raise CnetError(
            f"the inputs are {type(inputs).__name__} without any tensor; give torch tensors.",
            key="data",
            value=type(inputs).__name__,
            expected="tensors",
        )


def _check_called(model: nn.Module, called: set[str]) -> None:
    layers = find_analog_layers(model)
    missing = [name for name in layers if name not in called]
    if missing and len(missing) == len(layers):
        raise CnetError(
            f"none of the {len(layers)} analog layers of {_class_of(model)} is called by its "
            "forward, so that chips change nothing; it computes with other layers or with copies "
            "of the weights.",
            key="model",
            value=missing,
            expected="a forward that calls the analog layers",
        )
    if missing:
        warnings.warn(
            f"the forward calls {len(layers) - len(missing)} of {len(layers)} analog layers; "
            "unless other samples need them, these do not count, on no chip: "
            f"{', '.join(missing)}.",
            stacklevel=4,
        )


def _does_not_take(model: nn.Module, inputs: Inputs, error: Exception, training: bool) -> CnetError:
    shapes = ", ".join(
        f"{name} {tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
        for name, tensor in named_tensors(inputs).items()
    )
    reason = fault(error, model)
    if training and samples_in(inputs) == 1 and "more than 1 value per channel" in reason:
        fix = "choose a larger batch_size"
        return CnetError(
            f"{_class_of(model)} has BatchNorm, which cannot be trained on batches of one "
            f"sample; {fix}.",
            key="training.batch_size",
            value=1,
            expected="at least 2",
            fix=fix,
        )
    mode = " in training mode" if training else ""
    return CnetError(
        f"{_class_of(model)} does not take the data{mode}: {reason} (inputs: {shapes}).",
        key="data",
        value=shapes,
        expected=f"inputs of {_class_of(model)}",
    )


def _class_of(model: nn.Module) -> str:
    """Return the name of a network's own class, without the wrapper that aihwkit makes of it."""
    kind = type(model)
    return (kind.__bases__[1] if isinstance(model, AnalogWrapper) else kind).__name__


def _not_a_tensor(outputs: Any, training: bool) -> CnetError:
    kind = type(outputs).__name__
    mode = " in training mode" if training else ""
    fix = "let it return the one tensor that counts, or name that one logits"
    return CnetError(
        f"the network's outputs are {kind}{mode}; expected a tensor; {fix}.",
        key="outputs",
        value=kind,
        expected="a tensor",
        fix=fix,
    )


@contextmanager
def _state_kept(model: nn.Module) -> Iterator[None]:
    """Put back what a forward in training mode changes: BatchNorm's statistics, tiles' ranges."""
    of_tiles = (p for _, tile in named_tiles(model) for p in tile.parameters(recurse=False))
    kept = [*model.buffers(), *(p for p in of_tiles if not isinstance(p, AnalogContext))]
    before = [(tensor, tensor.detach().clone()) for tensor in kept]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, content in before:
                tensor.copy_(content)


@contextmanager
def eager() -> Iterator[None]:
    """Run compiled networks as they are written inside the block."""
    dynamo_is_there = "torch._dynamo.eval_frame" in sys.modules  # it takes seconds to import
    with torch.compiler.set_stance("force_eager") if dynamo_is_there else nullcontext():
        yield
