"""Rows of the tables of docs/kernels.md and docs/uncertainty.md, with all that stands in a line."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean
from typing import Any

from benchmarks.common import result
from benchmarks.tables import Row

PUBLISHED = {1: (81.90, 82.19), 3: (85.50, 85.57), 5: (86.34, 86.23)}
"""magic, RBF, RFF: log2 ratio -> accuracy in software and on the chip of Büchel et al., in percent,
means over ten projections of their published measurements."""

SOURCES = {
    "deterministic": "digital, plain",
    "MC dropout": "MC dropout, T {samples}",
    "deep ensemble": "deep ensemble of {samples}",
    "laplace": "Laplace, T {samples}",
    "mean binary weights": "means of binary weights, digital",
    "cells": "cells, sigma {sigma:g}, T {samples}",
    "chips": "plain, {samples} chips, sigma {sigma:g}",
    "readings": "plain, {samples} readings of one chip, sigma {sigma:g}",
}
"""Method -> name of a line."""

CORRECTED = {"none": "", "temperature": ", temperature", "logit_affine": ", affine by class"}
AFTER = {1.0: "just programmed", 3600.0: "after an hour", 86400.0: "after a day"}


def kernels() -> Iterator[Row]:
    """Yield the rows of kernels.json with their baselines, named by deviation and way."""
    found = result("kernels")
    rows = [dict(zip(found["columns"], row, strict=True)) for row in found["rows"]]
    last = {row["data"]: row["log2_ratio"] for row in rows}  # the largest of each set
    measured: dict[tuple[Any, ...], list[float]] = {}
    for row in found["baselines"]:
        one = tuple(row[key] for key in ("data", "method", "kernel", "s"))
        measured.setdefault(one, []).append(row["accuracy"])
    baselines = {one: fmean(of_seeds) for one, of_seeds in measured.items()}
    for row in rows:
        data, paper = row["data"], PUBLISHED.get(row["log2_ratio"], (None, None))
        yield {
            **row, "at": f"{row['sigma']:g} {row['way']}".strip(),
            "largest": row["log2_ratio"] == last[data],
            "exact": baselines.get((data, "KernelRidge", row["kernel"], None)),
            "linear ridge": baselines.get((data, "linear ridge", None, None)),
            **{method: baselines.get((data, method, "rbf", row["s"]))
               for method in ("RBFSampler", "Nystroem")},
            "published": paper[0], "published_chip": paper[1],
        }  # fmt: skip


def attention() -> Iterator[Row]:
    """Yield the errors of Performer attention."""
    for ratio, sigma, error in result("kernels")["attention"]:
        yield {"log2_ratio": ratio, "sigma": sigma, "error": error}


def uncertainty() -> Iterator[Row]:
    """Yield the rows of bayes.json with the name of their line."""
    for row in result("bayes")["rows"]:
        line = SOURCES[row["method"]].format(**row).replace("1 readings of one chip", "one chip")
        if "t" in row:
            line = AFTER[row["t"]] + (", amplified" if row["corrected_nu"] else "")
        yield {**row, "line": line + CORRECTED[row["correction"]], "over_time": "t" in row,
               "unknown": "auroc_entropy" in row}  # fmt: skip
