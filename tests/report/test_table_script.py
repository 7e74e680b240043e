"""The script that sorts long tables, in node with the few parts of a page that it needs."""

import json
import shutil
import subprocess
from importlib.resources import files

import pytest

from cnet_aihw.report.tables import Column, Table

NODE = shutil.which("node")
PAGE = """
class Element {
  constructor(text, kind) { Object.assign(this, {textContent: text, kind, said: {}, does: {}}); }
  get classList() { return {add() {}, contains: name => name === this.kind}; }
  setAttribute(name, value) { this.said[name] = value; }
  getAttribute(name) { return this.said[name] ?? null; }
  removeAttribute(name) { delete this.said[name]; }
  addEventListener(name, action) { this.does[name] = action; }
  append() {}
  before() {}
}
const {headings, lines} = JSON.parse(process.argv[1]);
const cells = headings.map(kind => new Element("", kind));
for (const cell of cells) cell.parentElement = {cells};
const rows = lines.map(line => ({cells: line.map(text => new Element(text))}));
const body = {rows, append(...sorted) { this.rows = sorted; }};
const table = {tBodies: [body], tHead: {rows: [{cells}]}, parentElement: new Element()};
const document = {querySelectorAll: () => [table], createElement: () => new Element()};
const shown = column => body.rows.map(row => row.cells[column].textContent);
"""


@pytest.mark.skipif(NODE is None, reason="node is not installed")
@pytest.mark.parametrize(
    ("column", "values", "rising"),
    [
        (
            Column("time", unit="s"),
            [1234.5, 2.0, None, 99.0, 100000.0, 1000.0, 5.0, 7.0],
            ["2.0", "5.0", "7.0", "99.0", "1,000.0", "1,234.5", "100,000.0", "-"],
        ),
        (
            Column("name"),
            ["net10", None, "net9", "b", "3 of 5", "a", "c", "d"],
            ["3 of 5", "a", "b", "c", "d", "net9", "net10", "-"],
        ),
    ],
)
def test_columns_are_sorted_by_value_with_absent_ones_last(
    column: Column, values: list[object], rising: list[str]
) -> None:
    table = Table("some", [column], [{column.name: value} for value in values])
    kind = "number" if table.is_number(column) else "text"
    given = json.dumps({"headings": [kind], "lines": table.cells()})
    script = (files("cnet_aihw.report") / "templates" / "tables.js").read_text()
    click = "cells[0].does.click(); console.log(JSON.stringify(shown(0)));"
    run = [str(NODE), "-e", f"{PAGE}\n{script}\n{click}\n{click}", given]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    first, second = map(json.loads, done.stdout.splitlines())
    assert first == rising
    assert second == [*reversed(rising[:-1]), "-"]
