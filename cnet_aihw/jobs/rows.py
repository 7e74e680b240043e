"""Tables of a job: rows from artifacts, written as JSON and text and shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cnet_aihw.jobs.artifacts import FORMAT, SEARCHES, TABLE
from cnet_aihw.report.run_tables import HIDDEN, results_columns
from cnet_aihw.report.search_tables import placement_text, searches_columns
from cnet_aihw.report.tables import Column, Metric, Table
from cnet_aihw.runtime.records import write_json_atomic

if TYPE_CHECKING:
    from cnet_aihw.jobs.context import JobContext
    from cnet_aihw.tasks import Task

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
    results: Sequence[Mapping[str, Any]], task: Task, plain: str = "plain"
) -> list[dict[str, Any]]:
    """Return one row for each measured network and time.

    Args:
        results: contents of chips.json, chips-compensated.json and chips-selected.json.
        task: writes the recovery.
        plain: training whose clean score, without compensation, the recovery refers to.
    """
    rows = [
        {
            "training": result["training"],
            "compensation": result.get("compensation", {}).get("label"),
            "search": result.get("compensation", {}).get("search"),
            "calibration": result["calibration"]["label"],
            **{name: result[name] for name in _ADDED},
            **{name: result["crossbar"][name] for name in _CROSSBAR},
            **{name: statistics.get(name) for name in _MEASURED},
            "failed": statistics.get("failed") or None,
            "recovery": None,
        }
        for result in results
        for statistics in result["statistics"]
    ]
    of_plain = [r for r in rows if r["training"] == plain and r["compensation"] is None]
    for row in rows:
        if of_plain:
            row["recovery"] = task.recovery(row["mean"], of_plain[0]["clean"])
    return rows


def write_results(
    job: JobContext, results: Sequence[Mapping[str, Any]], notes: Sequence[str]
) -> None:
    """Write the table of a job's measurements and show it: table.json and table.txt."""
    made = results[0]["provenance"]
    title = "  ".join(f"{name}: {value}" for name, value in made["choices"].items())
    rows = results_rows(results, job.task)
    more = {**made["choices"], "noise_model": made["noise_model"]}
    notes = [*notes, f"device: {made['noise_model']}"]
    _write(job, TABLE, title, rows, notes, results_columns, more)


def write_searches(job: JobContext, found: Sequence[Mapping[str, Any]]) -> None:
    """Write the table of a job's searches and show it: searches.json and searches.txt.

    Args:
        job: the job.
        found: content of each training's search.json.
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
    notes = [
        f"{record['training']} was not searched: {record['reason']}."
        for record in found
        if record["result"] is None
    ]
    title = "searches, on validation chips of their own"
    _write(job, SEARCHES, title, rows, notes, searches_columns, {})


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


def _write(
    job: JobContext,
    name: str,
    title: str,
    rows: Sequence[Mapping[str, Any]],
    notes: Sequence[str],
    columns: Any,
    more: Mapping[str, Any],
) -> None:
    from cnet_aihw.jobs.nodes import plain_values

    record = {
        "format": FORMAT,
        "command": job.command,
        "task": plain_values(job.config.task),
        "metric": job.task.metric,
        "higher_is_better": job.task.higher_is_better,
        **more,
        "rows": rows,
    }
    table = Table(name, columns(Metric.of(record)), rows).filled(*HIDDEN).as_text(title)
    text = "\n".join([table, *notes, job.command]) + "\n"
    path = job.folder / name
    write_json_atomic(path, record)
    path.with_suffix(".txt").write_text(text, encoding="utf-8")
    print(f"\n{text}", flush=True)
