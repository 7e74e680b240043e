"""The table of a job or a sweep: made of records alone, shown with rich."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

COLUMNS = (
    *("training", "compensation", "search", "calibration"),
    *("overhead_weights", "overhead_macs", "t_inference"),
    *("levels", "adc_bits", "adc_cost"),
    *("clean", "mean", "std", "q05", "min", "yield", "recovery", "chips", "seed"),
)
"""Columns in order; one that has no value in any row is left out where the table is shown."""

_PERCENT = (
    *("overhead_weights", "overhead_macs", "reward", "accuracy"),
    *("clean", "mean", "std", "q05", "min", "yield", "recovery"),
)
_ADDING = ("compensation", "calibration", "digital")
_HEADINGS = {
    "overhead_weights": "weights added",
    "overhead_macs": "MACs added",
    "t_inference": "seconds since programming",
    "adc_bits": "ADC bits",
    "adc_cost": "ADC steps",
    "seed": "chips' seed",
}


def rows_of(results: Sequence[Mapping[str, Any]], plain: str = "plain") -> list[dict[str, Any]]:
    """The rows of a table; fractions stay in [0, 1].

    Args:
        results: what each chips.json and chips-compensated.json holds.
        plain: the training to whose clean accuracy the recovery is relative.

    Returns:
        One row for each result and time, with the keys of `COLUMNS`, None for what there is not.
        What is added is the compensation, the calibration and the layers that are not on crossbars.
    """
    reference = next(
        (
            result["statistics"][0]["clean"]
            for result in results
            if result["training"] == plain and "compensation" not in result
        ),
        None,
    )
    rows = []
    for result in results:
        for statistics in result["statistics"]:
            row = {name: statistics.get(name) for name in COLUMNS}
            row["training"] = result["training"]
            crossbar = result.get("crossbar", {})  # earlier versions wrote none
            for name in ("levels", "adc_bits", "adc_cost"):
                row[name] = crossbar.get(name)
            if "compensation" in result:
                row["compensation"] = result["compensation"]["label"]
                row["search"] = result["compensation"].get("search")
            row["calibration"] = result.get("calibration", {}).get("label")
            for name in ("overhead_weights", "overhead_macs"):
                row[name] = _added(result, name)
            row["recovery"] = statistics["mean"] / reference if reference else None
            rows.append(row)
    return rows


def _added(result: Mapping[str, Any], name: str) -> float | None:
    """What compensation, calibration and layers off the crossbars add; None where there is none."""
    parts = (result.get(part, {}).get(name) for part in _ADDING)  # earlier versions wrote fewer
    added = [value for value in parts if value]
    if not added and "compensation" not in result:
        return None
    return sum(added)


def render(
    title: str,
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str] = COLUMNS,
    as_named: Sequence[str] = (),
) -> str:
    """The table as text; accuracies, yield and recovery in percent.

    Args:
        title: what stands above.
        rows: values by column; a missing one is None.
        columns: which columns, in order.
        as_named: columns whose heading is their name as it stands.

    Returns:
        Lines of text, as wide as the table needs.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    shown = [name for name in columns if any(row.get(name) is not None for row in rows)]
    for name in shown:
        heading = (name if name in as_named else _HEADINGS.get(name, name)) + (
            " %" if name in _PERCENT else ""
        )
        table.add_column(heading, justify="left" if name == shown[0] else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(_cell(name, row.get(name)) for name in shown))
    console = Console(file=io.StringIO(), width=1000, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()).strip("\n") + "\n"


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name in _PERCENT:
        return f"{100.0 * value:.2f}"
    return f"{value:g}" if isinstance(value, float) else str(value)
