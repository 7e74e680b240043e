"""Tables made of records: raw values in a CSV file, rounded ones on the page."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnet_aihw.runtime.records import replace_file

_DASH = "-"


def percent_text(share: float) -> str:
    """A share in percent, in one piece."""
    return f"{100.0 * share:.2f}\N{NO-BREAK SPACE}%"


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    """Its name in the records and in the CSV file."""

    heading: str = ""
    """What stands above it on the page; empty: its name."""

    unit: str = ""
    """"%" for a share that is shown in percent, "s" for seconds, or another word for a unit."""

    def shown(self, value: Any) -> str:
        """A value as it stands on the page."""
        if value is None:
            return _DASH
        if isinstance(value, bool) or not isinstance(value, int | float):
            return str(value)
        if self.unit == "%":
            return f"{100.0 * value:.2f}"
        if self.unit == "s":
            return f"{value:,.1f}"
        return f"{value:.4g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Table:
    """Rows of raw values under columns."""

    name: str
    """Name of its file, without an ending."""

    columns: Sequence[Column]
    """In order."""

    rows: Sequence[Mapping[str, Any]]
    """Values by the columns' names; a missing one is None."""

    def as_csv(self) -> str:
        """All columns and rows, values as the records have them; None is empty."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([column.name for column in self.columns])
        for row in self.rows:
            writer.writerow([row.get(column.name) for column in self.columns])
        return text.getvalue()

    def write(self, folder: Path) -> None:
        """Write NAME.csv."""
        text = self.as_csv()
        path = folder / f"{self.name}.csv"
        replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))

    def filled(self, *left_out: str) -> Table:
        """Without the columns that have no value in any row, and those named."""
        columns = [
            column
            for column in self.columns
            if column.name not in left_out
            and any(row.get(column.name) is not None for row in self.rows)
        ]
        return Table(self.name, columns, self.rows)

    def kind(self, column: Column) -> str:
        """``number`` for a column with numbers in it, else ``text``."""
        values = [row.get(column.name) for row in self.rows]
        numbers = any(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        return "number" if numbers else "text"
