"""Where a model runs, and torch's random state there."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from cnet_aihw.runtime.errors import CnetError


def resolve_device(device: str | torch.device) -> torch.device:
    """The device meant; "auto" is CUDA when there, otherwise the CPU.

    Raises:
        CnetError: for a device that torch does not know or this machine does not have.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=device).device  # with its number, where there can be several
    except (RuntimeError, AssertionError) as error:
        raise CnetError(
            f"device is {str(device)!r}, which is not to be had here; give 'auto', 'cpu' or 'cuda'."
        ) from error


def device_of(model: nn.Module) -> torch.device:
    """The device of a model's first parameter or buffer; the CPU for a model without any."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


@contextmanager
def moved_to(model: nn.Module, device: torch.device) -> Iterator[None]:
    """The model on another device inside the block, and back afterwards."""
    home = device_of(model)
    if home == device:
        yield
        return
    model.to(device)
    try:
        yield
    finally:
        model.to(home)
