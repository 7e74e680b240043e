"""Tables of results in the pages of docs: columns in short, and the marks between which they are.

A column is written as `heading=key:format`: the key of the rows' values, and a format of Python
(`.1%` in percent), or one of `FORMATS`. The key is the heading where it is left out, and some
headings have keys and formats of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import HERE
from cnet_aihw.report.tables import Column, Table

DOCS = HERE.parent / "docs"
README = HERE.parent / "README.md"
Row = Mapping[str, Any]

KNOWN = {
    "weights +%": "overhead_weights:.2%",
    "MACs +%": "overhead_macs:.2%",
    "clean %": "clean:.2%",
    "mean %": "mean:.2%",
    "std": "std:.2%",
    "5 % quantile": "q05:.2%",
    "recovery %": "recovery:.1%",
}
"""Heading -> key and format."""

OVER_CHIPS = "clean % | mean % | std | 5 % quantile | chips"


def duration(seconds: float) -> str:
    """Write a time in the largest unit that it has one of."""
    units = {"year": 31536000.0, "month": 2592000.0, "day": 86400.0, "h": 3600.0, "s": 1.0}
    name, unit = next((name, unit) for name, unit in units.items() if seconds >= unit)
    return f"{seconds / unit:g} {name}"


FORMATS: dict[str, Callable[[Any], str]] = {
    "": str,
    "yes": lambda value: "yes" if value else "-",
    "interval": lambda ends: " to ".join(f"{100 * end:.1f}" for end in ends),
    "names": lambda names: ", ".join(names) or "none",
}


def cell(value: Any, form: str) -> str:
    """Write a value; a dash where there is none."""
    if value is None or value == "":
        return "-"
    if form in FORMATS:
        return FORMATS[form](value)
    return format(value, form).removesuffix("%")


def table(rows: Iterable[Row], columns: str) -> str:
    """Return a Markdown table of the columns, which `|` separates."""
    head, cells = cells_of(rows, columns)
    lines = [dict(zip(head, line, strict=True)) for line in cells]
    return Table("page", [Column(heading) for heading in head], lines).as_markdown()


def grid(rows: Iterable[Row], columns: str) -> str:
    """Return the same as `table`, in the form of the pages of neighbours."""
    head, cells = cells_of(rows, columns)
    lines = [head, ["---"] * len(head), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cells_of(rows: Iterable[Row], columns: str) -> tuple[list[str], list[list[str]]]:
    """Return the headings of the columns, and the cells of each row as they are written."""
    named = []
    for column in columns.split(" | "):
        heading, _, given = column.partition("=")
        key, _, form = (given or KNOWN.get(heading, heading)).partition(":")
        named.append((heading, key, form))
    cells = [[cell(row.get(key), form) for _, key, form in named] for row in rows]
    return [heading for heading, _, _ in named], cells


def find(rows: Iterable[Row], **values: Any) -> Row | None:
    """Return the first row with the values; a key that it lacks counts as None."""
    return next((r for r in rows if all(r.get(key) == v for key, v in values.items())), None)


def pivot(
    rows: Iterable[Row], identity: Sequence[str], column: Callable[[Row], str],
    cell: Callable[[Row], str],
) -> list[dict[str, Any]]:  # fmt: skip
    """Return a line for each identity, with a cell for each row, and the last row's values."""
    lines: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        line = lines.setdefault(tuple(row.get(name) for name in identity), {})
        line |= {**row, column(row): cell(row)}
    return list(lines.values())


def put(path: Path, blocks: Mapping[str, str]) -> None:
    """Put texts between their marks in a page, where they replace what is there."""
    page = path.read_text(encoding="utf-8")
    for name, text in blocks.items():
        begin, end = f"<!-- {name}: begin -->\n", f"\n<!-- {name}: end -->"
        if page.count(begin) != 1 or page.count(end) != 1:
            raise SystemExit(f"{path} needs the marks {begin.strip()} and {end.strip()} once each.")
        before, _, rest = page.partition(begin)
        page = f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}"
    path.write_text(page, encoding="utf-8")
