"""Writes of each cell, and their limit."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import check_count


class CellWrites:
    """Counts writes of cells: a cell is written where another weight is asked for than lies there.

    Args:
        limit: writes that a cell endures; None: any number.

    Attributes:
        counts: layer -> writes of each cell, [out, in / groups * kernel].
        weights: layer -> weights that were asked for last, of the same shape.

    Raises:
        CnetError: for a limit below 1.
    """

    @checked
    def __init__(self, limit: int | None = None) -> None:
        if limit is not None:
            check_count("limit", limit)
        self.limit = limit
        self.counts: dict[str, Tensor] = {}
        self.weights: dict[str, Tensor] = {}

    def note(self, layer: str, weight: Tensor) -> Tensor:
        """Count a write of a layer.

        Args:
            layer: name of the layer.
            weight: weights asked for, [out, in / groups * kernel].

        Returns:
            The cells that are written, booleans of the same shape.

        Raises:
            CnetError: where a cell would be written more often than it endures; nothing is counted.
        """
        weight = weight.detach()
        if layer in self.counts:
            changed, counts = weight != self.weights[layer], self.counts[layer]
        else:
            changed = torch.ones_like(weight, dtype=torch.bool)
            counts = torch.zeros(weight.shape, dtype=torch.int64, device=weight.device)
        after = counts + changed
        if self.limit is not None and int(after.max()) > self.limit:
            self.refuse(layer, int(after.max()))
        self.counts[layer], self.weights[layer] = after, weight.clone()
        return changed

    def check(self, more: int) -> None:
        """Refuse writes of all cells in advance.

        Args:
            more: writes of each cell that are to come.

        Raises:
            CnetError: where they would be more than a cell endures.
        """
        if self.limit is not None and self.most + more > self.limit:
            self.refuse(None, self.most + more)

    def refuse(self, layer: str | None, writes: int) -> None:
        """Refuse a number of writes."""
        where = "a cell" if layer is None else f"a cell of {layer!r}"
        fix = "tune less (fewer epochs, a larger write_every, or tune=progressive), or raise it"
        raise CnetError(
            f"{where} would be written {writes} times, but max_writes is {self.limit}; {fix}.",
            key="max_writes",
            value=writes,
            expected=self.limit,
            fix=fix,
        )

    @property
    def most(self) -> int:
        """Writes of the cell that was written most often."""
        return max((int(counts.max()) for counts in self.counts.values()), default=0)

    @property
    def total(self) -> int:
        """Writes of all cells together."""
        return sum(int(counts.sum()) for counts in self.counts.values())

    @property
    def mean(self) -> float:
        """Mean number of writes of a cell."""
        cells = sum(counts.numel() for counts in self.counts.values())
        return self.total / cells if cells else 0.0

    def state(self) -> dict[str, Tensor]:
        """Return counts and weights as named tensors."""
        return {
            **{f"counts/{layer}": counts for layer, counts in self.counts.items()},
            **{f"weights/{layer}": weight for layer, weight in self.weights.items()},
        }

    def load(self, state: Mapping[str, Tensor], device: torch.device) -> None:
        """Put back what :meth:`state` returned."""
        for kind in ("counts", "weights"):
            found = {n.partition("/")[2]: t for n, t in state.items() if n.startswith(f"{kind}/")}
            setattr(self, kind, {n: t.to(device, copy=True) for n, t in found.items()})
