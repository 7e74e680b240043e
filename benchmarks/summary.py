"""The results that stand in the README: a table and a figure, from benchmarks/results alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnet_aihw.report.style import BLUE, GREEN, ORANGE, PURPLE, VERMILLION, figure_style, new_figure

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
IMAGE = HERE.parent / "docs" / "images" / "results.png"
BEGIN, END = "<!-- results: made by python -m benchmarks.page -->", "<!-- end of results -->"
DATA = {"mnist": "MNIST", "cifar10": "CIFAR-10"}
LIMIT = 0.05
METHODS = {  # what it is called -> training, method, colour
    "plain training": ("plain", "none", VERMILLION),
    "CorrectNet: penalty and compensation": ("lipschitz", "paper", BLUE),
    "penalty and digital layers": ("lipschitz", "digital layers", GREEN),
    "noise injection": ("noise", "none", ORANGE),
    "noise injection and digital layers": ("noise", "digital layers", PURPLE),
}

Row = Mapping[str, Any]


def rows_of(data: str) -> dict[str, Row]:
    """The row of each method for LeNet-5 on a data set."""
    path = HERE / "results" / "compensation.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    found = {}
    for name, (training, method, _) in METHODS.items():
        (found[name],) = (
            row
            for row in rows
            if (row["data"], row["training"], row["method"]) == (data, training, method)
            and row.get("limit") in (None, LIMIT)
        )
    return found


def write_figure() -> None:
    """Accuracy over chips of each method, with one standard deviation, and the clean accuracy."""
    with figure_style():
        figure, axes = new_figure(4.2, rows=2)
        figure.set_size_inches(7.2, 4.0)
        for ax, (data, title) in zip(axes, DATA.items(), strict=True):
            rows = rows_of(data)
            places = range(len(rows), 0, -1)
            for place, row, (*_, color) in zip(
                places, rows.values(), METHODS.values(), strict=True
            ):
                mean, std = 100 * row["mean"], 100 * row["std"]
                ax.errorbar(mean, place, xerr=std, fmt="o", color=color, capsize=4, markersize=7)
                ax.plot(100 * row["clean"], place, "|", color=color, ms=14, mew=2)
            ax.set_yticks(places, list(rows))
            ax.set_ylim(0.4, len(rows) + 0.6)
            ax.set_title(f"LeNet-5 on {title}, sigma 0.5")
        figure.supxlabel("accuracy in %: on 100 chips, mean and std (dots); clean (strokes)")
        IMAGE.parent.mkdir(exist_ok=True)
        figure.savefig(IMAGE, dpi=160, metadata={"Software": None})


def readme_table() -> str:
    """The same as a Markdown table."""
    lines = [
        "| LeNet-5 on | method | added weights % | clean % | on chips % | std | 5 % quantile |",
        "|" + "---|" * 7,
    ]
    for data, title in DATA.items():
        for name, row in rows_of(data).items():
            figures = (row[key] for key in ("overhead_weights", "clean", "mean", "std", "q05"))
            cells = [title, name, *(f"{100 * value:.2f}" for value in figures)]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_readme() -> None:
    """Put the table where the README has its marks."""
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n\n{readme_table()}\n\n{END}{after}", encoding="utf-8")
