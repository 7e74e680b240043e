"""Sums over positions of a layer's features, output and error, from which a corrector is fitted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cnet_aihw.compensation.ridge import WIDE

_CACHED_ROWS = 2048
"""Rows whose sums are taken at once on a CPU, whose caches they fit."""


@dataclass(frozen=True)
class Statistics:
    """Means and covariances of a layer's features f, output y and error d = t - y, in float64."""

    f: Tensor
    """Means of the features, [F]."""

    y: Tensor
    """Means of the output, [C]."""

    d: Tensor
    """Means of the error, [C]."""

    ff: Tensor
    """Covariances of the features, [F, F]; empty, as are ``fy`` and ``fd``, where rows are kept."""

    fy: Tensor
    """Covariances of features and output, [F, C]."""

    fd: Tensor
    """Covariances of features and error, [F, C]."""

    yy: Tensor
    """Covariances of the output, [C, C]; without a map of y, its variances alone, [C]."""

    yd: Tensor
    """Covariances of output and error, in the shape of ``yy``."""

    dd: Tensor
    """Variances of the error, [C]."""

    rows: tuple[Tensor, Tensor, Tensor] | None = None
    """f, y and d of all rows, less their means, [n, F] and twice [n, C], where they are kept."""


class Moments:
    """Sums over positions of one layer's features, output, and what is wrong with the output.

    Batches are added one by one, so that memory does not depend on how many there are. Products
    are taken in the type of the batches after the first batch's means are subtracted, and summed
    in float64. Only products that a fit reads are taken. As long as they are not more than the
    features, which are more than 1024, rows are kept in place of their sums.

    Args:
        on_output: part that acts on y alone, as :class:`ClosedFormModule` names it.
        ends_with_y: whether the last C features are y itself.
    """

    def __init__(self, on_output: str = "scale", ends_with_y: bool = False) -> None:
        self.count = 0
        self._map, self._with_y = on_output == "map", ends_with_y
        self._origins: list[Tensor] = []  # near the means, so that nothing cancels
        self._sums: dict[str, Tensor] = {}
        self._kept: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, features: Tensor, output: Tensor, wanted: Tensor) -> None:
        """Take in one batch.

        Args:
            features: [positions, F].
            output: the layer's output on the chip, [positions, C].
            wanted: what it should be, [positions, C].
        """
        rows = _CACHED_ROWS if output.device.type == "cpu" else max(1, len(output))
        for part in zip(features.split(rows), output.split(rows), wanted.split(rows), strict=True):
            self._add_rows(*part)

    def _add_rows(self, features: Tensor, output: Tensor, wanted: Tensor) -> None:
        if not len(output):  # nothing has come this way, which is not a mean
            return
        parts = [features, output, wanted - output]
        if output.dtype in (torch.float16, torch.bfloat16):
            parts = [part.float() for part in parts]
        if not self._origins:
            self._origins = [part.mean(0) for part in parts]
        f, y, d = (part - origin for part, origin in zip(parts, self._origins, strict=True))
        self.count += len(d)
        self._kept.append((f, y, d))
        width = f.shape[1]
        if not (width > WIDE and self.count <= width and not self._map):
            for rows in self._kept:
                self._sum(*rows)
            self._kept.clear()

    def _sum(self, f: Tensor, y: Tensor, d: Tensor) -> None:
        batch = {"f": f.sum(0), "y": y.sum(0), "d": d.sum(0), "dd": d.square().sum(0)}
        batch |= {"ff": _gram(f), "fd": f.T @ d}
        if not self._with_y:
            batch["fy"] = f.T @ y
            batch["yy"] = _gram(y) if self._map else y.square().sum(0)
            batch["yd"] = y.T @ d if self._map else (y * d).sum(0)
        for name, value in batch.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.double()

    @property
    def finite(self) -> bool:
        """Whether there are sums, all of them finite, as those of a chip that computes are."""
        return self.count > 0 and all(bool(value.isfinite().all()) for value in self._values())

    @property
    def size(self) -> int:
        """Number of sums, or of values in the rows."""
        return sum(value.numel() for value in self._values())

    def _values(self) -> Iterator[Tensor]:
        yield from self._sums.values()
        for rows in self._kept:
            yield from rows

    def statistics(self) -> Statistics:
        """Return means and covariances."""
        if self._kept:
            return self._of_rows()
        means = {name: self._sums[name] / self.count for name in "fyd"}

        def covariance(name: str) -> Tensor:
            value, (a, b) = self._sums[name] / self.count, (means[n] for n in name)
            return value - (torch.outer(a, b) if value.dim() == 2 else a * b)

        found: dict[str, Any] = {name: covariance(name) for name in self._sums if len(name) == 2}
        if self._with_y:
            first = len(means["f"]) - len(means["y"])
            found["fy"] = found["ff"][:, first:]
            found |= {"yy": found["fy"][first:], "yd": found["fd"][first:]}
            if not self._map:
                found |= {name: found[name].diagonal() for name in ("yy", "yd")}
        return Statistics(**self._with_origins(means), **found)

    def _of_rows(self) -> Statistics:
        parts = zip("fyd", zip(*self._kept, strict=True), strict=True)
        kept = {name: torch.cat(rows).double() for name, rows in parts}
        means = {name: rows.mean(0) for name, rows in kept.items()}
        f, y, d = (kept[name] - mean for name, mean in means.items())
        variances = {"yy": y.square().mean(0), "yd": (y * d).mean(0), "dd": d.square().mean(0)}
        empty = dict.fromkeys(("ff", "fy", "fd"), f.new_zeros(0, 0))
        return Statistics(**self._with_origins(means), **variances, **empty, rows=(f, y, d))

    def _with_origins(self, means: dict[str, Tensor]) -> dict[str, Any]:
        origins = zip("fyd", self._origins, strict=True)
        return {name: origin.double() + means[name] for name, origin in origins}


def _gram(columns: Tensor) -> Tensor:
    """Return columns^T columns, of wide ones half of it mirrored."""
    width = columns.shape[1]
    if width <= 256:
        return columns.T @ columns
    left, right = columns[:, : width // 2], columns[:, width // 2 :]
    across = left.T @ right
    upper = torch.cat([_gram(left), across], 1)
    return torch.cat([upper, torch.cat([across.T, _gram(right)], 1)])
