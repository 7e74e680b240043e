"""The table of searches: made of records alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cnet_aihw.jobs.table import render
from cnet_aihw.runtime.records import write_json_atomic

if TYPE_CHECKING:
    from cnet_aihw.jobs.pipeline import Run

SEARCH_COLUMNS = (
    *("training", "search", "seed", "evaluations", "cached", "reward", "accuracy", "std", "q05"),
    *("overhead_weights", "overhead_macs", "seconds", "placement"),
)
"""Columns in order; reward and accuracy are of the best placement, on the search's own chips."""


def search_rows(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a table of searches; fractions stay in [0, 1].

    Args:
        found: what each training's search.json holds.

    Returns:
        One row for each search that was made, with the keys of `SEARCH_COLUMNS`.
    """
    rows = []
    for record in found:
        result = record["result"]
        if result is not None:
            chosen = (f"{name} {choice}" for name, choice in result["placement"].items())
            row = {name: result.get(name) for name in SEARCH_COLUMNS}
            row |= {"training": record["training"], "search": result["searcher"]}
            row |= {
                "seconds": round(result["seconds"], 1),
                "placement": ", ".join(chosen) or "none",
            }
            rows.append(row)
    return rows


def render_searches(run: Run, found: Sequence[Mapping[str, Any]]) -> None:
    """Write the table of a job's searches and show it.

    Args:
        run: the job.
        found: what each training's search.json holds.
    """
    rows = search_rows(found)
    notes = "".join(
        f"{record['training']} was not searched: {record['reason']}.\n"
        for record in found
        if record["result"] is None
    )
    table = render(
        "searches, on validation chips of their own", rows, SEARCH_COLUMNS, as_named=("seed",)
    )
    text = f"{table}\n{notes}{run.command}\n"
    write_json_atomic(run.folder / "searches.json", {"command": run.command, "rows": rows})
    (run.folder / "searches.txt").write_text(text, encoding="utf-8")
    print(f"\n{text}", flush=True)
