"""Tables of tuning on chips, from the contents of TRAINING/tuning-*.json."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cnet_aihw.report.load import RunRecords
from cnet_aihw.report.run_tables import NETWORK
from cnet_aihw.report.tables import Column, Metric, Table

TUNINGS_TEXT = (
    "Networks that were tuned on the one chip that they are used on, beside the network as it was "
    "on the same chips. Each write draws what is fresh again, around what lasts from device to "
    "device. Writes are those of a cell. The calibration of each chip, such as correctors fitted "
    "to it, is measured in place of the tuning and on top of it; it adds digital weights. Other "
    "chips have the tuned weights, too, but other variation."
)

_COPIED = (
    *("tune", "backward", "rewrite_sigma", "before", "score", "std", "min", "max", "others"),
    *("per_chip", "tuned_per_chip", "writes_mean", "writes_most", "forwards", "angle"),
    *("overhead", "chips", "seconds"),
)


def tuning_columns(metric: Metric) -> tuple[Column, ...]:
    """Return the columns of a table of tunings."""
    unit = metric.unit
    return (
        *NETWORK,
        Column("tune"),
        Column("backward"),
        Column("rewrite_sigma", "fresh at a write", text="{:g}".format),
        Column("before", unit=unit),
        Column("score", "tuned", unit),
        Column("std", unit=unit),
        Column("min" if metric.higher_is_better else "max", "worst chip", unit),
        Column("others", "on other chips", unit),
        Column("per_chip", "calibrated instead", unit),
        Column("tuned_per_chip", "calibrated on top", unit),
        Column("overhead", "calibration: weights added", "%"),
        Column("writes_mean", "writes", text="{:.4g}".format),
        Column("writes_most", "most writes"),
        Column("forwards", "samples", text="{:.0f}".format),
        Column("angle", "angle to exact", "degrees", text="{:.0f}".format),
        Column("chips"),
        Column("seconds", "seconds a chip", text="{:.1f}".format),
    )


def tuning_rows(found: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row for each network and way.

    Args:
        found: contents of tuning-*.json.
    """
    return [{**_network(result), **{name: result[name] for name in _COPIED}} for result in found]


def tunings_table(run: RunRecords) -> Table:
    """Return the table of all tunings of a run."""
    return Table("tunings", tuning_columns(run.metric), tuning_rows(_found(run)))


def course_table(run: RunRecords) -> Table:
    """Return the course of each tuning: score on the validation part after each epoch."""
    columns = (
        *NETWORK,
        Column("tune"),
        Column("backward"),
        Column("rewrite_sigma"),
        Column("layer", "written last"),
        Column("written", "layers written"),
        Column("epoch"),
        Column("writes_mean", "writes"),
        Column("forwards", "samples"),
        Column("score", "on the chip, validation part", run.metric.unit),
    )
    names = ("tune", "backward", "rewrite_sigma")
    rows = [
        {**_network(result), **{name: result[name] for name in names}, **entry}
        for result in _found(run)
        for entry in result["curve"]
    ]
    return Table("tuning-course", columns, rows)


def _found(run: RunRecords) -> list[Mapping[str, Any]]:
    return [record for training in run.trainings for record in training.tunings]


def _network(result: Mapping[str, Any]) -> dict[str, Any]:
    return {name: result[name] for name in ("training", "compensation", "calibration")}
