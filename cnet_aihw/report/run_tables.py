"""Tables of a run: results, chips, epochs; which record each value is taken from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cnet_aihw.report.load import Measurement, RunRecords
from cnet_aihw.report.tables import SEVERAL, Column, Metric, Table

NETWORK = (
    Column("training"),
    Column("compensation"),
    Column("calibration", "calibration per chip"),
)
"""Which network a row is of."""

COSTS = (
    Column("images", "inputs per chip"),
    Column("passes", "passes per chip"),
    Column("fit_seconds", "to fit a chip", "s", text="{:.3g}".format),
)
"""Cost of fitting a chip, in tables of results."""

HIDDEN = ("command", "training_seed", "threshold", "folder")
"""Columns that a page leaves to its CSV file."""


def results_columns(metric: Metric) -> tuple[Column, ...]:
    """Return the columns of a table of networks on chips, for job, sweep and page."""
    unit = metric.unit
    return (
        *NETWORK[:2],
        Column("search"),
        NETWORK[2],
        Column("t_inference", "since programming", "s"),
        Column("clean", unit=unit),
        Column("mean", unit=unit),
        Column("std", unit=unit),
        Column("q05", "worst 5 % quantile", unit),
        Column("min" if metric.higher_is_better else "max", "worst chip", unit),
        Column("yield", unit="%"),
        Column("threshold", unit=unit),
        Column("recovery", unit="%"),
        Column("failed", "failed chips"),
        Column("overhead_weights", "weights added", "%"),
        Column("overhead_macs", "MACs added", "%"),
        *COSTS,
        Column("levels"),
        Column("adc_bits", "ADC bits"),
        Column("adc_cost", "ADC steps"),
        Column("chips"),
        Column("seed", "chips' seed"),
        Column("training_seed", "training's seed"),
        Column("training_seconds", "to train", "s"),
        Column("chips_seconds", "on chips", "s"),
        Column("command"),
    )


def worse_with_correctors(rows: Iterable[Mapping[str, Any]], metric: Metric) -> Iterator[str]:
    """Yield a sentence for each network whose score correctors lower, by more than chance would.

    That is two standard errors of a difference between means over several chips.

    Args:
        rows: of each network and time ``training``, ``compensation``, ``t_inference``, ``mean``,
            ``std``, ``chips``, ``failed`` ones among them, and ``images`` of a fit to each chip.
        metric: the score.
    """
    bare: dict[tuple[str, float | None], Mapping[str, Any]] = {}
    for row in rows:
        key = row["training"], row["t_inference"]
        if row["compensation"] is None:
            bare.setdefault(key, row)
        elif (other := bare.get(key)) is not None:
            errors = [e for e in map(_standard_error, (other, row)) if e is not None]
            lost = (other["mean"] - row["mean"]) * (1 if metric.higher_is_better else -1)
            if len(errors) == 2 and lost > 2 * math.hypot(*errors):
                time = "" if key[1] is None else f" at {key[1]:g} s"
                aim = ", or another compensation.per_chip.target" if row.get("images") else ""
                yield (
                    f"{key[0]} is worse with its correctors{time}: {metric.text(row['mean'])}, and "
                    f"{metric.text(other['mean'])} without; give compensation=none{aim}."
                )


def _standard_error(row: Mapping[str, Any]) -> float | None:
    """Return the standard error of a mean over chips; None where not two chips have a score."""
    scores = row["chips"] - (row.get("failed") or 0)
    return row["std"] / math.sqrt(scores) if scores > 1 else None


def results_table(run: RunRecords) -> Table:
    """Return one row for each network and time.

    All from chips*.json; recovery and costs from table.json, times from result.json and
    chips*.jsonl.
    """
    rows: list[dict[str, Any]] = []
    for training in run.trainings:
        for measured in training.measurements:
            for statistics in measured.record["statistics"]:
                row = {**statistics, **network_of(measured), "search": measured.search}
                tabled = _tabled(run.table, row)
                costs = {**measured.record.get("compensation", {}), **tabled}
                if "calibration" not in measured.record:  # an earlier version
                    row["calibration"] = costs.get("calibration")
                rows.append(
                    {
                        **tabled,
                        **row,
                        **calibration_cost_of(measured.record),
                        "failed": row.get("failed") or None,
                        "overhead_weights": costs.get("overhead_weights"),
                        "overhead_macs": costs.get("overhead_macs"),
                        "unknown_macs": measured.record.get("digital", {}).get("unknown_macs"),
                        "recovery": tabled.get("recovery"),
                        "training_seed": (training.settings or {}).get("seed"),
                        "training_seconds": (training.result or {}).get("seconds"),
                        "chips_seconds": _seconds(measured, statistics["t_inference"]),
                        "command": measured.record.get("command"),
                    }
                )
    return Table("results", results_columns(run.metric), rows)


def results_text(results: Table, metric: Metric) -> str:
    """Return the caption of a table of results."""
    text = (
        f"{metric.title} on the test part: clean, and over chips "
        "programmed with the variation (std: standard deviation over chips)."
    )
    if not metric.higher_is_better:
        text += " Lower is better."
    least = sorted({row["threshold"] for row in results.rows if row.get("threshold") is not None})
    if least and metric != SEVERAL:
        reached = " or ".join(map(metric.text, least))
        at = "at least" if metric.higher_is_better else "at most"
        text += f" Yield is the share of chips with {metric.name} of {at} {reached}."
    if any(row.get("failed") for row in results.rows):
        text += " Chips whose outputs are not finite have failed: they have no score."
    unknown = {name for row in results.rows for name in row.get("unknown_macs") or ()}
    if unknown:
        text += f" MACs of {', '.join(sorted(unknown))} are digital and cannot be counted."
    return text


def chips_table(run: RunRecords) -> Table:
    """Return the score of each chip, from the statistics in chips*.json."""
    columns = (
        *NETWORK,
        Column("t_inference"),
        Column("chip"),
        Column("score", run.metric.name, run.metric.unit),
    )
    rows = [
        {
            **network_of(measured),
            "t_inference": statistics["t_inference"],
            "chip": chip,
            "score": score,
        }
        for measured in run.measurements
        for statistics in measured.record["statistics"]
        for chip, score in enumerate(statistics["scores"])
        if score is not None
    ]
    return Table("chips", columns, rows)


def epochs_table(run: RunRecords, fit: bool = False) -> Table:
    """Return each epoch of the trainings, or of the fits of compensation, from epochs.jsonl."""
    names = ("clean_score", "chip_score", "chip_std", "train_score")
    columns = (
        *(Column("training"), Column("epoch"), Column("loss"), Column("penalty"), Column("lr")),
        *(Column(name, unit=run.metric.unit) for name in names),
        Column("seconds", unit="s"),
    )
    rows = [
        {**record, "training": training.name}
        for training in run.trainings
        for record in (training.fit if fit else training.epochs)
    ]
    return Table("fit-epochs" if fit else "epochs", columns, rows)


def network_of(measured: Measurement) -> dict[str, Any]:
    """Return which network a measurement is of, by the names of `NETWORK`."""
    return {
        "training": measured.training,
        "compensation": measured.compensation,
        "calibration": measured.record.get("calibration", {}).get("label"),
    }


def calibration_cost_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the mean cost of fitting a chip, by the names of `COSTS`, from chips*.json."""
    cost = record.get("calibration", {}).get("cost") or {}
    return {
        "images": cost.get("images"),
        "passes": cost.get("passes"),
        "fit_seconds": cost.get("seconds"),
    }


def _tabled(table: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of table.json that was made of the same statistics; empty where none was.

    Records of an earlier version do not name their calibration.
    """
    same = ["training", "compensation", "t_inference", "mean"]
    same += ["calibration"] if row.get("calibration") is not None else []
    for listed in table.get("rows", ()):
        if all(listed.get(name) == row.get(name) for name in same):
            return dict(listed)
    return {}


def _seconds(measured: Measurement, t_inference: float | None) -> float | None:
    seconds = [r["seconds"] for r in measured.chips if r.get("t_inference") == t_inference]
    return math.fsum(seconds) if seconds else None
