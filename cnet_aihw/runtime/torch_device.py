"""Where a model runs."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from cnet_aihw.runtime.errors import CnetError, bad_value

KINDS = ("cpu", "cuda")
"""Kinds of devices that everything here runs on; sums in float64 and seeded generators of the
device are needed, which Apple's MPS does not have."""


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the device meant, with its number; "auto" is CUDA where it is available, else the CPU.

    Raises:
        CnetError: for a device other than the CPU and CUDA, or one that this machine lacks.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        if torch.device(device).type in KINDS:
            return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise _not_available(device) from error
    raise _not_available(device)


def has_bf16(device: torch.device) -> bool:
    """Say whether a device has instructions for bfloat16; others convert each number and back."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = torch.backends.mkldnn.is_available()  # whose kernels those of a CPU are
    return known and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def device_of(model: nn.Module) -> torch.device:
    """Return the device of a model's first parameter or buffer; the CPU for a model without any."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


@contextmanager
def moved_to(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Keep the model on another device inside the block; afterwards it is back."""
    home = device_of(model)
    if home == device:
        yield
        return
    model.to(device)
    try:
        yield
    finally:
        model.to(home)


def _not_available(device: str | torch.device) -> CnetError:
    return bad_value(
        "device", str(device), "'auto', 'cpu' or 'cuda'", "it is not available on this machine"
    )
