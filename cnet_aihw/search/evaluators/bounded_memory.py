"""Values within a number of bytes."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any


class BoundedMemory:
    """Values by key within a number of bytes; the least worth keeping go first.

    Source: GreedyDual-Size-Frequency (Cherkasova, HP Labs 1998): worth = uses * cost / bytes, on
    top of that of what was dropped last.

    Args:
        limit: largest number of bytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.bytes = limit, 0
        self._kept: dict[Hashable, _Kept] = {}
        self._clock = 0.0

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept

    def get(self, key: Hashable) -> Any:
        """Return a value, or None."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        kept.uses += 1
        kept.rank = self._clock + kept.uses * kept.density
        return kept.value

    def put(self, key: Hashable, value: Any, size: int, cost: float) -> None:
        """Keep a value, if there is room or something less worth keeping.

        Args:
            key: its key.
            value: the value.
            size: its bytes.
            cost: work that it saves when used, in any unit.
        """
        if key in self._kept or size > self.limit:
            return
        new = _Kept(value, size, cost / max(size, 1), self._clock + cost / max(size, 1))
        while self.bytes + size > self.limit:
            least = min(self._kept, key=lambda name: self._kept[name].rank)
            if self._kept[least].rank > new.rank:
                return
            dropped = self._kept.pop(least)
            self._clock = max(self._clock, dropped.rank)
            self.bytes -= dropped.size
        self._kept[key] = new
        self.bytes += size


@dataclass
class _Kept:
    value: Any
    size: int
    density: float
    rank: float
    uses: int = 1
