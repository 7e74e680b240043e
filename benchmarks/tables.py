"""Columns of the pages' tables; Markdown is written by the package's one renderer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cnet_aihw.report.tables import Column, Table

Row = Mapping[str, Any]


def percent(key: str, digits: int = 2) -> Callable[[Row], str]:
    """Write a share as percent; a dash where there is none."""
    return lambda row: "-" if row.get(key) is None else f"{100 * row[key]:.{digits}f}"


def text(key: str) -> Callable[[Row], str]:
    """Write a value verbatim; a dash where there is none."""
    return lambda row: "-" if row.get(key) in (None, "") else str(row[key])


def number(key: str, digits: int = 2) -> Callable[[Row], str]:
    """Write a number with some digits after the point."""
    return lambda row: f"{row[key]:.{digits}f}"


def table(rows: Sequence[Row], columns: Mapping[str, Callable[[Row], str]]) -> str:
    """Return a Markdown table."""
    cells = [{heading: cell(row) for heading, cell in columns.items()} for row in rows]
    return Table("page", list(map(Column, columns)), cells).as_markdown()


CHIPS = {
    "clean %": percent("clean"),
    "mean %": percent("mean"),
    "std": percent("std"),
    "5 % quantile": percent("q05"),
    "chips": text("chips"),
    "seed": text("seed"),
}
"""The columns of a mean over chips."""
