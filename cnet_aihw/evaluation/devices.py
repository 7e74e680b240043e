"""Where a model runs, and torch's random state there."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from cnet_aihw.errors import CnetError


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


@contextmanager
def forked_random_state(device: torch.device) -> Iterator[None]:
    """Put the random states of the CPU and of ``device`` back after the block."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def seed_random_state(seed: int, device: torch.device) -> None:
    """Seed torch's global generators of the CPU and of ``device``, and no other."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
