"""Your own samples of any shape: rows, sequences, several inputs, numbers to be found."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.inputs import from_numpy, map_tensors, named_tensors, select
from cnet_aihw.runtime.parts import TensorPart
from cnet_aihw.runtime.typed import checked
from cnet_aihw.zoo.dataset import Dataset
from cnet_aihw.zoo.split import mixing_order, stratified_split

Given = Sequence[Any]
"""Inputs [N, ...], or a tuple or mapping of them, and targets [N, ...]; of torch or numpy."""


@checked
def from_samples(
    name: str,
    train: Given,
    test: Given,
    val: Given | None = None,
    *,
    classes: int | None = None,
    val_size: int | float = 0.1,
    split_seed: int = 0,
) -> Dataset:
    """A data set from inputs and targets of any shape, which are taken as they are.

    Nothing is normalised: do so with mean and standard deviation of the training part. For images
    with a class each :func:`from_tensors` does it. Floating numbers become float32, whole targets
    int64.

    Args:
        name: name of the data set, for records.
        train: inputs [N, ...], or a tuple or mapping of them, and targets [N, ...].
        test: those of the test part.
        val: those of the validation part; None cuts it from ``train``, classes [N] evenly mixed.
        classes: number of classes, or of numbers to be found; None takes the largest class [N] in
            ``train`` plus one, or the columns of floating targets [N] or [N, k].
        val_size: size of the validation part, samples or share of ``train``; unused with ``val``.
        split_seed: seed of the split, and of the order of parts whose classes [N] lie in blocks.

    Returns:
        The data set, on the CPU.

    Raises:
        CnetError: for numbers that are not finite, samples without a target, parts of different
            shapes, and targets whose ``classes`` cannot be seen.
    """
    parts = {"train": _part("train", train), "test": _part("test", test)}
    if val is not None:
        parts["val"] = _part("val", val)
    for part in parts:
        _check_alike(parts["train"], parts[part], part)
    whole = parts["train"].y
    found = _outputs(whole) if classes is None else classes
    if found < 1:
        raise bad_value("classes", found, "at least 1")
    grouped = whole.ndim == 1 and not whole.is_floating_point() and int(whole.min()) >= 0
    if grouped:  # a training part that is cut gets its order there
        for part in ("test", *(("train", "val") if val is not None else ())):
            parts[part] = _mixed(parts[part], split_seed)
    if val is None:
        groups, count = (whole, found) if grouped else (torch.zeros(len(whole)).long(), 1)
        rows, kept = stratified_split(groups, {"val_size": val_size}, split_seed, count)
        parts["val"], parts["train"] = (
            TensorPart(select(parts["train"].x, chosen), whole[chosen]) for chosen in (rows, kept)
        )
    digest = hashlib.sha256(f"samples {found}".encode())
    for part in ("train", "val", "test"):
        digest.update(parts[part].fingerprint.encode())
    x = parts["train"].x
    return Dataset(
        name=name,
        train=parts["train"],
        val=parts["val"],
        test=parts["test"],
        classes=found,
        input_shape=tuple(x.shape[1:]) if isinstance(x, Tensor) else (),
        augment=None,
        fingerprint=digest.hexdigest(),
    )


def _part(name: str, given: Given) -> TensorPart:
    """Return one part with float32 and int64, of finite numbers."""
    if not isinstance(given, tuple | list) or len(given) != 2:
        found = f"{len(given)} values" if isinstance(given, tuple | list) else type(given).__name__
        several = "several inputs are a tuple or mapping: ((x1, x2), y)"
        raise bad_value(name, found, "two, inputs and targets: (x, y)", several)
    x, y = (map_tensors(from_numpy(value), _plain) for value in given)
    part = TensorPart(x, y)
    for key, tensor in {**named_tensors(part.x), "y": part.y}.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            first = int(torch.nonzero(~torch.isfinite(tensor))[0, 0])
            raise bad_value(f"{key} of {name}", f"not finite in sample {first}", "finite numbers")
    if part.y.is_complex():
        raise bad_value(f"y of {name}", str(part.y.dtype), "real numbers", "give view_as_real(y)")
    return part if part.y.is_floating_point() else TensorPart(part.x, part.y.long())


def _mixed(part: TensorPart, seed: int) -> TensorPart:
    """Return a part with its classes mixed where they lie in blocks."""
    if bool((part.y < 0).any()):  # of samples that do not count
        return part
    order = mixing_order(part.y, seed)
    return part if order is None else TensorPart(select(part.x, order), part.y[order])


def _plain(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu()
    return tensor.float() if tensor.is_floating_point() else tensor


def _check_alike(train: TensorPart, part: TensorPart, name: str) -> None:
    """Refuse a part whose samples have other shapes or number types than those of the first."""
    first, other = ({**named_tensors(p.x), "y": p.y} for p in (train, part))
    for key in dict.fromkeys((*first, *other)):
        one, two = (
            None if tensor is None else (tuple(tensor.shape[1:]), str(tensor.dtype))
            for tensor in (first.get(key), other.get(key))
        )
        if one != two:
            raise bad_value(f"{key} of {name}", _said(two), f"{_said(one)}, as in train")


def _said(found: tuple[tuple[int, ...], str] | None) -> str:
    return "absent" if found is None else f"{found[1]} of shape {('N', *found[0])}"


def _outputs(y: Tensor) -> int:
    """Return the number of classes, or of numbers to be found, that targets show."""
    if y.is_floating_point() and y.ndim <= 2:
        return y.shape[1] if y.ndim == 2 else 1
    if not y.is_floating_point() and y.ndim == 1:
        return int(y.max()) + 1
    raise CnetError(
        f"targets of shape {tuple(y.shape)} do not show how many classes, or numbers for each "
        "step, there are: give classes.",
        key="classes",
        value=tuple(y.shape),
        fix="give classes",
    )
