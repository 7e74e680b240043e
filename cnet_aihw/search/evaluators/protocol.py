"""What every evaluator of placements does; anything that does it can stand in a search."""

from __future__ import annotations

from typing import Any, Protocol

from cnet_aihw.compensation import Placement


class PlacementEvaluator(Protocol):
    """Says how accurate a network is on chips with a placement.

    It can be pickled by cloudpickle, and gives the same values in every process and in any order.
    """

    def key(self) -> str:
        """SHA-256 (hex) of all that determines a value but the placement."""

    def describe(self) -> dict[str, Any]:
        """The same as plain values, for records."""

    def evaluate(self, placement: Placement) -> tuple[float, ...]:
        """Return the accuracy of each chip in [0, 1], chip 0 first; leaves no trace.

        Raises:
            CnetError: for a placement that the network cannot take.
        """
