"""Tables made of records: one list of rows as text, Markdown, HTML or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from textwrap import wrap
from typing import Any

from cnet_aihw.runtime.records import write_text_atomic

Row = Mapping[str, Any]

_DASH = "-"
_HEADING = 9  # characters that a heading may have in a line, where its column is narrower
_IN_PERCENT = ("accuracy", "mIoU", "Dice", "mAP", "F1")


@dataclass(frozen=True)
class Metric:
    """How the scores of records are read and shown."""

    name: str = "accuracy"
    """Name of the score, as the task calls it."""

    higher_is_better: bool = True
    """Direction of the score."""

    @classmethod
    def of(cls, *records: Mapping[str, Any] | None) -> Metric:
        """Return the metric that the first record with one names; accuracy where none does."""
        for record in records:
            if record is not None and record.get("metric") is not None:
                return cls(record["metric"], record.get("higher_is_better", True))
        return cls()

    @property
    def unit(self) -> str:
        """Return the unit of columns: "%" for shares, "" for other numbers."""
        return "%" if self.name in _IN_PERCENT else ""

    @property
    def title(self) -> str:
        """Return the name as the beginning of a sentence."""
        return self.name[:1].upper() + self.name[1:]

    @property
    def label(self) -> str:
        """Return name and unit for an axis, such as "accuracy, %"."""
        return f"{self.name}, {self.unit}" if self.unit else self.name

    def shown(self, values: Iterable[float]) -> list[float]:
        """Return scores in the unit of tables and figures."""
        return [100.0 * value if self.unit else value for value in values]

    def text(self, score: float) -> str:
        """Write one score with its unit."""
        return percent_text(score) if self.unit else f"{score:.4g}"

    def best(self, rows: Iterable[Row], key: str) -> Row:
        """Return the row with the best score, the first of equals."""
        return (max if self.higher_is_better else min)(rows, key=lambda row: row[key])


ACCURACY = Metric()
"""The metric of classification, and of records that name none."""

SEVERAL = Metric("scores")
"""Stands for the metrics of a sweep's jobs where they differ; each row names its own."""


def percent_text(share: float) -> str:
    """Write a share in percent that does not break across lines."""
    return f"{100.0 * share:.2f}\N{NO-BREAK SPACE}%"


def counted(count: int, word: str) -> str:
    """Write a number of things: "1 chip", "2 chips"."""
    return f"{count} {word}{'' if count == 1 else 's'}"


def counted_in(rows: Iterable[Row], name: str, word: str) -> str:
    """Write the numbers in a column: "3 chips", or "3 or 5 chips" where rows differ."""
    counts = sorted({row[name] for row in rows})
    return " or ".join([*map(str, counts[:-1]), *(counted(count, word) for count in counts[-1:])])


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    """Key in the rows, and heading in a CSV file."""

    heading: str = ""
    """Heading elsewhere; empty: the name."""

    unit: str = ""
    """"%" for a share that is shown in percent, "s" for seconds, or another unit in words."""

    text: Callable[[Any], str] | None = None
    """Writes a value that is not None; None: by its type and unit."""

    def shown(self, value: Any) -> str:
        """Write a value as tables show it."""
        if value is None or value == "":
            return _DASH
        if self.text is not None:
            return self.text(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return str(value)
        if self.unit == "%":
            return f"{100.0 * value:.2f}"
        if self.unit == "s":
            return f"{value:,.1f}"
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    @property
    def glued(self) -> str:
        """Return the heading with its unit, which does not break from the last word."""
        return self._with_unit("\N{NO-BREAK SPACE}")

    @property
    def title(self) -> str:
        """Return the heading with its unit."""
        return self._with_unit(" ")

    def _with_unit(self, space: str) -> str:
        return space.join(filter(None, (self.heading or self.name, self.unit)))


@dataclass(frozen=True)
class Table:
    """Rows of raw values under columns."""

    name: str
    """Name of its file, without a suffix."""

    columns: Sequence[Column]
    """Columns in order."""

    rows: Sequence[Row]
    """Values by the columns' names; a missing one counts as None."""

    def filled(self, *left_out: str) -> Table:
        """Return the table without columns that have no value, and without those named."""
        columns = [
            column
            for column in self.columns
            if column.name not in left_out
            and any(row.get(column.name) is not None for row in self.rows)
        ]
        return Table(self.name, columns, self.rows)

    def cells(self) -> list[list[str]]:
        """Return the rows as written."""
        return [[c.shown(row.get(c.name)) for c in self.columns] for row in self.rows]

    def is_number(self, column: Column) -> bool:
        """Say whether a column has numbers in it."""
        values = [row.get(column.name) for row in self.rows]
        return any(isinstance(v, int | float) and not isinstance(v, bool) for v in values)

    def as_text(self, title: str = "") -> str:
        """Write aligned lines, for a terminal: title, headings, a rule, one line a row.

        Headings wider than what stands under them go over several lines.
        """
        cells = self.cells()
        columns = list(zip(*cells, strict=True)) or [()] * len(self.columns)
        widest = [max(map(len, found), default=0) for found in columns]
        headings = [
            [
                line.replace("\N{NO-BREAK SPACE}", " ")
                for line in wrap(column.glued, max(width, _HEADING), break_long_words=False)
            ]
            for column, width in zip(self.columns, widest, strict=True)
        ]
        high = max(map(len, headings), default=0)
        headings = [[""] * (high - len(heading)) + heading for heading in headings]
        widths = [
            max(width, *map(len, heading)) for width, heading in zip(widest, headings, strict=True)
        ]
        left = [not self.is_number(column) for column in self.columns]
        above, below = (
            [
                "  ".join(
                    cell.ljust(width) if to_left else cell.rjust(width)
                    for cell, width, to_left in zip(line, widths, left, strict=True)
                ).rstrip()
                for line in lines
            ]
            for lines in (zip(*headings, strict=True), cells)
        )
        rule = "-" * (sum(widths) + 2 * max(len(widths) - 1, 0))
        return "\n".join([*([title] if title else []), *above, rule, *below]) + "\n"

    def as_markdown(self) -> str:
        """Write a Markdown table."""
        lines = [[column.title for column in self.columns], *self.cells()]
        written = ["| " + " | ".join(c.replace("|", r"\|") for c in line) + " |" for line in lines]
        return "\n".join([written[0], "|" + "---|" * len(self.columns), *written[1:]])

    def as_html(self) -> str:
        """Write a ``<table>`` element; numbers have the class ``number``, all else ``text``."""
        kinds = ["number" if self.is_number(column) else "text" for column in self.columns]
        headings = "".join(
            f'<th scope="col" class="{kind}">{escape(column.heading or column.name)}'
            + (f" <span>{escape(column.unit)}</span>" if column.unit else "")
            + "</th>"
            for column, kind in zip(self.columns, kinds, strict=True)
        )
        lines = "\n".join(
            "<tr>"
            + "".join(
                f'<td class="{kind}">{escape(cell)}</td>'
                for cell, kind in zip(cells, kinds, strict=True)
            )
            + "</tr>"
            for cells in self.cells()
        )
        return f"<table>\n<thead><tr>{headings}</tr></thead>\n<tbody>\n{lines}\n</tbody>\n</table>"

    def as_csv(self) -> str:
        """Write all columns and rows with the values of the records; None is empty."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([column.name for column in self.columns])
        for row in self.rows:
            writer.writerow([row.get(column.name) for column in self.columns])
        return text.getvalue()

    def write(self, folder: Path) -> None:
        """Write NAME.csv into a folder."""
        write_text_atomic(folder / f"{self.name}.csv", self.as_csv())
