"""What a search ends with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cnet_aihw.compensation import Placement
from cnet_aihw.search.budgeted import Evaluations
from cnet_aihw.search.problem import Plan


@dataclass(frozen=True)
class SearchResult:
    """The best placement that a search evaluated; accuracies are in [0, 1]."""

    searcher: str
    """Name of the searcher."""

    seed: int
    """Seed of the search."""

    placement: Placement
    """The placement with the highest reward."""

    plan: Plan
    """The same as indices of choices."""

    reward: float
    """Its reward: objective over chips - overhead."""

    accuracy: float
    """Its mean accuracy over chips."""

    std: float
    """Standard deviation of its accuracy over chips."""

    q05: float
    """5 % quantile of its accuracy over chips."""

    overhead_weights: float
    """Its overhead in weights."""

    overhead_macs: float
    """Its overhead in MACs."""

    evaluations: int
    """Placements that the search evaluated, those from the store included."""

    cached: int
    """How many of them were in the store already."""

    seconds: float
    """Time that the others took, added up over processes."""

    def as_record(self) -> dict[str, Any]:
        """All fields as plain values."""
        return {
            **{name: value for name, value in vars(self).items() if name != "placement"},
            "placement": dict(self.placement),
            "plan": list(self.plan),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> SearchResult:
        """Return what :meth:`as_record` wrote."""
        placement, plan = Placement(record["placement"]), tuple(record["plan"])
        return cls(**{**record, "placement": placement, "plan": plan})

    @classmethod
    def of(cls, evaluations: Evaluations, searcher: str, seed: int) -> SearchResult:
        """Read the result off a search's evaluations, at least one."""
        best, rows = evaluations.best, evaluations.rows
        assert best is not None
        best_row = asdict(best)
        names = ("reward", "accuracy", "std", "q05", "overhead_weights", "overhead_macs")
        return cls(
            searcher=searcher,
            seed=seed,
            placement=Placement(best.placement),
            plan=best.plan,
            evaluations=len(rows),
            cached=sum(row.cached for row in rows),
            seconds=math.fsum(row.seconds for row in rows if not row.cached),
            **{name: best_row[name] for name in names},
        )
