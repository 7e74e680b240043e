"""Parts on a device: as a whole where they fit, or batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch

from cnet_aihw.runtime.inputs import Batch, inputs_on, is_laid_out, named_tensors, wants_layout
from cnet_aihw.runtime.memory import free_bytes
from cnet_aihw.runtime.parts import Part, TensorPart, gathered

RESIDENT_SHARE = 0.5
"""Share of a device's free memory that a part may take there as a whole."""


def placed(
    part: Part,
    device: torch.device,
    *,
    images_last: bool = True,
    resident: bool | Literal["auto"] = "auto",
) -> Part:
    """Return a part whose batches come on a device.

    Args:
        part: any part.
        device: where its batches are wanted.
        images_last: whether images [N, C, H, W] lie with their channels last in memory on a CPU.
        resident: whether the device holds all of it at once: True, False (batch by batch), or
            "auto": a part in memory where it fits into half of the device's free memory.
    """
    if isinstance(part, PlacedPart) and part.device == device:
        return part
    if isinstance(part, TensorPart):
        tensors = [*named_tensors(part.x).values(), part.y]
        there = all(tensor.device == device for tensor in tensors)
        if there and (not wants_layout(device, images_last) or all(map(is_laid_out, tensors))):
            return part
        if resident == "auto":
            resident = sum(t.nbytes for t in tensors) <= RESIDENT_SHARE * free_bytes(device)
    if resident is not True:
        return PlacedPart(part, device, images_last)
    held = gathered(part)
    return TensorPart(inputs_on(device, held.x, images_last), held.y.to(device))


class PlacedPart:
    """A part whose batches come on a device, each moved when it is needed.

    Args:
        part: the part, wherever it lies.
        device: where its batches are wanted.
        images_last: as in :func:`inputs_on`.
    """

    def __init__(self, part: Part, device: torch.device, images_last: bool) -> None:
        self.part, self.device, self.images_last = part, device, images_last

    def __len__(self) -> int:
        return len(self.part)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the part, wherever it lies."""
        return self.part.fingerprint

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """Yield the part's batches on the device."""
        return map(self._moved, self.part.batches(batch_size))

    def shuffled(self, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Yield the part's shuffled batches on the device."""
        return map(self._moved, self.part.shuffled(batch_size, seed, start))

    def first(self, count: int | None) -> Part:
        """Return the first samples, placed in the same way."""
        return PlacedPart(self.part.first(count), self.device, self.images_last)

    def _moved(self, batch: Batch) -> Batch:
        inputs, targets = batch
        return inputs_on(self.device, inputs, self.images_last), targets.to(self.device)
