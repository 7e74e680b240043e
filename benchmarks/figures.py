"""Figures of the README and of docs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.common import HERE
from cnet_aihw.report.style import (
    BLACK,
    BLUE,
    FAINT,
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

IMAGES = HERE.parent / "docs" / "images"
Row = Mapping[str, Any]
MARKED: dict[str, Any] = {"markersize": 7, "markeredgecolor": "black", "markeredgewidth": 0.5}
METHODS = {  # ways of per_chip.json in the figure -> how they are called, colour and marker
    "plain, none": ("plain training", VERMILLION, "X"),
    "noise, none": ("noise injection", ORANGE, "s"),
    "noise_from_plain, none": ("noise injection from the plain weights", YELLOW, "s"),
    "noise_from_plain, batchnorm": ("noise from plain weights, BatchNorm per chip", YELLOW, "^"),
    "paper, shared": ("CorrectNet: penalty, one fit for all chips", BLUE, "D"),
    "ahwa-lora-like": ("low rank, one fit for all chips (AHWA-LoRA-like)", PURPLE, "v"),
    "noise, per chip": ("noise injection, low rank per chip", BLACK, "P"),
    "noise_from_plain, per chip": ("noise from plain weights, low rank per chip", PURPLE, "P"),
    "plain, per chip": ("plain training, low rank per chip", SKY, "o"),
    "lipschitz, per chip": ("penalty, low rank per chip", GREEN, "o"),
    **dict.fromkeys(
        (f"{training}, per chip, refined" for training in ("plain", "lipschitz", "milder_noise")),
        ("low rank, then steps on the chip; language model after milder noise", GREEN, "*"),
    ),
}
TITLES = {
    "lenet5_mnist": "LeNet-5, MNIST",
    "lenet5_cifar10": "LeNet-5, CIFAR-10",
    "vgg16_narrow_cifar10": "VGG16, 1/8 width, CIFAR-10",
    "vgg16_half_cifar10": "VGG16, 1/2 width, CIFAR-10",
    "vgg16_cifar10": "VGG16, CIFAR-10",
    "vgg16_half_cifar100": "VGG16, 1/2 width, CIFAR-100",
    "resnet20_cifar10": "ResNet-20, CIFAR-10",
    "vit_cifar10": "Vision transformer, CIFAR-10",
    "language_model": "Language model of bytes",
    "recurrent_mnist": "GRU, MNIST by rows",
    "unet_scenes": "U-Net, scenes of digits",
}
FRONTS = {  # methods of the curve over overhead -> how they are called, colour
    "spectrum": ("low rank, placed by spectrum", GREEN),
    "xy": ("low rank, one share", SKY),
    "y": ("low rank of the output, one share", YELLOW),
    "generator": ("generator and compensator, one share", PURPLE),
    "affine": ("scale and offset", QUIET),
    "shared low rank": ("low rank, one fit for all chips", ORANGE),
    "shared generator": ("generator and compensator, one fit for all", VERMILLION),
}
AGED = {  # ways of drift.json -> colour
    "none": VERMILLION,
    "global drift compensation": ORANGE,
    "fitted once": SKY,
    "vectors each time": PURPLE,
    "fitted each time": GREEN,
}
SHOWN = {  # methods of paper.json in the figure
    "plain": VERMILLION,
    "noise": ORANGE,
    "noise_from_plain": SKY,
    "correctnet": BLUE,
    "digital": GREEN,
    "recipe": PURPLE,
    "recipe_macs": BLACK,
}


def duration(seconds: float) -> str:
    """Write a time in the largest unit that it has one of."""
    units = {"year": 31536000.0, "month": 2592000.0, "day": 86400.0, "h": 3600.0, "s": 1.0}
    name, unit = next((name, unit) for name, unit in units.items() if seconds >= unit)
    return f"{seconds / unit:g} {name}"


def save(figure: Any, name: str) -> None:
    """Write a figure."""
    IMAGES.mkdir(exist_ok=True)
    figure.savefig(IMAGES / f"{name}.png", dpi=160, metadata={"Software": None})


def draw_spread(ax: Any, rows: Sequence[Row], x: str, color: str, label: str) -> None:
    """Draw means over chips in percent, with their deviations, over a value of the rows."""
    mean, std = ([100 * row[key] for row in rows] for key in ("mean", "std"))
    ax.errorbar([row[x] for row in rows], mean, yerr=std, marker="o", color=color, capsize=3,
                label=label)  # fmt: skip


def draw_methods(rows: Sequence[Row]) -> None:
    """Draw the recovery of each method on each network, with the deviation over chips."""
    networks = list(dict.fromkeys(row["network"] for row in rows))
    with figure_style():
        height = 1.5 + 0.48 * len(networks)
        figure, (ax,) = new_figure(height, rows=1)
        figure.set_size_inches(8.4, height)
        for place, network in enumerate(networks):
            drawn = [row for row in rows if row["network"] == network]
            for i, row in enumerate(drawn):  # each a little lower, so that none hides another
                ax.errorbar(
                    row["share"], place + 0.7 * ((i + 0.5) / len(drawn) - 0.5), fmt=row["marker"],
                    xerr=row["spread"], color=row["color"], elinewidth=1.2, **MARKED,
                )  # fmt: skip
            ax.axhline(place + 0.5, color=FAINT, linewidth=1)
        ax.axvline(95, color="black", linestyle=":", linewidth=1)
        ax.grid(visible=False, axis="y")
        ax.set_yticks(range(len(networks)), networks)
        ax.set_ylim(len(networks) - 0.5, -0.5)
        ax.set_xlim(0, 105)
        ax.set_xlabel("recovery in %: score on chips / clean score of the plain network, sigma 0.5")
        shown = {row["method"]: row for row in rows}
        handles = [ax.plot([], [], row["marker"], color=row["color"], label=name, **MARKED)[0]
                   for name, row in shown.items()]  # fmt: skip
        figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=9)
        save(figure, "results")


def draw_fronts(rows: Sequence[Row]) -> None:
    """Draw recovery over the larger of both overheads: each method's best so far at each."""
    with figure_style():
        figure, (ax,) = new_figure(5.2, rows=1)
        for method, (name, color) in FRONTS.items():
            found = sorted(
                (max(row["overhead_weights"], row["overhead_macs"]), row["recovery"])
                for row in rows if row["way"] == method
            )  # fmt: skip
            costs = [100 * cost for cost, _ in found]
            best = np.maximum.accumulate([100 * recovery for _, recovery in found])
            ax.plot(costs, best, marker="o", color=color, label=name)
        ax.axvline(5, color="black", linestyle=":", linewidth=1)
        ax.set_xlabel("weights or MACs added in %, the larger of both")
        ax.set_ylabel("recovery in %")
        ax.set_title("LeNet-5 on CIFAR-10, sigma 0.5")
        ax.legend(loc="center right", bbox_to_anchor=(1.0, 0.42), fontsize=9)
        save(figure, "overhead")


def draw_drift(rows: Sequence[Row]) -> None:
    """Draw accuracy over time after programming, a panel for each device."""
    devices = list(dict.fromkeys(row["device"] for row in rows))
    with figure_style():
        figure, axes = new_figure(0.8 + 2.2 * len(devices), rows=len(devices), sharex=True)
        for ax, device in zip(axes, devices, strict=True):
            of_device = [row for row in rows if row["device"] == device]
            for way, color in AGED.items():
                found = [row for row in of_device if row["way"] == way]
                draw_spread(ax, found, "t_inference", color, way)
            ax.set_xscale("log")
            ax.set_ylim(0, 70)
            ax.set_title(f"LeNet-5 on CIFAR-10, {of_device[0]['model']}")
        times = sorted({row["t_inference"] for row in rows})
        axes[-1].set_xticks(times, [duration(t) for t in times])
        axes[-1].minorticks_off()
        axes[-1].set_xlabel("time after programming")
        axes[0].set_ylabel("accuracy on chips in %")
        figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        save(figure, "drift")


def draw_growth(rows: Sequence[Row]) -> None:
    """Ours beside plain torch over layers and weights; an evaluation over its chips."""
    with figure_style():
        figure, (depth, width, chips) = new_figure(7.4, rows=3)
        for ax, axis, key in ((depth, "layers", "layers"), (width, "width", "weights")):
            for what, color in (("training step", BLUE), ("one chip", VERMILLION)):
                found = [row for row in rows if (row["axis"], row["what"]) == (axis, what)]
                for against, style in (("ours_over_plain", "-"), ("ours_over_stock", "--")):
                    name = against.rpartition("_")[2]
                    ax.plot(
                        [row[key] for row in found], [row[against] for row in found], style,
                        color=color, marker="o", label=f"{what} / {name}",
                    )  # fmt: skip
            ax.set_xscale("log", base=2 if key == "layers" else 10)
            ax.set_xlabel(f"{key} of a network of linear layers")
            ax.set_ylabel("ratio of time")
            ax.set_ylim(bottom=0)
        found = [row for row in rows if row["axis"] == "chips"]
        numbers, times = ([row[key] for row in found] for key in ("chips", "times_one_chip"))
        chips.plot(numbers, times, color=BLUE, marker="o", label="n chips")
        chips.plot(numbers, numbers, "--", color=VERMILLION, label="n times one chip")
        chips.legend()
        chips.set_xlabel("chips of an evaluation of LeNet-5")
        chips.set_ylabel("times one chip")
        figure.legend(*depth.get_legend_handles_labels(), loc="outside upper center", ncols=2)
        save(figure, "growth")


def draw_sigmas(cells: Sequence[Row], names: Mapping[str, str]) -> None:
    """Mean on chips over sigma, a panel for each network."""
    titles = list(dict.fromkeys(cell["title"] for cell in cells))
    with figure_style():
        figure, axes = new_figure(0.8 + 2.4 * len(titles), rows=len(titles), sharex=True)
        for ax, title in zip(axes, titles, strict=True):
            for method, color in SHOWN.items():
                found = [
                    cell for cell in cells if (cell["title"], cell["method"]) == (title, method)
                    and (method.startswith("recipe") or cell["calibration"] == "none")
                ]  # fmt: skip
                found.sort(key=lambda cell: float(cell["sigma"]))
                draw_spread(ax, found, "sigma", color, names[method].partition(":")[0])
            ax.set_title(title)
            ax.set_xticks(sorted({cell["sigma"] for cell in cells}))
        axes[-1].set_xlabel("sigma")
        figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center")
        axes[0].set_ylabel("accuracy on chips in %")
        save(figure, "rows")
