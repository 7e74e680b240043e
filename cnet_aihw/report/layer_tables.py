"""Tables of a run's layers: which record each value is taken from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cnet_aihw.report.load import RunRecords, Training
from cnet_aihw.report.run_tables import NETWORK, network_of
from cnet_aihw.report.tables import Column, Table

_LAYER = (Column("layer"), Column("index"))


def growth_table(run: RunRecords) -> Table:
    """Return the growth of the error through the layers, from chips*.json."""
    columns = (
        *(*NETWORK, *_LAYER, Column("mean"), Column("low"), Column("high")),
        *(Column("chips"), Column("failed", "failed chips"), Column("samples")),
    )
    rows = [
        {**row, **network_of(measured)}
        for measured in run.measurements
        for row in measured.record.get("error_growth", ())
    ]
    return Table("error-growth", columns, rows)


def norms_table(run: RunRecords) -> Table:
    """Return spectral norms of the selected epoch, from epochs.jsonl; lambda from result.json."""
    rows: list[dict[str, Any]] = []
    for training in run.trainings:
        if training.result is None:
            continue
        chosen = training.result["best_epoch"]
        of_chosen = (record for record in training.epochs if record["epoch"] == chosen)
        norms = next(of_chosen, {}).get("spectral_norms", {})
        rows += [
            {
                "training": training.name,
                "layer": layer,
                "spectral_norm": norm,
                "lambda": training.result["lambda_"],
            }
            for layer, norm in norms.items()
        ]
    columns = (Column("training"), Column("layer"), Column("spectral_norm"), Column("lambda"))
    return Table("spectral-norms", columns, rows)


def sensitivity_table(run: RunRecords) -> Table:
    """Return the score with variation in some layers only, and the candidates, from scan.json."""
    unit = run.metric.unit
    columns = (
        *(Column("training"), Column("mode"), *_LAYER, Column("clean", unit=unit)),
        *(Column("mean", unit=unit), Column("std", unit=unit)),
        *(Column("ci95_low", unit=unit), Column("ci95_high", unit=unit), Column("chips")),
        *(Column("seed"), Column("candidate")),
    )
    rows = [
        {
            **row,
            "training": training.name,
            "candidate": row["layer"] in training.scan["candidates"],
        }
        for training in run.trainings
        if training.scan is not None
        for row in training.scan["rows"]
    ]
    return Table("sensitivity", columns, rows)


def placement_table(run: RunRecords) -> Table:
    """Return the compensation of each layer and its cost, from compensation.json."""
    columns = (
        *(Column("training"), Column("layer"), Column("ratio"), Column("candidate")),
        *(Column("weights", "weights added"), Column("macs", "MACs added")),
    )
    rows: list[dict[str, Any]] = []
    for training in run.trainings:
        described = training.compensation
        if described is None or not described["placement"]:
            continue
        candidates = described["candidates"] or ()
        layers = dict.fromkeys([*_layers(training), *described["placement"]])
        rows += [
            {
                "training": training.name,
                "layer": layer,
                "ratio": described["placement"].get(layer, 0.0),
                "candidate": layer in candidates,
                "weights": described["weights"].get(layer, 0),
                "macs": described["macs"].get(layer, 0),
            }
            for layer in layers
        ]
    return Table("placement", columns, rows)


def filters_table(run: RunRecords) -> Table:
    """Return the error left in each layer's output by number of filters, from compensation.json."""
    columns = (
        *(Column("training"), Column("layer"), Column("filters")),
        *(Column("error", "error left / wanted output", "%"), Column("placed", "filters placed")),
    )
    rows = [
        {
            "training": training.name,
            "layer": layer,
            "filters": filters,
            "error": error,
            "placed": found["placed"],
        }
        for training in run.trainings
        for layer, found in ((training.compensation or {}).get("filters") or {}).items()
        for filters, error in enumerate(found["errors"])
    ]
    return Table("filters", columns, rows)


def _layers(training: Training) -> Sequence[str]:
    """Return the analog layers in the order of execution, as far as records name them."""
    for measured in training.measurements:
        if measured.record.get("error_growth"):
            return [row["layer"] for row in measured.record["error_growth"]]
    rows = (training.scan or {}).get("rows", ())
    return list(dict.fromkeys(row["layer"] for row in rows))
