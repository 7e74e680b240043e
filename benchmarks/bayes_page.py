"""Tables of docs/uncertainty.md from results/bayes.json: python -m benchmarks.bayes_page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "uncertainty.md"
TITLES = {
    "breast_cancer": "breast cancer",
    "digits": "digits",
    "mnist": "MNIST",
    "cifar10": "CIFAR-10",
}
CORRECTED = {"none": "", "temperature": ", temperature", "logit_affine": ", affine by class"}
SIGMAS = (0.0, 0.1, 0.3)

Row = dict[str, Any]
Asked = tuple[str, dict[str, Any]]
"""Name of a line, and the values of its rows."""


def asked(name: str, method: str, samples: int, correction: str = "none", **more: Any) -> Asked:
    """Return a line of a table."""
    return name + CORRECTED[correction], {
        "method": method, "samples": samples, "correction": correction, "sigma": None, "t": None,
        **more,
    }  # fmt: skip


DIGITAL = [
    asked("digital, plain", "deterministic", 1),
    asked("digital, plain", "deterministic", 1, "temperature"),
    asked("MC dropout, T 64", "MC dropout", 64),
    asked("deep ensemble of 4", "deep ensemble", 4),
    asked("Laplace, T 64", "laplace", 64),
    asked("means of binary weights, digital", "mean binary weights", 1),
]


def on_chips(sigma: float) -> list[Asked]:
    """Return the lines of one programming error."""
    cells, given = f"cells, sigma {sigma:g}", {"sigma": sigma}
    plain = f"plain, 64 readings of one chip, sigma {sigma:g}"
    lines = [asked(f"{cells}, T {t}", "cells", t, **given) for t in (1, 4, 16, 64)]
    for correction in ("temperature", "logit_affine"):
        lines.append(asked(f"{cells}, T 64", "cells", 64, correction, **given))
    if sigma:
        lines.append(asked(f"plain, one chip, sigma {sigma:g}", "readings", 1, **given))
        lines.append(asked(f"plain, 64 chips, sigma {sigma:g}", "chips", 64, **given))
    lines.append(asked(plain, "readings", 64, **given))
    return [*lines, asked(plain, "readings", 64, "logit_affine", **given)]


def over_time() -> list[Asked]:
    """Return the lines of drifting cells."""
    lines = []
    for name, t, nu in (
        ("just programmed", 1.0, 0.0),
        ("after an hour", 3600.0, 0.0),
        ("after an hour, amplified", 3600.0, 0.05),
        ("after a day", 86400.0, 0.0),
        ("after a day, amplified", 86400.0, 0.05),
    ):
        given = {"sigma": 0.1, "t": t, "corrected_nu": nu}
        for correction in ("none", "temperature"):
            lines.append(asked(name, "cells", 16, correction, **given))
    return lines


def unknown() -> list[Asked]:
    """Return the lines that tell unknown inputs apart."""
    cells = [asked(f"cells, sigma {s:g}, T 64", "cells", 64, sigma=s) for s in SIGMAS]
    chips = [asked(f"plain, 64 chips, sigma {s:g}", "chips", 64, sigma=s) for s in SIGMAS[1:]]
    return [DIGITAL[0], *DIGITAL[2:5], *cells, *chips]


def scores(row: Row) -> str:
    """Return accuracy, NLL and ECE of a row."""
    return f"{100 * row['accuracy']:.1f} / {row['nll']:.3f} / {row['ece']:.3f}"


def auroc(row: Row) -> str:
    """Return the AUROC of the entropy."""
    return f"{row['auroc_entropy']:.3f}"


def table(rows: list[Row], head: str, lines: list[Asked], cell: Any, sets: list[str]) -> str:
    """Return a table in Markdown: a line for each that is asked for, a column for each set."""
    made = [[head, *(TITLES[name] for name in sets)], ["---"] * (1 + len(sets))]
    for title, values in lines:
        found = [
            next((r for r in rows if r["data"] == name and matches(r, values)), None)
            for name in sets
        ]
        if any(found):
            made.append([title, *("-" if row is None else cell(row) for row in found)])
    return "\n".join("| " + " | ".join(line) + " |" for line in made)


def matches(row: Row, values: dict[str, Any]) -> bool:
    """Whether a row has the values; a key that it lacks counts as None."""
    return all(row.get(name) == value for name, value in values.items())


def main() -> None:
    """Put the tables between the page's marks."""
    rows = json.loads((HERE / "results" / "bayes.json").read_text(encoding="utf-8"))["rows"]
    sets = [name for name in TITLES if any(row["data"] == name for row in rows)]
    lines = [*DIGITAL, *(line for sigma in SIGMAS for line in on_chips(sigma))]
    unknowns = [n for n in sets if any(r["data"] == n and "auroc_entropy" in r for r in rows)]
    tables = {
        "scores": table(rows, "accuracy % / NLL / ECE", lines, scores, sets),
        "time": table(rows, "cells, sigma 0.1, T 16", over_time(), scores, sets),
        "unknown": table(rows, "AUROC of the entropy", unknown(), auroc, unknowns),
    }
    page = PAGE.read_text(encoding="utf-8")
    for name, made in tables.items():
        begin, end = f"<!-- {name}: begin -->\n", f"\n<!-- {name}: end -->"
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(end)
        page = f"{before}{begin}\n{made}\n{end}{after}"
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
