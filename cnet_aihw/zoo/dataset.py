"""Data sets of the zoo: three parts of inputs and targets in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.inputs import select
from cnet_aihw.runtime.parts import TensorPart
from cnet_aihw.runtime.typed import check_type, checked


class ImagePart(TensorPart):
    """Images in memory with a class number each.

    Args:
        x: images [N, C, H, W], float32, normalised.
        y: labels [N], int64, from 0.

    Raises:
        CnetError: if ``x`` and ``y`` differ in length, or ``y`` is not a vector of int64.
    """

    x: Tensor

    def __init__(self, x: Tensor, y: Tensor) -> None:
        check_type("x", x, Tensor)
        check_type("y", y, Tensor)
        if y.ndim != 1 or y.dtype != torch.int64:
            raise CnetError(
                f"the labels of a part are {y.dtype} of shape {tuple(y.shape)}; expected class "
                "numbers, int64 of shape (N,): give y.long().",
                key="y",
                value=(str(y.dtype), tuple(y.shape)),
                expected="int64 (N,)",
            )
        super().__init__(x, y)

    def to(self, device: torch.device | str) -> ImagePart:
        """Return the same part with its tensors on a device."""
        return ImagePart(self.x.to(device), self.y.to(device))


@dataclass(frozen=True, eq=False)
class Dataset:
    """A split data set: ``train`` to fit, ``val`` to choose, ``test`` for results alone."""

    name: str
    """Name, for records and tables."""

    train: TensorPart
    """The training part, in the split's seeded order (the classes evenly mixed)."""

    val: TensorPart
    """The validation part: checkpoint choice and searches look here, never at ``test``."""

    test: TensorPart
    """The test part, in the order of its source; where its classes lie in blocks, mixed."""

    classes: int
    """Number of classes, or of numbers to be found for each sample."""

    input_shape: tuple[int, ...]
    """Shape of one sample: (C, H, W) of images, (T,) of tokens, (k,) of rows of a table."""

    augment: Callable[[Tensor, torch.Generator], Tensor] | None
    """Random change of a training batch [B, ...] -> same shape, or None; see ``train``."""

    fingerprint: str
    """SHA-256 (hex) of the three parts, in order, images before normalisation; it changes with the
    content and with the split, not with ``augment``."""

    mean: tuple[float, ...] = ()
    """Mean of each channel of the training part, which was subtracted (uint8 counts as 0 to 1)."""

    std: tuple[float, ...] = ()
    """Standard deviation of each channel of the training part, by which was divided."""

    class_names: tuple[str, ...] = ()
    """Names of the classes, or empty where the source gives none."""


@checked
def batches(
    part: TensorPart, batch_size: int, generator: torch.Generator | None = None
) -> Iterator[tuple[Any, Tensor]]:
    """Cut a part into batches; the last one may be smaller.

    Args:
        part: the samples to go through, once.
        batch_size: samples in a batch, at least 1.
        generator: shuffles when given (one draw per pass); None keeps the part's order.

    Yields:
        x, such as images [B, C, H, W], and y [B, ...], on the device of the part.

    Raises:
        CnetError: for a ``batch_size`` below 1 (at the call, before the first batch).
    """
    if batch_size < 1:
        raise bad_value("batch_size", batch_size, "a whole number of at least 1")
    order = None
    if generator is not None:
        order = torch.randperm(len(part), generator=generator, device=generator.device)
        order = order.to(part.y.device)
    return _batches(part, batch_size, order)


def _batches(part: TensorPart, size: int, order: Tensor | None) -> Iterator[tuple[Any, Tensor]]:
    for start in range(0, len(part), size):
        rows = slice(start, start + size) if order is None else order[start : start + size]
        yield select(part.x, rows), part.y[rows]
