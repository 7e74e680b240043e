"""Tables of kernel features on chips, from the content of kernels.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnet_aihw.report.load import RunRecords
from cnet_aihw.report.tables import Column, Metric, Table

KERNELS_TEXT = (
    "Random features of kernels, whose projection lies on a crossbar, with a ridge regression of "
    "classes on them. s is the number of rows of the projection. The error of the kernel is that "
    "of the products of features against the exact kernel, relative, in the Frobenius norm. "
    "Figures in software are means over projections, those on chips over projections and chips. "
    "Predicted is the error in closed form, for independent rows (rff) and devices that have one. "
    "Methods of scikit-learn stand below, all in software."
)


def kernel_columns(metric: Metric) -> tuple[Column, ...]:
    """Return the columns of the table."""
    return (
        Column("method"),
        Column("kernel"),
        Column("features"),
        Column("log2_ratio", "log2 s/d"),
        Column("s"),
        Column("clean", "in software", metric.unit),
        Column("mean", "on chips", metric.unit),
        Column("std", unit=metric.unit),
        Column("q05", "worst 5 % quantile", metric.unit),
        Column("clean_error", "error of the kernel"),
        Column("error", "on chips"),
        Column("error_std", "std"),
        Column("predicted_error", "predicted"),
        Column("scale", "matched by"),
        Column("failed"),
        Column("chips"),
        Column("seeds"),
    )


def kernel_rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one row for each kernel, features and size, then the baselines.

    Args:
        found: what :func:`cnet_aihw.kernels.measure_kernels` gives.
    """
    names = ("kernel", "features", "log2_ratio", "s", "predicted_error")
    rows = [
        {
            "method": f"on crossbars, read-out {found['readout']}",
            **{name: row[name] for name in names},
            "clean": row["clean_mean"],
            "mean": row["score_mean"],
            "std": row["score_std"],
            "q05": row["score_q05"],
            "clean_error": row["clean_error_mean"],
            "error": row["kernel_error_mean"],
            "error_std": row["kernel_error_std"],
            "scale": row["scale"] if found["match"] else None,
            "failed": row["failed"] or None,
            "chips": found["chips"],
            "seeds": found["seeds"],
        }
        for row in found["rows"]
    ]
    return rows + [
        {
            "method": row["method"],
            "kernel": row["kernel"],
            "features": None if row["features"] is None else str(row["features"]),
            "s": row["s"],
            "clean": row["clean_mean"],
        }
        for row in found["baselines"]
    ]


def kernels_table(run: RunRecords) -> Table:
    """Return the table of a run; without rows where there is none."""
    record = run.kernels or {}
    columns = kernel_columns(Metric.of(record))
    return Table("kernels", columns, record.get("rows", ())).filled("chips", "seeds")


def pairs_table(run: RunRecords) -> Table:
    """Return values of kernels between single samples."""
    names = ("kernel", "features", "s", "exact", "expected", "measured")
    return Table("kernel-pairs", [Column(n) for n in names], (run.kernels or {}).get("pairs", ()))
