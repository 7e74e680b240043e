"""The interface of evaluators."""

from __future__ import annotations

from typing import Any, Protocol

from cnet_aihw.compensation import Placement


class PlacementEvaluator(Protocol):
    """Measures a network on chips with a placement.

    It can be pickled by cloudpickle, and returns the same values in every process and in any order.
    One with a method ``gains(problem)`` can say, without any evaluation, which share of each
    layer's wanted output its choices win back, as :meth:`cnet_aihw.search.Evaluations.gains`
    returns it.
    An evaluator with a ``device`` attribute ("cpu", "cuda", "cuda:1") on CUDA needs GPUs for the
    worker processes that it runs in.
    """

    def key(self) -> str:
        """Return the SHA-256 (hex) of all that determines a value but the placement."""

    def describe(self) -> dict[str, Any]:
        """Return the same as plain values, for records; ``measurement.metric`` names the score."""

    def evaluate(self, placement: Placement) -> tuple[float | None, ...]:
        """Return the score of each chip, chip 0 first; the evaluator is as before afterwards.

        None stands for a chip whose outputs are not finite.

        Raises:
            CnetError: for a placement that the network cannot take.
        """
