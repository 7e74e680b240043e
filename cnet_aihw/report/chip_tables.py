"""Tables of the same chips without and with compensation, from chips*.json."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any

from cnet_aihw.report.load import Measurement, RunRecords
from cnet_aihw.report.run_tables import NETWORK, network_of
from cnet_aihw.report.tables import Column, Metric, Table


def recovered_chips_table(run: RunRecords) -> Table:
    """Return each chip's score without and with compensation, at the first time of both.

    The recovered share of a chip is (with - without) / (clean - without); None for a chip from
    which the variation takes nothing.
    """
    unit = run.metric.unit
    columns = (
        *NETWORK,
        Column("chip"),
        Column("without", unit=unit),
        Column("with", unit=unit),
        Column("clean", unit=unit),
        Column("recovered", "recovered share", "%"),
    )
    rows = [
        {**network_of(after), "chip": chip, **_compared(bare, fitted, clean, run.metric)}
        for before, after in _pairs(run)
        for clean, scores in [_scores(before, after)]
        for chip, (bare, fitted) in enumerate(scores)
        if bare is not None and fitted is not None
    ]
    return Table("recovered-chips", columns, rows)


def recovered_table(run: RunRecords) -> Table:
    """Return, for each network with compensation, its chips without and with it in few numbers."""
    metric, rows = run.metric, []
    worst = min if metric.higher_is_better else max
    for network in _networks(recovered_chips_table(run)):
        bare = [row["without"] for row in network]
        fitted = [row["with"] for row in network]
        means = [math.fsum(values) / len(values) for values in (bare, fitted)]
        better = [
            (f > b) if metric.higher_is_better else (f < b)
            for b, f in zip(bare, fitted, strict=True)
        ]
        rows.append(
            {
                **{column.name: network[0][column.name] for column in NETWORK},
                **_compared(means[0], means[1], network[0]["clean"], metric),
                "worst_without": worst(bare),
                "worst_with": worst(fitted),
                "better": sum(better) / len(better),
                "chips": len(network),
            }
        )
    columns = (
        *NETWORK,
        Column("without", "mean without", metric.unit),
        Column("with", "mean with", metric.unit),
        Column("recovered", "recovered share", "%"),
        Column("worst_without", "worst chip without", metric.unit),
        Column("worst_with", "worst chip with", metric.unit),
        Column("better", "chips that gain", "%"),
        Column("chips"),
    )
    return Table("recovered", columns, rows)


RECOVERED_TEXT = (
    "The same chips without and with compensation. The recovered share is what compensation brings "
    "back of what the variation takes: (with - without) / (clean - without), where it takes "
    "something."
)


def _pairs(run: RunRecords) -> Iterator[tuple[Measurement, Measurement]]:
    """Yield measurements of one training on the same chips, without and with compensation."""
    for training in run.trainings:
        bare = [m for m in training.measurements if m.compensation is None]
        for after in training.measurements:
            if after.compensation is not None and bare:
                yield bare[0], after


def _scores(
    before: Measurement, after: Measurement
) -> tuple[float, list[tuple[float | None, float | None]]]:
    """Return the clean score without compensation, and each chip's two scores at the first time.

    There are none where the chips, their device or the times are others.
    """
    bare, fitted = (m.record["statistics"] for m in (before, after))
    devices = [m.provenance.get("noise_model") for m in (before, after)]
    for first, then in product(bare, fitted):
        same = (first[name] == then[name] for name in ("seed", "t_inference"))
        if devices[0] == devices[1] and all(same):
            return first["clean"], list(zip(first["scores"], then["scores"], strict=False))
    return bare[0]["clean"], []


def _compared(without: float, with_: float, clean: float, metric: Metric) -> dict[str, Any]:
    sign = 1.0 if metric.higher_is_better else -1.0
    lost = sign * (clean - without)
    share = sign * (with_ - without) / lost if lost > 0.0 else None
    return {"without": without, "with": with_, "clean": clean, "recovered": share}


def _networks(chips: Table) -> Iterator[list[Any]]:
    groups: dict[tuple[Any, ...], list[Any]] = {}
    for row in chips.rows:
        groups.setdefault(tuple(row[column.name] for column in NETWORK), []).append(row)
    yield from groups.values()
