"""What every data set of the zoo is: three parts of images and labels on tensors in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from cnet_aihw.runtime.errors import CnetError


@dataclass(frozen=True, eq=False)
class Part:
    """Images with their labels.

    Raises:
        CnetError: ``x`` and ``y`` differ in length, or ``y`` is not a vector of int64.
    """

    x: Tensor
    """Images [N, C, H, W], float32, normalised."""

    y: Tensor
    """Labels [N], int64, from 0."""

    def __post_init__(self) -> None:
        if self.y.ndim != 1 or self.y.dtype != torch.int64:
            raise CnetError(
                f"The labels of a part are a vector of int64, not {self.y.dtype} of shape "
                f"{tuple(self.y.shape)}: give y as class numbers, y.long()."
            )
        if len(self.x) != len(self.y):
            raise CnetError(
                f"A part holds {len(self.x)} images but {len(self.y)} labels: give one label "
                "for each image."
            )

    def __len__(self) -> int:
        return len(self.y)

    def to(self, device: torch.device | str) -> Part:
        """The same part with its tensors on ``device``."""
        return Part(self.x.to(device), self.y.to(device))


@dataclass(frozen=True, eq=False)
class Dataset:
    """A split data set: ``train`` to fit, ``val`` to choose, ``test`` for results alone."""

    name: str
    """Name, for records and tables."""

    train: Part
    """The training part, in the split's seeded order (the classes evenly mixed)."""

    val: Part
    """The validation part: checkpoint choice and searches look here, never at ``test``."""

    test: Part
    """The test part, in the order of its source."""

    classes: int
    """Number of classes."""

    input_shape: tuple[int, ...]
    """Shape of one image, (C, H, W)."""

    augment: Callable[[Tensor, torch.Generator], Tensor] | None
    """Random change of a training batch [B, C, H, W] -> same shape, or None."""

    fingerprint: str
    """SHA-256 (hex) of the pixels and labels of the three parts before normalisation, in order;
    it changes with the content and with the split, not with ``augment``."""

    mean: tuple[float, ...] = ()
    """Mean of each channel of the training part, which was subtracted (uint8 counts as 0 to 1)."""

    std: tuple[float, ...] = ()
    """Standard deviation of each channel of the training part, by which was divided."""

    class_names: tuple[str, ...] = ()
    """Names of the classes, or empty where the source gives none."""


def batches(
    part: Part, batch_size: int, generator: torch.Generator | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Cut a part into batches; the last one may be smaller.

    Args:
        part: what to go through, once.
        batch_size: images in a batch, at least 1.
        generator: shuffles when given (one draw per pass); None keeps the part's order.

    Yields:
        x [B, C, H, W] and y [B], on the device of the part.

    Raises:
        CnetError: ``batch_size`` below 1 (at the call, before the first batch).
    """
    if batch_size < 1:
        raise CnetError(
            f"batch_size={batch_size} is below 1: give the number of images a batch.",
            key="batch_size",
            value=batch_size,
            expected="the number of images a batch",
        )
    order = None
    if generator is not None:
        order = torch.randperm(len(part), generator=generator, device=generator.device)
        order = order.to(part.x.device)
    return _batches(part, batch_size, order)


def _batches(part: Part, size: int, order: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(part), size):
        rows = slice(start, start + size) if order is None else order[start : start + size]
        yield part.x[rows], part.y[rows]
