"""From checked tensors to a `Dataset`: split, normalise, fingerprint."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.inputs import of_numpy
from cnet_aihw.runtime.memory import check_memory
from cnet_aihw.runtime.typed import checked
from cnet_aihw.zoo.augment import CropFlip
from cnet_aihw.zoo.checks import (
    SCALES,
    check_alike,
    check_images,
    check_labels,
    check_no_empty_class,
)
from cnet_aihw.zoo.dataset import Dataset, ImagePart
from cnet_aihw.zoo.split import mixing_order, stratified_order, stratified_split

Raw = tuple[Tensor, Tensor]
"""Images [N, C, H, W] as given (uint8 or floating) and labels [N] int64."""
Given = tuple[Any, Any]
"""The same as tensors or as arrays of numpy."""


@checked
def from_tensors(
    name: str,
    train: Given,
    test: Given,
    val: Given | None = None,
    *,
    classes: int | None = None,
    class_names: Sequence[str] = (),
    val_size: int | float = 0.1,
    split_seed: int = 0,
    limit_train: int | None = None,
    augment: bool = False,
    crop: int = 4,
    flip: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Dataset:
    """A data set from images and labels with a test part of their own.

    uint8 pixels become 0 to 1; floating ones are taken as they are. Then each channel is
    normalised with ``mean`` and ``std``, or those of the training part (after ``limit_train``); a
    constant channel is only centred.

    Args:
        name: name of the data set, for records.
        train: images [N, C, H, W] and labels [N] from which training and validation part are cut.
        test: images and labels of the test part.
        val: images and labels of the validation part; None cuts it from ``train``.
        classes: number of classes; None takes the number of ``class_names``, or else the largest
            label in ``train`` plus one.
        class_names: names of the classes.
        val_size: size of the validation part, images or share of ``train``; unused with ``val``.
        split_seed: seed of the split, of the order of the training part, and of that of the others
            where their classes lie in blocks.
        limit_train: keep only the first so many images of the training part's order.
        augment: give the data set a random crop and flip.
        crop: border of the random crop in pixels; 0 does not crop.
        flip: whether to flip left to right.
        mean: what is subtracted from each channel, [C], such as the mean of the data a network was
            pretrained on; of uint8 pixels as 0 to 1. None: the mean of the training part.
        std: what each channel is divided by, [C], above 0. None: the training part's deviation.

    Returns:
        The data set, on the CPU.

    Raises:
        CnetError: see the sentences in `checks` and `split`.
    """
    given = {"train": train, "test": test} | ({} if val is None else {"val": val})
    given = {part: _as_tensors(part, pair) for part, pair in given.items()}
    train, test, val = given["train"], given["test"], given.get("val")
    if classes is None and class_names:
        classes = len(class_names)
    for part, (x, y) in given.items():
        check_images(f"x_{part}", x)
        check_labels(f"y_{part}", y, len(x), classes)
        check_alike(train[0], x, f"x_{part}")
        if classes is None:
            classes = int(y.max()) + 1
    assert classes is not None
    _check_classes(classes, class_names, len(train[0]))
    train, test = (train[0], train[1].long()), _mixed(test, split_seed)
    check_no_empty_class(train[1], classes, class_names)
    if val is None:
        rows, kept = stratified_split(
            train[1], {"val_size": val_size}, split_seed, classes, class_names
        )
        val = (train[0][rows], train[1][rows])
    else:
        kept = stratified_order(train[1], torch.Generator().manual_seed(split_seed))
        val = _mixed(val, split_seed)
    kept = limited(kept, limit_train, classes)
    return build(
        name,
        (train[0][kept], train[1][kept]),
        val,
        test,
        classes=classes,
        class_names=class_names,
        augment=augment,
        crop=crop,
        flip=flip,
        mean=mean,
        std=std,
    )


def _mixed(part: Raw, seed: int) -> Raw:
    """Return a part with its classes mixed where they lie in blocks."""
    x, y = part[0], part[1].long()
    order = mixing_order(y, seed)
    return (x, y) if order is None else (x[order], y[order])


def build(
    name: str,
    train: Raw,
    val: Raw,
    test: Raw,
    *,
    classes: int,
    class_names: Sequence[str],
    augment: bool,
    crop: int,
    flip: bool,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Dataset:
    """A data set from parts that are already split and checked (arguments as `from_tensors`)."""
    height, width = train[0].shape[2:]
    if not 0 <= crop <= max(height, width, 4):
        raise bad_value("crop", crop, f"from 0 to the size of the images, {height} x {width}")
    need = 4 * sum(x.numel() for x, _ in (train, val, test))
    check_memory(need, f"the data set {name} as float32")
    given = _given(mean, std, train[0].shape[1])
    moments = _moments(train[0])  # [C] float64
    if given is not None:
        _check_units(train[0], moments[1], *given)
        moments = given
    black = (-moments[0] / moments[1]).tolist()
    parts = [ImagePart(_normalised(x, *moments), y) for x, y in (train, val, test)]
    return Dataset(
        name=name,
        train=parts[0],
        val=parts[1],
        test=parts[2],
        classes=classes,
        input_shape=tuple(train[0].shape[1:]),
        augment=CropFlip(black, crop, flip) if augment else None,
        fingerprint=_fingerprint(classes, (train, val, test, *([given] if given else []))),
        mean=tuple(moments[0].tolist()),
        std=tuple(moments[1].tolist()),
        class_names=tuple(class_names),
    )


def _given(
    mean: Sequence[float] | None, std: Sequence[float] | None, channels: int
) -> tuple[Tensor, Tensor] | None:
    """Return mean and standard deviation as tensors; None where none are given."""
    if mean is None and std is None:
        return None
    for name, values, other in (("mean", mean, "std"), ("std", std, "mean")):
        if values is None:
            raise bad_value(name, None, f"one number for each channel, as {other} is given")
        possible = all(math.isfinite(v) and (name == "mean" or v > 0) for v in values)
        if len(values) != channels or not possible:
            kind = "finite numbers" if name == "mean" else "numbers above 0"
            raise bad_value(name, list(values), f"{kind}, one for each of {channels} channels")
    return torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)


def _check_units(x: Tensor, deviation: Tensor, mean: Tensor, std: Tensor) -> None:
    """Refuse a normalisation in other units than the pixels', such as of 0 to 255 for 0 to 1.

    Args:
        x: the training part, [N, C, H, W]; uint8 counts as 0 to 1.
        deviation: its standard deviation, [C].
        mean: what is subtracted, [C].
        std: what it is divided by, [C].
    """
    peak = 1.0 if x.dtype == torch.uint8 else float(x.abs().max())
    if (mean.abs() > SCALES * peak).all() or (std > SCALES * peak).all():
        wrong = "larger"
    elif (deviation > SCALES * std).all() and (std < 1).all():  # 0 and 1 leave pixels as they are
        wrong = "smaller"
    else:
        return
    found = [f"{value:.4g}" for value in deviation.tolist()]
    raise bad_value(
        "mean and std",
        (mean.tolist(), std.tolist()),
        f"numbers in the units of the pixels, which reach {peak:g} and have the standard deviation "
        f"{', '.join(found)} (these are much {wrong})",
        "divide pixels and normalisation by 255 alike; uint8 pixels count as 0 to 1",
    )


def limited(rows: Tensor, limit_train: int | None, classes: int) -> Tensor:
    """The first ``limit_train`` of the training rows, or all of them for None.

    Raises:
        CnetError: fewer than one image a class, or more than there are.
    """
    if limit_train is None:
        return rows
    if limit_train < classes:
        raise CnetError(
            f"limit_train={limit_train} is fewer than one image for each of the {classes} classes: "
            "make it larger.",
            key="limit_train",
            value=limit_train,
        )
    if limit_train > len(rows):
        raise CnetError(
            f"limit_train={limit_train} is more than the {len(rows)} images of the training part: "
            "make it smaller, or leave it out.",
            key="limit_train",
            value=limit_train,
        )
    return rows[:limit_train]


def _as_tensors(part: str, pair: Given) -> Raw:
    """Return images and labels as tensors on the CPU, from tensors or arrays of numpy."""
    made = []
    for given in pair:
        try:
            found = given if isinstance(given, Tensor) else of_numpy(given)
            made.append(found.detach().cpu())
        except TypeError:
            kind = type(given).__name__ + (f" of {given.dtype}" if hasattr(given, "dtype") else "")
            raise CnetError(
                f"{part} holds {kind}: give images and labels as tensors or arrays of numbers.",
                key=part,
                value=kind,
                expected="two tensors",
            ) from None
    x = made[0]
    return x.float() if x.dtype == torch.bfloat16 else x, made[1]  # numpy has no bfloat16


def _check_classes(classes: int, class_names: Sequence[str], images: int) -> None:
    if classes > images:
        raise bad_value(
            "classes", classes, f"at most the {images} training images, one for each class"
        )
    twice = [name for name in class_names if list(class_names).count(name) > 1]
    if twice:
        raise bad_value("class_names", twice[0], "each name once")
    if classes < 2:
        raise CnetError(
            f"There are {classes} classes: a classifier needs at least 2.",
            key="classes",
            value=classes,
            expected=">= 2",
        )
    if class_names and len(class_names) != classes:
        raise CnetError(
            f"There are {len(class_names)} class names for {classes} classes: give one for each.",
            key="class_names",
            value=len(class_names),
            expected=classes,
        )


def _scaled(x: Tensor) -> Tensor:
    return x.float().div_(255) if x.dtype == torch.uint8 else x.to(torch.float32, copy=True)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel [C], in float64 whatever the size of the set."""
    each = [_channel_moments(channel) for channel in x.unbind(1)]
    mean, var = torch.stack([m for m, _ in each]), torch.stack([v for _, v in each])
    # what is left of a constant channel is rounding: it is centred, not blown up
    constant = var.sqrt() <= 1e-7 * mean.abs()
    return mean, torch.where(constant, torch.ones_like(var), var.sqrt())


def _channel_moments(x: Tensor, chunk: int = 2000) -> tuple[Tensor, Tensor]:
    """Mean and variance of one channel, images [N, H, W]."""
    if x.dtype == torch.uint8:  # exact, and much faster, by the number of pixels of each value
        counts = torch.zeros(256, dtype=torch.int64)
        for images in x.split(chunk):
            counts += torch.bincount(images.flatten(), minlength=256)
        value = torch.arange(256, dtype=torch.float64) / 255
        mean = (counts * value).sum() / x.numel()
        return mean, (counts * (value - mean).square()).sum() / x.numel()
    mean = torch.stack([images.double().sum() for images in x.split(chunk)]).sum() / x.numel()
    squares = [(images.double() - mean).square().sum() for images in x.split(chunk)]
    return mean, torch.stack(squares).sum() / x.numel()


def _normalised(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return (
        _scaled(x)
        .sub_(mean.float()[None, :, None, None])
        .div_(std.float()[None, :, None, None])
        .contiguous()
    )


def _fingerprint(classes: int, parts: Sequence[Raw]) -> str:
    digest = hashlib.sha256(f"classes {classes}".encode())
    for x, y in parts:
        for tensor in (x, y):
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()
