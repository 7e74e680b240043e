"""The same numbers each time: torch's settings for repeatable results on CUDA."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def deterministic(device: torch.device, *, tf32: bool | None = None) -> Iterator[None]:
    """Compute the same inside the block each time, as far as torch can; the CPU does so anyway.

    On CUDA it switches on torch's deterministic algorithms and cuDNN's, switches the search for the
    fastest convolution off, and gives cuBLAS a workspace that makes it repeatable (where cuBLAS has
    not begun yet). An operation that torch has no deterministic kernel for (the backward pass of
    adaptive average pooling, for example) still runs, with torch's warning; its results can differ
    in their last bits between runs.

    Args:
        device: where is computed.
        tf32: whether products of float32 may be taken in TF32, with 10 bits of mantissa; None: as
            torch is set.
    """
    if device.type != "cuda":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    cudnn: Any = torch.backends.cudnn
    switches: Any = torch.utils.deterministic
    fill = switches.fill_uninitialized_memory
    mode = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    flags = cudnn.benchmark, cudnn.deterministic
    precisions = [setting.fp32_precision for setting in _float32_settings()]
    try:
        torch.use_deterministic_algorithms(True, warn_only=not (mode and not warn_only))
        switches.fill_uninitialized_memory = False  # a check that costs time
        cudnn.benchmark, cudnn.deterministic = False, True
        if tf32 is not None:
            for setting in _float32_settings():
                setting.fp32_precision = "tf32" if tf32 else "ieee"
        yield
    finally:
        torch.use_deterministic_algorithms(mode, warn_only=warn_only)
        switches.fill_uninitialized_memory = fill
        cudnn.benchmark, cudnn.deterministic = flags
        for setting, precision in zip(_float32_settings(), precisions, strict=True):
            setting.fp32_precision = precision


def uses_tf32(device: torch.device) -> bool:
    """Say whether any product of float32 may be taken in TF32 on a device, as torch is set."""
    return device.type == "cuda" and any(s.fp32_precision == "tf32" for s in _float32_settings())


def _float32_settings() -> tuple[Any, ...]:
    cudnn: Any = torch.backends.cudnn
    return torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn
