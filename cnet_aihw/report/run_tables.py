"""The tables of a run: which record each value is taken from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from cnet_aihw.report.load import Measurement, RunRecords
from cnet_aihw.report.tables import Column, Table

RESULTS = (
    Column("training"),
    Column("compensation"),
    Column("search"),
    Column("calibration", "per chip"),
    Column("t_inference", "since programming", "s"),
    Column("clean", unit="%"),
    Column("mean", "mean", "%"),
    Column("std", unit="%"),
    Column("q05", "5 % quantile", "%"),
    Column("min", "worst chip", "%"),
    Column("yield", unit="%"),
    Column("threshold", unit="%"),
    Column("recovery", unit="%"),
    Column("overhead_weights", "weights added", "%"),
    Column("overhead_macs", "MACs added", "%"),
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
NETWORK = (Column("training"), Column("compensation"))
"""Which network a row is of."""


def results_table(run: RunRecords) -> Table:
    """One row for each network and time.

    All from chips*.json; recovery and what is added or converted from table.json, times from
    result.json and chips*.jsonl.
    """
    in_table = {_key(row): row for row in run.table.get("rows", ())}
    rows: list[dict[str, Any]] = []
    for training in run.trainings:
        for measured in training.measurements:
            for statistics in measured.record["statistics"]:
                row = {**statistics, **network_of(measured), "search": measured.search}
                row = {**in_table.get(_key(row), {}), **row}
                told = {**measured.record.get("compensation", {}), **in_table.get(_key(row), {})}
                for name in ("calibration", "overhead_weights", "overhead_macs"):
                    row[name] = told.get(name)
                if "calibration" in measured.record:  # earlier versions wrote none
                    row["calibration"] = measured.record["calibration"]["label"]
                row["recovery"] = in_table.get(_key(row), {}).get("recovery")
                row["training_seed"] = _seed(measured)
                row["training_seconds"] = (training.result or {}).get("seconds")
                row["chips_seconds"] = _seconds(measured, statistics["t_inference"])
                row["command"] = measured.record.get("command")
                rows.append(row)
    return Table("results", RESULTS, rows)


def results_text(results: Table) -> str:
    """What the numbers of such a table are."""
    text = (
        "Accuracy on the test part: clean, and over chips programmed with the variation (std: "
        "standard deviation over chips)."
    )
    least = sorted({row["threshold"] for row in results.rows if row.get("threshold") is not None})
    if least:
        reached = " or ".join(f"{100.0 * threshold:g}\N{NO-BREAK SPACE}%" for threshold in least)
        text += f" Yield is the share of chips with an accuracy of at least {reached}."
    return text


def chips_table(run: RunRecords) -> Table:
    """The accuracy of each chip, from the statistics in chips*.json."""
    columns = (*NETWORK, Column("t_inference"), Column("chip"), Column("accuracy", unit="%"))
    rows = [
        {
            **network_of(measured),
            "t_inference": statistics["t_inference"],
            "chip": chip,
            "accuracy": accuracy,
        }
        for measured in run.measurements
        for statistics in measured.record["statistics"]
        for chip, accuracy in enumerate(statistics["accuracies"])
    ]
    return Table("chips", columns, rows)


def epochs_table(run: RunRecords, fit: bool = False) -> Table:
    """Each epoch of the trainings, or of the fits of compensation, from epochs.jsonl."""
    names = ("clean_accuracy", "chip_accuracy", "chip_std", "train_accuracy")
    columns = (
        *(Column("training"), Column("epoch"), Column("loss"), Column("penalty"), Column("lr")),
        *(Column(name, unit="%") for name in names),
        Column("seconds", unit="s"),
    )
    rows = [
        {**record, "training": training.name}
        for training in run.trainings
        for record in (training.fit if fit else training.epochs)
    ]
    return Table("fit-epochs" if fit else "epochs", columns, rows)


def network_of(measured: Measurement) -> dict[str, Any]:
    """Which network a measurement is of, by the names of `NETWORK`."""
    return {"training": measured.training, "compensation": measured.compensation}


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["training"], row.get("compensation"), row.get("t_inference")


def _seed(measured: Measurement) -> Any:
    return measured.record.get("config", {}).get("training", {}).get("seed")


def _seconds(measured: Measurement, t_inference: float | None) -> float | None:
    seconds = [r["seconds"] for r in measured.chips if r.get("t_inference") == t_inference]
    return math.fsum(seconds) if seconds else None
