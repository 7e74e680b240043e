"""Tables and words in the pages of docs, each between marks that say what is to stand there:

    <!-- table RESULT or RESULT.KEY
    where KEY = VALUE; VALUE
    across KEY:FORMAT of KEY, KEY = CELL
    by COLUMN | COLUMN
    COLUMN | COLUMN | COLUMN -->
    ...
    <!-- end -->

`where` leaves rows out; `across` makes one row of those that are equal in the keys after `of`, with
a column for each value of the first key, which stand where `*` is; `by` makes a table with a
heading for each of its values. All three can be missing. A column is `heading=key:format`, or
`heading=text with {key:format}`: the key of the rows' values (`a[b]` is within `a`), and a format
of Python (`.1%` in percent) or one of `FORMATS`. The key is the heading where it is left out, and
some headings have keys and formats of their own. A column with one value alone is said above its
table. After `<!-- words` stands a text with {names} of values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from string import Formatter
from typing import Any

from benchmarks.common import HERE
from benchmarks.figures import TITLES, duration

DOCS = HERE.parent / "docs"
README = HERE.parent / "README.md"
Row = Mapping[str, Any]
MARK = re.compile(r"(<!-- (table [\w.]+|words)\n(.+?) -->\n).*?(<!-- end -->)", re.DOTALL)
UNBROKEN = re.compile(r"(?<=\d) (±|to) (?=[-\d])")
NAMES = {
    **TITLES,
    "diabetes": "Regression, diabetes",
    "mlp_mnist": "MLP, MNIST",
    "cnn_cifar10": "CNN, CIFAR-10",
    "breast_cancer": "breast cancer",
    "mnist": "MNIST",
    "cifar10": "CIFAR-10",
    "lenet5": "LeNet-5 on CIFAR-10, one fit for all chips",
    "vgg16": "VGG16 of 1/8 width on CIFAR-10, sigma 0.3, one fit for all chips",
    "lenet5_per_chip": "LeNet-5 on CIFAR-10, fitted to each chip",
    "vgg16_per_chip": "VGG16 of 1/8 width on CIFAR-10, fitted to each chip",
}
"""Network, data or problem of a search -> how a page calls it; others are called as they are."""

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

FORMATS: dict[str, Callable[[Any], str]] = {
    "": str,
    "yes": lambda value: "yes" if value else "-",
    "interval": lambda ends: " to ".join(f"{100 * end:.1f}" for end in ends),
    "title": lambda name: NAMES.get(name, name),
    "duration": duration,
    "names": lambda names: ", ".join(names) or "none",
}


class Cells(Formatter):
    """Writes the values of a row; a dash where there is none."""

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> Any:
        """Return a value, which may have a name that is not one of Python."""
        if field_name in kwargs:
            return kwargs[field_name], field_name
        try:
            return super().get_field(field_name, args, kwargs)
        except (IndexError, KeyError, TypeError):
            return None, field_name

    def format_field(self, value: Any, format_spec: str) -> str:
        """Write a value."""
        if value is None or value == "":
            return "-"
        if format_spec in FORMATS:
            return FORMATS[format_spec](value)
        return format(value, format_spec).removesuffix("%")

    def cell(self, text: str, row: Row) -> str:
        """Write a row's values in a text; what follows `±` is left out where it has no value."""
        return self.vformat(text, (), row).replace(" ± -", "")


CELLS = Cells()


def cells_of(rows: Sequence[Row], columns: str) -> tuple[list[str], list[list[str]]]:
    """Return the headings of the columns, and the cells of each row as they are written."""
    heads, texts = [], []
    for column in columns.split(" | "):
        heading, _, text = column.partition("=")
        text = text or KNOWN.get(heading, heading)
        if "{" not in text:
            key = text.partition(":")[0].partition("[")[0]
            if rows and not any(key in row for row in rows):
                raise KeyError(key)
            text = f"{{{text}}}"
        heads.append(heading)
        texts.append(text)
    return heads, [[CELLS.cell(text, row) for text in texts] for row in rows]


def table(head: list[str], cells: list[list[str]], keep: Sequence[str] = ()) -> str:
    """Return a Markdown table; columns of one value are said above it, or not at all for dashes."""
    lines, said = [head, *cells], []
    if len(cells) > 2:
        same = [
            len(set(of[1:])) == 1 and of[0] not in keep for of in zip(head, *cells, strict=True)
        ]
        said = [f"{name} {cell}" for name, cell, one in zip(head, cells[0], same, strict=True)
                if one and cell != "-"]  # fmt: skip
        lines = [[c for c, one in zip(line, same, strict=True) if not one] for line in lines]
    text = "\n".join(
        "| " + " | ".join(c.replace("|", r"\|") for c in line) + " |" for line in lines
    )
    written = UNBROKEN.sub("\N{NO-BREAK SPACE}\\1\N{NO-BREAK SPACE}", text).split("\n")
    written.insert(1, "|" + "---|" * len(lines[0]))
    return "\n".join([f"All rows: {'; '.join(said)}.\n", *written] if said else written)


def find(rows: Iterable[Row], **values: Any) -> Row | None:
    """Return the first row with the values; a key that it lacks counts as None."""
    return next((r for r in rows if all(r.get(key) == v for key, v in values.items())), None)


def pivot(
    rows: Iterable[Row], identity: Sequence[str], column: Callable[[Row], str],
    cell: Callable[[Row], str],
) -> list[dict[str, Any]]:  # fmt: skip
    """Return a line for each identity, with a cell for each row, and the last row's values."""
    lines: dict[tuple[Any, ...], dict[str, Any]] = {}
    filled = set()
    for row in rows:
        one = tuple(row.get(name) for name in identity)
        if (one, head := column(row)) in filled:
            raise SystemExit(f"Two rows would stand in column {head} of {one}: leave one out with "
                             "`where`, or add what differs to the keys after `of`.")  # fmt: skip
        filled.add((one, head))
        line = lines.setdefault(one, {})
        line |= {**row, head: cell(row)}
    return list(lines.values())


def asked(rows: Sequence[Row], lines: str) -> str:
    """Return what the lines of a mark ask for of the rows of a result."""
    by, columns, heads = "", "", ["*"]
    for line in lines.replace(";\n", "; ").split("\n"):
        kind, _, words = line.partition(" ")
        key, _, values = words.partition(" = ")
        if kind == "where":
            wanted, there = values.split("; "), {str(row.get(key)) for row in rows}
            if there.intersection(wanted) and (missing := set(wanted) - there):
                raise KeyError(", ".join(missing))
            rows = [row for row in rows if str(row.get(key)) in wanted]
        elif kind == "across" and rows:
            key, _, identity = key.partition(" of ")
            rows, heads = _across(rows, key, identity, values)
        elif kind == "by":
            by = words
        else:
            columns = f"{columns} {line}".strip()
    if not rows:
        return "Not measured yet."
    head, cells = cells_of(rows, columns.replace("*", " | ".join(heads)))
    if not by:
        return table(head, cells, heads)
    parts: dict[str, list[list[str]]] = {}
    names, titles = cells_of(rows, by)
    for one, of in zip(cells, titles, strict=True):
        title = ", ".join(f"{n} {c}".strip() for n, c in zip(names, of, strict=True) if c != "-")
        parts.setdefault(title, []).append(one)
    return "\n\n".join(
        f"### {title}\n\n{table(head, part, heads)}" for title, part in parts.items()
    )


def _across(rows: Sequence[Row], key: str, identity: str, cell: str) -> tuple[list[Row], list[str]]:
    """Return rows with a column for each value of a key, numbers in their order; its headings."""
    name = key.partition(":")[0]
    if all(isinstance(row[name], int | float) for row in rows):
        rows = sorted(rows, key=lambda row: float(row[name]))

    def heading(row: Row) -> str:
        return CELLS.cell(f"{{{key}}}", row)

    found = pivot(rows, identity.split(", "), heading, lambda row: CELLS.cell(cell, row))
    return [*found], list(dict.fromkeys(map(heading, rows)))


def fill(path: Path, found: Callable[[str], Sequence[Row]], values: Mapping[str, Any]) -> None:
    """Put what the marks of a page ask for between them."""

    def made(mark: re.Match[str]) -> str:
        name, lines = mark[2].removeprefix("table "), mark[3]
        try:
            text = lines.format(**values) if name == "words" else asked(found(name), lines)
        except KeyError as error:
            raise SystemExit(f"{path}: {error} in {mark[1].strip()} is not known.") from None
        return f"{mark[1]}\n{text}\n\n{mark[4]}"

    page = path.read_text(encoding="utf-8")
    filled, count = MARK.subn(made, page)
    begun = len(re.findall(r"<!-- (?:table|words)\b", page))
    if not count == begun == page.count("<!-- end -->"):
        raise SystemExit(f"{path} has {begun} marks, of which {count} are whole: each begins with "
                         "<!-- table NAME or <!-- words and ends with <!-- end -->.")  # fmt: skip
    path.write_text(filled, encoding="utf-8")
