"""Checks of the pixels and labels that a user brings; each mistake is one sentence."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.zoo.split import label_of

_LARGEST_PIXEL = 1e9
SCALES = 16.0  # ratio of brightness between two parts above which they have different units


def check_images(name: str, x: Tensor) -> None:
    """Refuse what is not a batch of images: [N, C, H, W] of uint8 or finite floating numbers.

    Args:
        name: name of the tensor in messages, as ``x_train``.
        x: the images.

    Raises:
        CnetError: wrong number of dimensions, nothing in it, other number types, NaN, infinity or
            values above 1e9.
    """
    if x.ndim != 4:
        raise CnetError(
            f"{name} has shape {tuple(x.shape)}: images have four dimensions, [N, C, H, W]; "
            "rows and sequences are for cnet_aihw.zoo.from_samples.",
            key=name,
            value=tuple(x.shape),
            fix="give rows and sequences to cnet_aihw.zoo.from_samples",
        )
    if x.numel() == 0:
        raise CnetError(
            f"{name} has shape {tuple(x.shape)}, which has no pixels: give images.",
            key=name,
            value=tuple(x.shape),
            expected="images",
        )
    if x.dtype != torch.uint8 and not x.is_floating_point():
        raise CnetError(
            f"{name} holds {x.dtype}: give pixels as uint8 (0 to 255) or as floating numbers.",
            key=name,
            value=x.dtype,
            expected="pixels as uint8 (0 to 255) or as floating numbers",
        )
    if x.is_floating_point():
        # the check is of what training will see: a large float64 is infinite as float32
        bad = ~torch.isfinite(x.float()).flatten(1).all(1)
        if bad.any():
            raise CnetError(
                f"{name} holds NaN or infinite pixels in {int(bad.sum())} of {len(x)} images, "
                f"first in image {int(bad.nonzero()[0])}: mend or leave out these images.",
                key=name,
            )
        largest = float(x.abs().max())
        if largest > _LARGEST_PIXEL:
            raise CnetError(
                f"{name} holds a pixel of {largest:g}: give pixels from 0 to 1, or at most "
                f"{_LARGEST_PIXEL:g} by size.",
                key=name,
                value=largest,
                expected=f"at most {_LARGEST_PIXEL:g}",
            )


def check_labels(name: str, y: Tensor, images: int, classes: int | None) -> None:
    """Refuse labels that are not one class number for each image.

    Args:
        name: name of the tensor in messages, as ``y_train``.
        y: the labels.
        images: number of images they belong to.
        classes: number of classes; None finds it from the labels.

    Raises:
        CnetError: not a vector, not whole numbers, another length, or out of range; without
            ``classes`` a label must be below the number of images.
    """
    if y.ndim != 1:
        raise CnetError(
            f"{name} has shape {tuple(y.shape)}: labels are one class number for each image, [N].",
            key=name,
            value=tuple(y.shape),
        )
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise CnetError(
            f"{name} holds {y.dtype}: labels are class numbers of an integer type, from 0.",
            key=name,
            value=y.dtype,
        )
    if len(y) != images:
        raise CnetError(
            f"{name} holds {len(y)} labels for {images} images: give one label for each image.",
            key=name,
            value=len(y),
            expected="one label for each image",
        )
    low, high = int(y.min()), int(y.max())
    if low < 0:
        raise CnetError(
            f"{name} holds the label {low}: class numbers start at 0.", key=name, value=low
        )
    if classes is None and high >= images:
        raise CnetError(
            f"{name} holds the label {high} for {images} images, too few for every class from "
            "0 to it: number the classes from 0 without a gap.",
            key=name,
            value=high,
            expected="classes numbered from 0 without a gap",
        )
    if classes is not None and high >= classes:
        raise CnetError(
            f"{name} holds the label {high} but there are {classes} classes (0 to {classes - 1}): "
            "mend the labels or the number of classes.",
            key=name,
            value=high,
        )


def check_alike(train: Tensor, test: Tensor, name: str = "x_test") -> None:
    """Refuse test (or validation) images of another size or scale than the training images.

    Raises:
        CnetError: image shapes differ, one is uint8 (scaled by 255) and the other floating, or the
            values of one are 16 times those of the other.
    """
    if train.shape[1:] != test.shape[1:]:
        raise CnetError(
            f"x_train holds images of shape {tuple(train.shape[1:])} and {name} of shape "
            f"{tuple(test.shape[1:])}: give both in the same shape.",
            key="x_train",
            value=tuple(train.shape[1:]),
            expected="both in the same shape",
        )
    if (train.dtype == torch.uint8) != (test.dtype == torch.uint8):
        raise CnetError(
            f"x_train holds {train.dtype} and {name} {test.dtype}: give both as uint8 (0 to 255) "
            "or both as floating numbers on one scale.",
            key="x_train",
            value=train.dtype,
            expected="both as uint8 (0 to 255) or both as floating numbers on one scale",
        )
    if train is not test:
        _check_scale(train, test, name)


def _check_scale(train: Tensor, test: Tensor, name: str) -> None:
    """Refuse parts in different units, such as 0 to 1 and 0 to 255."""
    peaks = [float(x.max()) - min(0.0, float(x.min())) for x in (train, test)]
    if min(peaks) <= 0.0 or max(peaks) / min(peaks) < SCALES:
        return
    means = [max(float(x.float().abs().mean()), 1e-30) for x in (train, test)]
    if max(means) / min(means) >= SCALES:
        raise CnetError(
            f"x_train reaches {float(train.max()):g} and {name} {float(test.max()):g}: give both "
            "on one scale, such as 0 to 1.",
            key=name,
            value=float(test.max()),
            expected="the scale of x_train",
        )


def check_no_empty_class(y: Tensor, classes: int, class_names: Sequence[str] = ()) -> None:
    """Refuse a training part that lacks a class.

    Raises:
        CnetError: the first class without an image.
    """
    absent = torch.nonzero(torch.bincount(y, minlength=classes) == 0)
    if len(absent):
        raise CnetError(
            f"The training part has no image of class {label_of(int(absent[0]), class_names)}: "
            f"give images for each of the {classes} classes, numbered from 0 without a gap.",
            key="y_train",
            value=int(absent[0]),
        )
