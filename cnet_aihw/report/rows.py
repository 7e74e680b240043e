"""Tables that a job writes, as JSON and text: their rows from the contents of artifacts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnet_aihw.report.load import first_of_each
from cnet_aihw.report.run_tables import HIDDEN, NETWORK, calibration_cost_of
from cnet_aihw.report.search_tables import placement_text, searches_columns
from cnet_aihw.report.tables import Column, Metric, Table
from cnet_aihw.runtime.records import write_json_atomic, write_text_atomic

_MEASURED = ("t_inference", "clean", "mean", "std", "q05", "min", "max", "yield", "chips", "seed")
_CROSSBAR = ("levels", "adc_bits", "adc_cost")
_ADDED = ("overhead_weights", "overhead_macs")
_DEVICE_LINES = {
    "gain": "programmed / nominal weight, as a whole",
    "error_std": "error of a weight / largest weight, std",
    "relative_mean": "error / weight, mean",
    "relative_std": "error / weight, std",
    "sign_flips": "weights with the other sign %",
    "zeros": "weights that became 0 %",
    "zeros_moved": "weights of 0 that moved %",
    "saturated": "weights programmed as the largest %",
    "values": "different weights on a chip",
    "snr_weights_db": "outputs over their error, from weights, dB",
    "snr_periphery_db": "outputs over their error, from the periphery, dB",
    "snr_db": "outputs over their error, dB",
}


def results_rows(
    results: Sequence[Mapping[str, Any]],
    recovery: Callable[[float, float], float | None],
    plain: str = "plain",
) -> list[dict[str, Any]]:
    """Return one row for each measured network and time; a network that was selected has one, too.

    Args:
        results: contents of chips.json, chips-compensated.json and chips-selected.json.
        recovery: recovery of a score over a clean one, as the task defines it.
        plain: training whose clean score, without compensation, the recovery refers to.
    """
    rows = [
        {
            "training": result["training"],
            "compensation": result.get("compensation", {}).get("label"),
            "search": result.get("compensation", {}).get("search"),
            "calibration": result["calibration"]["label"],
            **calibration_cost_of(result),
            **{name: result[name] for name in _ADDED},
            **{name: result["crossbar"][name] for name in _CROSSBAR},
            **{name: statistics.get(name) for name in _MEASURED},
            "failed": statistics.get("failed") or None,
            "recovery": None,
        }
        for result in first_of_each(results, lambda result: result)
        for statistics in result["statistics"]
    ]
    of_plain = [r for r in rows if r["training"] == plain and r["compensation"] is None]
    for row in rows:
        if of_plain:
            row["recovery"] = recovery(row["mean"], of_plain[0]["clean"])
    return rows


def searches_rows(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row for each search that was made.

    Args:
        found: contents of search.json.
    """
    rows = []
    for record in found:
        result = record["result"]
        if result is not None:
            row = {column.name: result.get(column.name) for column in searches_columns(Metric())}
            seconds = round(result["seconds"], 1)
            placement = placement_text(result["placement"])
            row |= {"training": record["training"], "search": result["searcher"]}
            rows.append({**row, "seconds": seconds, "placement": placement})
    return rows


def selection_columns(metric: Metric) -> tuple[Column, ...]:
    """Return the columns of a table of candidates among which one is selected."""
    return (
        *NETWORK,
        Column("mean", unit=metric.unit),
        Column("std", unit=metric.unit),
        Column("q05", "worst 5 % quantile", metric.unit),
        Column("overhead_weights", "weights added", "%"),
        Column("overhead_macs", "MACs added", "%"),
        Column("allowed"),
        Column("chips"),
    )


def device_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return the table of a device check: one line a number, one column a time."""
    times = [
        "just programmed" if (t := r["t_inference"]) is None else f"after {t:g} s" for r in rows
    ]
    lines = [
        {"": words, **{t: _device_value(n, r[n]) for t, r in zip(times, rows, strict=True)}}
        for n, words in _DEVICE_LINES.items()
    ]
    return Table("device", [Column(""), *map(Column, times)], lines)


def _device_value(name: str, value: float | None) -> str:
    if value is None:
        return "exact" if name.endswith("_db") else "-"
    if _DEVICE_LINES[name].endswith("%"):
        return f"{100.0 * value:.2f}"
    return f"{value:.4g}"


def write_table(
    path: Path,
    record: Mapping[str, Any],
    title: str,
    columns: Callable[[Metric], Sequence[Column]],
    notes: Sequence[str] = (),
) -> None:
    """Write a record with ``rows`` as JSON, and its table as text beside it, and show the table.

    Args:
        path: the JSON file.
        record: the whole record; it names the metric.
        title: stands above the table.
        columns: columns of the table, for a metric.
        notes: lines below the table.
    """
    columns_here = list(columns(Metric.of(record)))
    table = Table(path.stem, columns_here, record["rows"]).filled(*HIDDEN).as_text(title)
    text = "\n".join([table, *notes, record["command"]]) + "\n"
    write_json_atomic(path, record)
    write_text_atomic(path.with_suffix(".txt"), text)
    print(f"\n{text}", flush=True)
