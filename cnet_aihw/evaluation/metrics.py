"""One pass over labelled data: loss and accuracy of a network as it stands."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.torch_device import device_of


class Samples(Protocol):
    """Labelled samples in memory, such as a part of a data set."""

    @property
    def x(self) -> Tensor:
        """Inputs, [N, ...]."""

    @property
    def y(self) -> Tensor:
        """Labels, [N], int64."""


def measure(
    model: nn.Module, data: Samples | tuple[Tensor, Tensor], batch_size: int = 250
) -> tuple[float, float]:
    """Measure cross entropy and accuracy of a classifier as its weights are now.

    It runs in evaluation mode; the model's own mode is put back afterwards. BatchNorm statistics
    stay as they are.

    Args:
        model: gives logits, [N, classes].
        data: inputs [N, ...] and labels [N]; moved to the model's device.
        batch_size: samples a forward pass takes at once.

    Returns:
        Mean cross entropy (natural logarithm) and accuracy in [0, 1].

    Raises:
        CnetError: for empty data, labels outside the network's classes or a batch size below 1.
    """
    x, y = samples_on(device_of(model), data)
    with evaluation_mode(model):
        return pass_over(model, x, y, batch_size)


def accuracy(
    model: nn.Module, data: Samples | tuple[Tensor, Tensor], batch_size: int = 250
) -> float:
    """Measure the accuracy, in [0, 1], as :func:`measure` does."""
    return measure(model, data, batch_size)[1]


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for every module inside the block; each one's own mode afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def check_samples(data: Samples | tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Inputs and labels of data in either form.

    Raises:
        CnetError: when there are no samples or not one label per sample.
    """
    x, y = data if isinstance(data, tuple) else (data.x, data.y)
    if len(x) == 0:
        raise CnetError("The data has no samples; give at least one.")
    if y.shape != x.shape[:1]:
        raise CnetError(
            f"There are {len(x)} samples but labels of shape {tuple(y.shape)}; "
            f"give one class number per sample, shape ({len(x)},)."
        )
    return x, y


def samples_on(
    device: torch.device, data: Samples | tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Inputs and labels on a device; the inputs as :func:`inputs_on` lays them out."""
    x, y = check_samples(data)
    return inputs_on(device, x), y.to(device)


def inputs_on(device: torch.device, x: Tensor) -> Tensor:
    """Inputs on a device, images on a CPU with their channels last in memory.

    Torch's convolutions on a CPU take up to a third less time with that layout.
    """
    x = x.to(device)
    return channels_last(x) if device.type == "cpu" else x


def channels_last(x: Tensor) -> Tensor:
    """Images [N, C, H, W] with their channels last in memory; other inputs as they are."""
    if x.dim() != 4:
        return x
    # A copy into strides of its own: with one channel contiguous() would change nothing.
    return torch.empty_like(x, memory_format=torch.channels_last).copy_(x)


@torch.inference_mode()
def pass_over(model: nn.Module, x: Tensor, y: Tensor, batch_size: int) -> tuple[float, float]:
    """Loss and accuracy over tensors that are on the model's device; one wait for the device."""
    if batch_size < 1:
        raise CnetError(f"batch_size is {batch_size}; give a whole number of at least 1.")
    sums = torch.zeros(2, dtype=torch.float64, device=x.device)  # cross entropy, correct
    checked = False
    for inputs, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
        logits = model(inputs)
        if not checked:
            check_labels(logits, y)
            checked = True
        loss = F.cross_entropy(logits.float(), labels, reduction="none")
        sums[0] += loss.double().sum()
        sums[1] += (logits.argmax(dim=1) == labels).sum()
    loss_sum, correct = sums.tolist()
    return loss_sum / len(x), correct / len(x)


def check_labels(logits: Tensor, labels: Tensor) -> None:
    """Check that a network's outputs are logits, and the labels are among its classes.

    Raises:
        CnetError: if not.
    """
    if logits.dim() != 2:
        raise CnetError(
            f"The network gives outputs of shape {tuple(logits.shape)}; "
            "expected logits of shape (N, classes)."
        )
    low, high = labels.min().item(), labels.max().item()
    if low < 0 or high >= logits.shape[1]:
        raise CnetError(
            f"The labels go from {low} to {high} but the network has {logits.shape[1]} classes; "
            f"give labels 0 to {logits.shape[1] - 1}, or a network with more classes."
        )
