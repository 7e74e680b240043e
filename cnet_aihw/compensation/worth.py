"""Worth of further filters in each layer, as a per-chip fit found it."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

from cnet_aihw.compensation.per_chip import PerChipFit
from cnet_aihw.runtime.typed import checked

MOST = 16
"""Filters up to which errors are listed."""


@checked
def filter_errors(fit: PerChipFit) -> dict[str, dict[str, Any]]:
    """Return the error left in each layer's output by number of filters, on the chip fitted last.

    Returns:
        Layer -> ``errors``, variance of the error left and ridge penalty / variance of the wanted
        output with 0, 1, ... filters (no filter: scale and offset alone), and ``placed``, the
        filters that it has.
    """
    found = {}
    for name, linear in fit.fits.items():
        worth = linear.spectrum.tolist()
        all_left = linear.unexplained + sum(worth)
        left = [all_left, *(all_left - gain for gain in accumulate(worth[:MOST]))]
        wanted = linear.wanted or 1.0
        errors = [max(value, 0.0) / wanted for value in left]
        found[name] = {"errors": errors, "placed": len(linear.generator)}
    return found
