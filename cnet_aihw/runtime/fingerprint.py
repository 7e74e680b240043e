"""Fingerprints of tensors and texts, and canonical, collision-free texts of values."""

import hashlib
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from torch import Tensor


def tensors_fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 (hex) of names, shapes, types and content."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        # as bytes: numpy has no bfloat16
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def text_fingerprint(lines: list[str]) -> str:
    """Return the SHA-256 (hex) of lines of text, memory addresses left out."""
    text = re.sub(r"0x[0-9a-f]+", "", "\n".join(lines))
    return hashlib.sha256(text.encode()).hexdigest()


def exact_text(value: Any) -> str:
    """Return a value's text; of tensors and arrays, which print rounded and in part, the content.

    Args:
        value: anything; tensors and arrays may also be inside mappings, lists and tuples.
    """
    if isinstance(value, Tensor):
        content = value.detach().cpu().flatten().view(torch.uint8).numpy().tobytes()
        return f"tensor({value.dtype}, {tuple(value.shape)}, {sha256(content).hexdigest()})"
    if isinstance(value, np.ndarray):
        content = np.ascontiguousarray(value).tobytes()
        return f"array({value.dtype}, {value.shape}, {sha256(content).hexdigest()})"
    if not holds_table(value):
        return str(value)
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key!r}: {exact_text(v)}' for key, v in value.items())}}}"
    return f"[{', '.join(map(exact_text, value))}]"


def holds_table(value: Any) -> bool:
    """Say whether a value is, or holds, a tensor or an array."""
    if isinstance(value, Mapping):
        return any(map(holds_table, value.values()))
    if isinstance(value, list | tuple):
        return any(map(holds_table, value))
    return isinstance(value, Tensor | np.ndarray)
