"""Tables of the pages in Markdown, from rows of records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def percent(key: str, digits: int = 2) -> Callable[[Row], str]:
    """A share as percent; a dash where there is none."""
    return lambda row: "-" if row.get(key) is None else f"{100 * row[key]:.{digits}f}"


def text(key: str) -> Callable[[Row], str]:
    """A value as it is; a dash where there is none."""
    return lambda row: "-" if row.get(key) in (None, "") else str(row[key])


def number(key: str, digits: int = 2) -> Callable[[Row], str]:
    """A number with so many digits behind the point."""
    return lambda row: f"{row[key]:.{digits}f}"


def table(rows: Sequence[Row], columns: Mapping[str, Callable[[Row], str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(cell(row) for cell in columns.values()) + " |" for row in rows]
    return "\n".join(lines)


CHIPS = {
    "clean %": percent("clean"),
    "mean %": percent("mean"),
    "std": percent("std"),
    "5 % quantile": percent("q05"),
    "chips": text("chips"),
    "seed": text("seed"),
}
"""The columns of a mean over chips."""
