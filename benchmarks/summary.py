"""The results that stand in the README: a table and a figure, from benchmarks/results alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.tables import percent, table, text
from cnet_aihw.report.style import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    QUIET,
    SKY,
    VERMILLION,
    YELLOW,
    figure_style,
    new_figure,
)
from cnet_aihw.runtime.records import read_json

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
IMAGE = HERE.parent / "docs" / "images" / "results.png"
BEGIN, END = "<!-- results: made by python -m benchmarks.page -->", "<!-- end of results -->"
SIGMA = 0.5
METHODS = {  # ways of per_chip.json -> how they are called, colour
    "plain, none": ("plain training", VERMILLION),
    "noise, none": ("noise injection", ORANGE),
    "lipschitz, none": ("Lipschitz penalty", SKY),
    "paper, shared": ("CorrectNet: penalty, one fit for all chips", BLUE),
    "ahwa-lora-like": ("low rank, one fit for all chips (AHWA-LoRA-like)", YELLOW),
    "dora-like": ("low rank, few images a chip (DoRA-like)", BLACK),
    "lipschitz, affine": ("penalty, scale and offset per chip", QUIET),
    "lipschitz, per chip": ("penalty, low rank per chip, closed form", GREEN),
    "lipschitz, per chip, refined": ("the same, refined on the chip", PURPLE),
}
TITLES = {
    "lenet5_mnist": "LeNet-5 on MNIST",
    "lenet5_cifar10": "LeNet-5 on CIFAR-10",
    "vgg16_narrow_cifar10": "VGG16, an eighth of the width, on CIFAR-10",
}
AVERAGED = ("overhead_weights", "overhead_macs", "clean", "mean", "std", "q05", "recovery")

Row = Mapping[str, Any]


def rows_by_network() -> dict[str, list[Row]]:
    """Return each method's row for each network: means over its trainings."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in read_json(HERE / "results" / "per_chip.json")["rows"]:
        found.setdefault((row["network"], row["way"]), []).append(row)
    return {
        title: [
            {
                "title": title,
                "way": way,
                "trainings": len(rows),
                "chips": min(row["chips"] for row in rows),
                **{key: fmean(row[key] for row in rows) for key in AVERAGED},
            }
            for way in METHODS
            if (rows := found.get((network, way)))
        ]
        for network, title in TITLES.items()
        if any(known == network for known, _ in found)
    }


def write_figure() -> None:
    """Draw the recovery of each method, with the standard deviation over chips."""
    networks = rows_by_network()
    with figure_style():
        figure, axes = new_figure(0.6 + 2.2 * len(networks), rows=len(networks))
        figure.set_size_inches(7.2, 0.6 + 2.2 * len(networks))
        for ax, (title, rows) in zip(axes, networks.items(), strict=True):
            places = range(len(rows), 0, -1)
            for place, row in zip(places, rows, strict=True):
                _, color = METHODS[row["way"]]
                share = 100 * row["recovery"]
                ax.barh(place, share, color=color, height=0.6)
                ax.errorbar(
                    share, place, xerr=share * row["std"] / row["mean"], color="black", capsize=3
                )
            ax.axvline(95, color="black", linestyle=":", linewidth=1)
            ax.set_yticks(places, [METHODS[row["way"]][0] for row in rows])
            ax.set_xlim(0, 105)
            ax.set_title(f"{title}, sigma {SIGMA:g}")
        figure.supxlabel(
            "recovery in %: accuracy on chips / clean accuracy after plain training", fontsize=10
        )
        IMAGE.parent.mkdir(exist_ok=True)
        figure.savefig(IMAGE, dpi=160, metadata={"Software": None})


def readme_table() -> str:
    """Return the same as a Markdown table."""
    columns = {
        "network": text("title"),
        "method": lambda row: METHODS[row["way"]][0],
        "weights +%": percent("overhead_weights"),
        "MACs +%": percent("overhead_macs"),
        "clean %": percent("clean"),
        "on chips %": percent("mean"),
        "std": percent("std"),
        "5 % quantile": percent("q05"),
        "chips": text("chips"),
        "trainings": text("trainings"),
        "recovery %": percent("recovery", 1),
    }
    return table([row for rows in rows_by_network().values() for row in rows], columns)


def write_readme() -> None:
    """Put the table where the README has its marks."""
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n\n{readme_table()}\n\n{END}{after}", encoding="utf-8")
