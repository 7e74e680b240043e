"""The results that stand in the README: a table and a figure, from benchmarks/results alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.tables import percent, table, text
from cnet_aihw.report.style import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    figure_style,
    new_figure,
)
from cnet_aihw.runtime.records import read_json

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
IMAGE = HERE.parent / "docs" / "images" / "results.png"
BEGIN, END = "<!-- results: made by python -m benchmarks.page -->", "<!-- end of results -->"
SIGMA, SEED = 0.5, 0
METHODS = {  # of the paper's rows -> what it is called, colour
    "plain": ("plain training", VERMILLION),
    "correctnet": ("CorrectNet", BLUE),
    "noise": ("noise injection", ORANGE),
    "noise_from_plain": ("noise, from plain weights", SKY),
    "digital": ("penalty, digital layers", GREEN),
    "recipe": ("best recipe", PURPLE),
    "recipe_macs": ("best recipe, at most 5 % MACs", BLACK),
}
RECIPES = ("recipe", "recipe_macs")

Row = Mapping[str, Any]


def rows_by_network() -> dict[str, list[Row]]:
    """The row of each method for each network, without calibration but for the recipes'."""
    found: dict[str, dict[str, Row]] = {}
    for row in read_json(HERE / "results" / "paper.json")["rows"]:
        if (
            (row.get("sigma"), row.get("seed")) == (SIGMA, SEED)
            and row["method"] in METHODS
            and (row["calibration"] == "none" or row["method"] in RECIPES)
        ):
            found.setdefault(row["title"], {})[row["method"]] = row
    return {title: [rows[m] for m in METHODS if m in rows] for title, rows in found.items()}


def write_figure() -> None:
    """Accuracy over chips of each method, with one standard deviation, and the clean accuracy."""
    networks = rows_by_network()
    with figure_style():
        figure, axes = new_figure(0.6 + 1.8 * len(networks), rows=len(networks))
        figure.set_size_inches(7.2, 0.6 + 1.8 * len(networks))
        for ax, (title, rows) in zip(axes, networks.items(), strict=True):
            places = range(len(rows), 0, -1)
            for place, row in zip(places, rows, strict=True):
                _, color = METHODS[row["method"]]
                mean, std = 100 * row["mean"], 100 * row["std"]
                ax.errorbar(mean, place, xerr=std, fmt="o", color=color, capsize=4, markersize=7)
                ax.plot(100 * row["clean"], place, "|", color=color, ms=14, mew=2)
            ax.set_yticks(places, [METHODS[row["method"]][0] for row in rows])
            ax.set_ylim(0.4, len(rows) + 0.6)
            ax.set_title(f"{title}, sigma {SIGMA:g}")
        figure.supxlabel("accuracy in %: on chips, mean and std (dots); clean (strokes)")
        IMAGE.parent.mkdir(exist_ok=True)
        figure.savefig(IMAGE, dpi=160, metadata={"Software": None})


def readme_table() -> str:
    """The same as a Markdown table."""
    columns = {
        "network": text("title"),
        "method": lambda row: METHODS[row["method"]][0],
        "added weights %": percent("overhead_weights"),
        "added MACs %": percent("overhead_macs"),
        "clean %": percent("clean"),
        "on chips %": percent("mean"),
        "std": percent("std"),
        "5 % quantile": percent("q05"),
        "chips": text("chips"),
        "recovery %": percent("recovery", 1),
    }
    return table([row for rows in rows_by_network().values() for row in rows], columns)


def write_readme() -> None:
    """Put the table where the README has its marks."""
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n\n{readme_table()}\n\n{END}{after}", encoding="utf-8")
