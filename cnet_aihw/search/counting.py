"""Number of placements within one or two limits, without listing them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Sums = NDArray[np.complex128]

TOLERANCE = 1e-12
"""By how much an overhead may pass a limit: sums of the same shares differ in their last bits."""


_MOST = 2_000_000  # different sums of half the layers that are kept apart


def count_within(costs: Sequence[Sequence[Sequence[float]]], limits: Sequence[float]) -> int:
    """Count the encodings whose costs stay within all limits.

    Layers are divided into two halves. Each half's partial sums are listed, equal ones merged and
    those over a limit dropped; then pairs of one sum of each half are counted. The count is exact
    up to 2**53 while no half has more than two million different sums (some 16 layers of 6
    choices); beyond that, sums are rounded up to thousandths of the limits, which counts some per
    cent too few.

    Args:
        costs: costs of each layer's choices, [measures][layers][choices], one or two measures.
        limits: largest total of each measure.
    """
    first, second = (*costs, [[0.0] * len(row) for row in costs[0]])[:2]
    largest = complex(limits[0], limits[1] if len(limits) > 1 else 0.0)
    # A sum is one complex number, so that numpy sorts and merges pairs.
    halves: list[tuple[Sums, Array]] = [(np.zeros(1, complex), np.ones(1)) for _ in range(2)]
    for row in zip(first, second, strict=True):
        smaller = int(len(halves[0][0]) > len(halves[1][0]))
        halves[smaller] = _extended(
            *halves[smaller], np.array(row[0]) + 1j * np.array(row[1]), largest
        )
    return int(_pairs(halves[0], halves[1], largest))


def _extended(sums: Sums, ways: Array, costs: Sums, largest: complex) -> tuple[Sums, Array]:
    """Add one layer's choices to partial sums."""
    sums = np.add.outer(costs, sums).ravel()
    ways = np.tile(ways, len(costs))
    within = (sums.real <= largest.real + TOLERANCE) & (sums.imag <= largest.imag + TOLERANCE)
    # Overheads are whole numbers of weights / those of the network: many sums are equal.
    sums, ways = sums[within], ways[within]
    merged, which = np.unique(sums.round(14), return_inverse=True)
    if len(merged) > _MOST:
        steps = [
            np.ceil(part / (limit / 1000) - 1e-9) * (limit / 1000) if limit else part
            for part, limit in ((sums.real, largest.real), (sums.imag, largest.imag))
        ]
        merged, which = np.unique((steps[0] + 1j * steps[1]).round(14), return_inverse=True)
    return merged, np.bincount(which, ways, len(merged))


def _pairs(one: tuple[Sums, Array], other: tuple[Sums, Array], largest: complex) -> float:
    """Sum the ways of all pairs whose sums stay within the limits.

    The second half is sorted by its first measure, in which a sum of the first half leaves room for
    a prefix. The prefix is cut into blocks of powers of two, each sorted by the second measure.
    """
    (sums, ways), (others, other_ways) = one, other  # np.unique sorted by the real part
    prefix = np.searchsorted(others.real, largest.real + TOLERANCE - sums.real, side="right")
    heights = np.unique(others.imag)
    rank = np.searchsorted(heights, others.imag)
    room = np.searchsorted(
        heights, largest.imag + TOLERANCE - sums.imag, side="right"
    )  # ranks below
    total, index = 0.0, np.arange(len(others))
    for level in range(len(others).bit_length()):
        block = index >> level
        keys = block * (len(heights) + 1) + rank
        order = np.argsort(keys, kind="stable")
        summed = np.concatenate([[0.0], np.cumsum(other_ways[order])])
        chosen = np.flatnonzero(prefix >> level & 1)
        wanted = (prefix[chosen] >> level) - 1  # the last block of the prefix at this level
        begin = wanted << level
        end = np.searchsorted(keys[order], wanted * (len(heights) + 1) + room[chosen], side="left")
        total += float(ways[chosen] @ (summed[end] - summed[begin]))
    return total
