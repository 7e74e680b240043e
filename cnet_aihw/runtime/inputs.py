"""Inputs of networks in any structure: tensors, tuples and mappings of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

Inputs = Tensor | tuple[Any, ...] | Mapping[str, Any]
"""Inputs that a network is called with: a tensor [N, ...], a tuple (``model(*inputs)``) or a
mapping (``model(**inputs)``) of them."""

Batch = tuple[Inputs, Tensor]
"""Inputs and targets of some samples."""


def inputs_on(device: torch.device, inputs: Any, images_last: bool = True) -> Any:
    """Return inputs on a device, images on a CPU with their channels last in memory.

    torch's convolutions on a CPU take up to a third less time with that layout.
    """

    def moved(tensor: Tensor) -> Tensor:
        tensor = tensor.to(device, non_blocking=True)
        return channels_last(tensor) if wants_layout(device, images_last) else tensor

    return map_tensors(inputs, moved)


def channels_last(x: Tensor) -> Tensor:
    """Return images [N, C, H, W] with their channels last in memory; other inputs as they are."""
    if is_laid_out(x):
        return x
    # a copy into strides of its own: with one channel contiguous() would change nothing
    return torch.empty_like(x, memory_format=torch.channels_last).copy_(x)


def named_tensors(inputs: Any, name: str = "x") -> dict[str, Tensor]:
    """Return the tensors of inputs by name: ``x``, ``x0`` ... or the mapping's own names."""
    if isinstance(inputs, Tensor):
        return {name: inputs}
    named: dict[str, Tensor] = {}
    if isinstance(inputs, Mapping):
        for key, value in inputs.items():
            named |= named_tensors(value, key if name == "x" else f"{name}.{key}")
    elif isinstance(inputs, tuple | list):
        for number, value in enumerate(inputs):
            named |= named_tensors(value, f"{name}{number}")
    return named


def map_tensors(inputs: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return inputs with every tensor changed, in the same structure."""
    if isinstance(inputs, Tensor):
        return change(inputs)
    if isinstance(inputs, Mapping):
        return {name: map_tensors(value, change) for name, value in inputs.items()}
    if isinstance(inputs, tuple | list):
        return tuple(map_tensors(value, change) for value in inputs)
    return inputs


def at_least_float32(x: Tensor) -> Tensor:
    """Return a tensor in single precision, or in double where it is: half would round too much."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def from_numpy(inputs: Any) -> Any:
    """Return inputs with tensors in place of numpy arrays, in the same structure."""
    if isinstance(inputs, np.ndarray) and inputs.dtype.kind in "biufc":
        return of_numpy(inputs)
    if isinstance(inputs, Mapping):
        return {name: from_numpy(value) for name, value in inputs.items()}
    if isinstance(inputs, tuple):
        return tuple(from_numpy(value) for value in inputs)
    return inputs


def of_numpy(array: Any) -> Tensor:
    """Return an array of numpy as a tensor: a copy where torch has no such strides or byte order.

    Raises:
        TypeError: for anything else, and for numbers that torch does not have.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return torch.from_numpy(native.copy() if min(native.strides, default=0) < 0 else native)


def select(inputs: Inputs, chosen: Any) -> Any:
    """Return the samples chosen by an index or slice along the first axis."""
    return map_tensors(inputs, lambda tensor: tensor[chosen])


def samples_in(inputs: Inputs) -> int:
    """Return the number of samples of inputs; 0 where they hold no tensor."""
    return next((len(tensor) for tensor in named_tensors(inputs).values()), 0)


def call(model: Any, inputs: Inputs) -> Any:
    """Call a network with inputs: a tensor, a tuple of arguments or a mapping of keywords.

    Returns:
        Its outputs; of several that have names, those that are called ``logits`` or ``out``.
    """
    if isinstance(inputs, Tensor):
        return main_output(model(inputs))
    found = model(**inputs) if isinstance(inputs, Mapping) else model(*inputs)
    return main_output(found)


def main_output(outputs: Any) -> Any:
    """Return what counts of a network's outputs: ``logits`` or ``out`` of named ones, or all.

    So have it Hugging Face (``.logits``) and torchvision's segmentation (``["out"]``).
    """
    if isinstance(outputs, Tensor):
        return outputs
    for name in ("logits", "out"):
        found = outputs.get(name) if isinstance(outputs, Mapping) else getattr(outputs, name, None)
        if isinstance(found, Tensor):
            return found
    return outputs


def wants_layout(device: torch.device, images_last: bool) -> bool:
    """Say whether images are laid out with their channels last on a device."""
    return images_last and device.type == "cpu"


def is_laid_out(x: Tensor) -> bool:
    """Say whether a tensor already lies as :func:`channels_last` lays it out."""
    return x.dim() != 4 or x.stride(1) == 1


def joined(inputs: Sequence[Any]) -> Any:
    """Return inputs of one structure, one behind the other along the first axis."""
    first = inputs[0]
    if isinstance(first, Tensor):
        return torch.cat(list(inputs))
    if isinstance(first, Mapping):
        return {name: joined([one[name] for one in inputs]) for name in first}
    if isinstance(first, tuple | list):
        return tuple(joined([one[i] for one in inputs]) for i in range(len(first)))
    return first
