"""Tables of searches: which record each value is taken from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from cnet_aihw.report.load import RunRecords, Search
from cnet_aihw.report.tables import Column, Metric, Table

SEARCH_TEXT = (
    "The best placement that each search found; scores are those of the search, on its own "
    "validation chips."
)


def searches_columns(metric: Metric) -> tuple[Column, ...]:
    """Return the columns of a table of searches, for job, sweep and page."""
    return (
        Column("training"),
        Column("search"),
        Column("seed"),
        Column("evaluations"),
        Column("cached"),
        Column("budget"),
        Column("reward", unit="%"),
        Column("score", metric.name, metric.unit),
        Column("std", unit=metric.unit),
        Column("q05", "worst 5 % quantile", metric.unit),
        Column("overhead_weights", "weights added", "%"),
        Column("overhead_macs", "MACs added", "%"),
        Column("seconds", "time", "s"),
        Column("placement"),
    )


def searches_table(run: RunRecords) -> Table:
    """Return one row for each search: the best of its evaluations, from search.jsonl."""
    rows = []
    for training in run.trainings:
        for search in training.searches:
            if not search.rows:
                continue
            best = max(search.rows, key=lambda row: row["reward"])  # the first of equals
            rows.append(
                {
                    **best,
                    "training": training.name,
                    "search": search.searcher,
                    "seed": search.seed,
                    "evaluations": len(search.rows),
                    "cached": sum(bool(row["cached"]) for row in search.rows),
                    "budget": search.described.get("budget"),
                    "seconds": math.fsum(r["seconds"] for r in search.rows if not r["cached"]),
                    "placement": placement_text(best["placement"]),
                }
            )
    return Table("searches", searches_columns(run.metric), rows)


def evaluations_table(name: str, searches: Iterable[Search], metric: Metric) -> Table:
    """Return all evaluations of some searches, from search.jsonl."""
    columns = (
        *(Column("searcher"), Column("seed"), *map(Column, ("evaluation", "reward"))),
        *(Column("best_reward"), Column("score", metric.name), Column("std"), Column("q05")),
        *(Column("overhead_weights"), Column("overhead_macs"), Column("cached")),
        *(Column("seconds"), Column("placement")),
    )
    rows = [
        {
            **row,
            "searcher": search.searcher,
            "seed": search.seed,
            "placement": placement_text(row["placement"]),
        }
        for search in searches
        for row in search.rows
    ]
    return Table(f"search-{name}", columns, rows)


def limit_of(searches: Iterable[Search]) -> tuple[str, float | None]:
    """Return the measure of the overhead, ``weights`` or ``macs``, and the limit all searches had.

    The limit is None where searches had different ones.
    """
    problems = [search.problem for search in searches if search.problem]
    macs = bool(problems) and problems[0]["objective"]["overhead"] == "macs"
    measure = "macs" if macs else "weights"
    # before there were two limits, "limit" was that of the measure
    limits = {
        problem.get("limit_macs" if macs else "limit", problem["limit"]) for problem in problems
    }
    return measure, limits.pop() if len(limits) == 1 else None


def placement_text(placement: Mapping[str, Any]) -> str:
    """Write a placement in a few words."""
    shares = (f"{n}: {r:g}" if isinstance(r, float) else f"{n}: {r}" for n, r in placement.items())
    return ", ".join(shares) or "none"
