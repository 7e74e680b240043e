"""Fingerprints of tensors and texts, and canonical, collision-free texts of values."""

import hashlib
import re
from collections.abc import Mapping
from functools import partial
from hashlib import sha256
from types import MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_DEPTH = 5  # how deep objects in objects are described


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


def object_text(thing: object, depth: int = 0) -> str | None:
    """Return module and name of a function, or of an object's class with its public settings.

    The text is the same in each process. None has none.

    Args:
        thing: a function, a method or partial of one, or any object.
        depth: how deep it lies in other objects.
    """
    if thing is None:
        return None
    if isinstance(thing, partial):
        given: dict[Any, Any] = {**dict(enumerate(thing.args)), **thing.keywords}
        return f"{object_text(thing.func, depth)} of {exact_text(without_addresses(given, depth))}"
    if isinstance(thing, MethodType) and not isinstance(thing.__self__, type):
        return f"{object_text(thing.__self__, depth)}.{thing.__name__}"
    named: Any = thing if hasattr(thing, "__qualname__") else type(thing)
    public = {n: v for n, v in getattr(thing, "__dict__", {}).items() if n[0] != "_"}
    return f"{named.__module__}.{named.__qualname__} {exact_text(without_addresses(public, depth))}"


def class_elsewhere(thing: object) -> str | None:
    """Return module and name of an object's class; None for one of this package or of aihwkit.

    Two classes from elsewhere may have the same name and settings and do different things.
    """
    kind = type(thing)
    ours = kind.__module__.partition(".")[0] in ("cnet_aihw", "aihwkit")
    return None if ours else f"{kind.__module__}.{kind.__qualname__}"


def without_addresses(value: Any, depth: int = 0) -> Any:
    """Return a value as it is, but objects whose text is an address by their :func:`object_text`.

    Args:
        value: anything; such objects may also be inside mappings, lists and tuples.
        depth: how deep it lies in other objects.
    """
    if isinstance(value, Tensor) or not _ADDRESS.search(repr(value)):
        return value
    if isinstance(value, dict):
        return {key: without_addresses(one, depth) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_addresses(one, depth) for one in value]
    return type(value).__qualname__ if depth > _DEPTH else object_text(value, depth + 1)
