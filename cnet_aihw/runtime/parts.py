"""Parts of the data: streams of labelled batches with a length and a fingerprint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.fingerprint import tensors_fingerprint

Inputs = Tensor | tuple[Any, ...] | Mapping[str, Any]
"""What a network is called with: a tensor [N, ...], a tuple (``model(*inputs)``) or a mapping
(``model(**inputs)``) of them."""


class Part(Protocol):
    """A part of a data set: re-iterable batches, always the same ones in the same order."""

    def __len__(self) -> int:
        """Return the number of samples."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the content, or of what determines it."""

    def batches(self, batch_size: int) -> Iterator[tuple[Inputs, Tensor]]:
        """Yield inputs and targets in order, wherever they lie (see :func:`to_device`)."""

    def shuffled(
        self, batch_size: int, seed: int, start: int = 0
    ) -> Iterator[tuple[Inputs, Tensor]]:
        """Yield the batches of one epoch in an order that belongs to a seed.

        Args:
            batch_size: samples a batch; the last one may have fewer.
            seed: seed of the order.
            start: number of the first batch that is wanted, for a resumed epoch.
        """

    def first(self, count: int | None) -> Part:
        """Return the part of the first samples; None: all."""


class TensorPart:
    """Samples in memory.

    Args:
        x: inputs: a tensor [N, ...], or a tuple or mapping of them.
        y: targets, [N, ...].

    Raises:
        CnetError: if there are no samples, or not one target per sample.
    """

    def __init__(self, x: Inputs, y: Tensor) -> None:
        self.x, self.y = x, y
        lengths = {name: len(tensor) for name, tensor in named_tensors(x).items()}
        for name, length in lengths.items():
            if length == 0 or length != len(y):
                raise CnetError(
                    f"{name} has {length} samples and there are {len(y)} targets; expected as many "
                    "of both, at least one.",
                    key=name,
                    value=length,
                    expected=len(y),
                )
        self._fingerprint: str | None = None

    def __len__(self) -> int:
        return len(self.y)

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of names, shapes, types and content; computed once."""
        if self._fingerprint is None:
            self._fingerprint = tensors_fingerprint({**named_tensors(self.x), "y": self.y})
        return self._fingerprint

    def batches(self, batch_size: int) -> Iterator[tuple[Inputs, Tensor]]:
        """Yield views of inputs and targets in order."""
        for start in range(0, len(self), batch_size):
            chosen = slice(start, start + batch_size)
            yield select(self.x, chosen), self.y[chosen]

    def shuffled(
        self, batch_size: int, seed: int, start: int = 0
    ) -> Iterator[tuple[Inputs, Tensor]]:
        """Yield copies of inputs and targets in the order of a seed."""
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self), generator=generator).to(self.y.device)
        for begin in range(start * batch_size, len(self), batch_size):
            chosen = order[begin : begin + batch_size]
            yield select(self.x, chosen), self.y[chosen]

    def first(self, count: int | None) -> TensorPart:
        """Return a view of the first samples."""
        return self if count is None else TensorPart(select(self.x, slice(count)), self.y[:count])


def named_tensors(inputs: Inputs) -> dict[str, Tensor]:
    """Return the tensors of inputs by name: ``x``, ``x0`` ... or the mapping's own names."""
    if isinstance(inputs, Tensor):
        return {"x": inputs}
    items = inputs.items() if isinstance(inputs, Mapping) else enumerate(inputs)
    prefix = "" if isinstance(inputs, Mapping) else "x"
    return {f"{prefix}{name}": value for name, value in items if isinstance(value, Tensor)}


def map_tensors(inputs: Any, change: Any) -> Any:
    """Return inputs with every tensor changed, in the same structure."""
    if isinstance(inputs, Tensor):
        return change(inputs)
    if isinstance(inputs, Mapping):
        return {name: map_tensors(value, change) for name, value in inputs.items()}
    if isinstance(inputs, tuple | list):
        return tuple(map_tensors(value, change) for value in inputs)
    return inputs


def select(inputs: Inputs, chosen: Any) -> Inputs:
    """Return the samples chosen by an index or slice along the first axis."""
    selected: Inputs = map_tensors(inputs, lambda tensor: tensor[chosen])
    return selected


def call(model: Any, inputs: Inputs) -> Any:
    """Call a network with inputs: a tensor, a tuple of arguments or a mapping of keywords."""
    if isinstance(inputs, Tensor):
        return model(inputs)
    return model(**inputs) if isinstance(inputs, Mapping) else model(*inputs)
