"""A search on Ray's dashboard under its own name, and its figures among Ray's metrics."""

from __future__ import annotations

import secrets
from functools import cache
from typing import Any

from cnet_aihw.cluster.session import NAMESPACE
from cnet_aihw.search.budgeted import Evaluations, TraceRow
from cnet_aihw.search.rllib.status import SearchStatus

METRICS = {
    "best_reward": "Highest reward",
    "best_score": "Mean score over chips of the best placement",
    "best_overhead": "Overhead in weights of the best placement",
    "evaluations": "Placements evaluated",
    "cache_hits": "Placements whose value was known already",
}
"""Names, after ``cnet_search_``, and meanings of the metrics; each has the tag ``search``."""


class SearchMonitor:
    """Shows a search as an actor with its name and as metrics; an observer of its evaluations.

    Ray must run. The actor lives as long as the search; its ``status()`` returns the figures.

    Args:
        name: name of the search; if another one on the same Ray has it, letters are added.
        searcher: name of the searcher.
    """

    def __init__(self, name: str, searcher: str) -> None:
        import ray

        self._tags = {"search": name}
        self._status: dict[str, Any] = {"search": name, "searcher": searcher, "status": "running"}
        actor: Any = ray.remote(SearchStatus)
        options: dict[str, Any] = {"num_cpus": 0, "max_restarts": -1, "namespace": NAMESPACE}
        self._actor: Any
        try:
            self._actor = actor.options(name=name, **options).remote(self._status)
        except ValueError:  # the name is taken
            name = f"{name}-{secrets.token_hex(2)}"
            self._actor = actor.options(name=name, **options).remote(self._status)
        self.name = name
        """Name of the actor."""

    def evaluated(self, row: TraceRow, evaluations: Evaluations) -> None:
        """Show one evaluation."""
        best = evaluations.best
        assert best is not None
        figures = {
            "best_reward": best.reward,
            "best_score": best.score,
            "best_overhead": best.overhead_weights,
            "evaluations": row.evaluation,
            "cache_hits": sum(earlier.cached for earlier in evaluations.rows),
        }
        for name, gauge in _gauges().items():
            gauge.set(float(figures[name]), self._tags)
        self._status |= {
            **figures,
            "budget": evaluations.budget,
            "best_placement": dict(best.placement),
        }
        self._actor.update.remote(self._status)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Show the searcher's own figures in the status, at once."""
        self._status |= {"searcher_figures": dict(values)}
        self._actor.update.remote(self._status)

    def close(self) -> None:
        """End the actor."""
        import ray

        ray.kill(self._actor)


@cache
def _gauges() -> dict[str, Any]:
    from ray.util.metrics import Gauge

    return {
        name: Gauge(f"cnet_search_{name}", meaning, tag_keys=("search",))
        for name, meaning in METRICS.items()
    }
