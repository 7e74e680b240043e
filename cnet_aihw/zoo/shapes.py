"""Checks that every network makes of what it is asked to take in and give out."""

from __future__ import annotations

from collections.abc import Sequence

from cnet_aihw.runtime.errors import CnetError


def check_classes(classes: int) -> None:
    """Refuse a number of classes below 2.

    Raises:
        CnetError: ``classes`` below 2.
    """
    if classes < 2:
        raise CnetError(
            f"classes={classes} is too few: a classifier needs at least 2 classes.",
            key="classes",
            value=classes,
        )


def image_shape(network: str, input_shape: Sequence[int], fits: str) -> tuple[int, int, int]:
    """``input_shape`` as (C, H, W).

    Args:
        network: name for the message.
        input_shape: shape of one image.
        fits: what the network takes, for the message.

    Raises:
        CnetError: not three sizes of at least 1.
    """
    shape = tuple(int(size) for size in input_shape)
    if len(shape) != 3 or min(shape) < 1:
        raise misfit(network, shape, fits)
    return shape[0], shape[1], shape[2]


def misfit(network: str, shape: Sequence[int], fits: str) -> CnetError:
    """The error for an image shape that the network cannot take."""
    return CnetError(
        f"{network} does not fit images of shape {tuple(shape)}: it takes {fits}; "
        "choose another network or size of the images.",
        key=network,
        expected="another network or size of the images",
    )


def scaled_width(channels: int, width: float) -> int:
    """``channels`` times ``width``, rounded to a multiple of 8, at least 8.

    Raises:
        CnetError: ``width`` not above 0.
    """
    if not width > 0:
        raise CnetError(
            f"width={width} is not above 0: give the factor on the channels, as 0.5.",
            key="width",
            value=width,
            expected="the factor on the channels, as 0.5",
        )
    return max(8, round(channels * width / 8) * 8)
