"""Statistics over projections and chips, as plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def spread_of(name: str, values: Sequence[float | None]) -> dict[str, float | None]:
    """Return mean, standard deviation and 5 % quantile of the values that are there.

    Args:
        name: beginning of their names.
        values: the values; those of failed chips are None.
    """
    found = [value for value in values if value is not None]
    if not found:
        return dict.fromkeys((f"{name}_mean", f"{name}_std", f"{name}_q05"))
    return {
        f"{name}_mean": math.fsum(found) / len(found),
        f"{name}_std": float(np.std(found, ddof=1)) if len(found) > 1 else None,
        f"{name}_q05": float(np.quantile(found, 0.05)),
    }


def over_seeds(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row for each baseline, over scikit-learn's seeds."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for record in records:
        groups.setdefault((record["method"], record["kernel"], record["s"]), []).append(record)
    names = ("method", "kernel", "gamma", "s", "features", "samples")
    return [
        {**{n: same[0][n] for n in names}, **spread_of("clean", [r["accuracy"] for r in same])}
        for same in groups.values()
    ]
