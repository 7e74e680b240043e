"""Checks that every network makes of what it is asked to take in and give out."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.memory import check_memory

_MOST_CLASSES = 1_000_000


def check_classes(classes: int, least: int = 2) -> None:
    """Refuse a number of classes below the least, or above a million.

    Args:
        classes: the number.
        least: the smallest; 1 for networks that a regression may take.

    Raises:
        CnetError: for another one.
    """
    if not least <= classes <= _MOST_CLASSES:
        expected = f"from {least} to {_MOST_CLASSES}"
        raise bad_value("classes", classes, expected)


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
    check_memory(4 * math.prod(shape), f"one image of shape {shape}")
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
    if not 0 < width < math.inf:
        raise CnetError(
            f"width={width} is not above 0: give the factor on the channels, as 0.5.",
            key="width",
            value=width,
            expected="the factor on the channels, as 0.5",
        )
    wide = max(8, round(channels * width / 8) * 8)
    check_memory(4 * 9 * wide**2, f"a convolution of {wide} channels with width={width:g}")
    return wide
