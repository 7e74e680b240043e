"""Put tables, figures and what words have figures in them into README.md and docs.

    python -m benchmarks.page

All is made from benchmarks/results. The words of the pages, and which columns their tables have,
are in docs; what is put there stands between marks (see benchmarks/tables.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from benchmarks import figures, neighbours, summary
from benchmarks.common import result
from benchmarks.findings import findings
from benchmarks.paper import page as paper
from benchmarks.tables import DOCS, README, Row, fill

MADE: dict[str, Callable[[], Iterable[Row]]] = {
    "chips": summary.chips,
    "means": summary.means,
    "startup": lambda: [{"what": k, "s": v} for k, v in result("startup")["seconds"].items()],
    "kernels": neighbours.kernels,
    "attention": neighbours.attention,
    "bayes": neighbours.uncertainty,
    "paper": paper.cells,
    "paper_summary": paper.summary,
    "paper_repetitions": lambda: paper.repetitions()[0],
    "paper_choices": paper.choices,
}
"""Name in a mark -> rows, where they are not simply those of the result of that name."""


def found(name: str) -> list[Row]:
    """Return the rows that a mark of a page names."""
    if name in MADE:
        return list(MADE[name]())
    file, _, key = name.partition(".")
    return list(result(file).get(key or "rows", []))


def scaling() -> dict[str, Any]:
    """The values in the words of docs/scaling.md."""
    of = result("scaling")
    rows, rates = of["rows"], of["seconds_for_each"]
    sizes, row = of["billion_network"], of["billion"][0]
    products = sizes["macs_per_input"] * row["inputs"] * sizes["chips"]
    programming = sizes["chips"] * row["programming_seconds"]
    families = [name for name in rates if name not in ("weight", "layer_call")]
    return {
        "cores": of["cores"], "load": f"{of['load']:.1f}", "speedup": f"{of['speedup']:.2f}",
        "alone": f"{rows[0]['seconds'] / rows[2]['seconds']:.2f}",
        "without_start": f"{of['speedup_without_start']:.2f}",
        "rates": "; ".join([
            f"w = {1e9 * rates['weight']:.1f} ns", f"c = {1e6 * rates['layer_call']:.0f} us",
            *(f"m = {1e12 * rates[name]:.0f} ps ({name})" for name in families)]),
        "layers": sizes["layers"], "macs": f"{sizes['macs_per_input']:.3g}",
        "inputs": f"{row['inputs']:,}", "programming": f"{row['programming_seconds']:.1f}",
        "reading": f"{row['seconds_per_chip'] - row['programming_seconds']:,.0f}",
        "products": f"{products:.3g}", "gpu_hours": f"{products / 1e14 / 3600:.1f}",
        "programming_hours": f"{programming / 3600:.1f}",
        "threads": math.ceil(programming / (products / 1e14)),
        "memory": f"{2 * 4 * sizes['weights'] / 1e9:.0f}",
    }  # fmt: skip


def main() -> None:
    """Write all pages."""
    figures.draw_methods(list(summary.methods()))
    figures.draw_fronts(
        [row for row in result("per_chip_curves")["rows"] if row["curve"] == "overhead"]
    )
    figures.draw_growth(result("growth")["rows"])
    figures.draw_drift(result("drift")["rows"])
    first = [cell for cell in paper.cells() if cell["seed"] == 0]
    if first:
        figures.draw_sigmas(first, paper.METHODS)
    values = {**findings(), **scaling(), **paper.repetitions()[1]}
    for page in (README, *sorted(DOCS.glob("*.md"))):
        fill(page, found, values)


if __name__ == "__main__":
    main()
