"""docs/speed.md and its figure, from benchmarks/results alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.tables import Row, number, percent, table, text
from cnet_aihw.report.style import BLUE, VERMILLION, figure_style, new_figure
from cnet_aihw.runtime.records import read_json

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "speed.md"
IMAGE = HERE.parent / "docs" / "images" / "growth.png"
INTRO = """\
# Speed

`make bench` measures this page in one run, but for the fits of placements and the steps of a whole
run, which need trained networks and have commands of their own; `python -m benchmarks.page` writes
it. Ratios of time within one run, in which all variants take turns round after round, one thread;
below 1 is faster. *Stock* is aihwkit with perfect periphery and without drift compensation, which
computes the same, in training steps with the nearest noise that it has: the faster of its torch and
C++ tile in the first table, its torch tile elsewhere."""
STEPS = """\
## Steps and chips

A training step draws new variation for all weights; a fitting step a new chip for the frozen
network beside the compensation that learns; a chip is programmed, measured and cleared."""
GROWTH = """\
## How cost grows

Linear layers of equal width, batch 128 for steps and 1,024 inputs for a chip: the worst case for
what is done to weights, as each is used once for an input, where a convolution uses it at every
place. Drawing a weight's variation costs as much whatever the batch; the penalty multiplies each
layer's matrix with itself, which for a layer of width n is n / batch times a forward pass. The
evaluation of LeNet-5 over the number of chips is beside that of one."""
MEMORY = """\
## Memory

What a process needs at its peak beyond what it had before its first step; each variant in a process
of its own."""
PLACEMENTS = """\
## Placements and searches

A placement with the shared evaluator (500 images on 10 chips) beside as many plain forward passes;
how many times longer the fit of a placement takes than measuring it with the shared compensation;
and the steps of a whole run on one machine, beside the training."""
GPU = """\
## On a GPU

`make gpu` runs the tests that need one, measures steps, chips and fits as above, counts the times
that a step makes the host wait, and trains VGG16 at full width on CIFAR-10 for as long as eight
minutes allow; it fetches nothing, and goes on with the training the next time. It has not been run
on a GPU yet: what runs on CUDA has been tried with pretended devices alone."""
START = """\
## Starting

Median seconds of new processes."""


def write_page() -> None:
    """Write page and figure."""
    speed, growth, startup, evaluators, pipeline = (
        read_json(HERE / "results" / f"{name}.json")
        for name in ("speed", "growth", "startup", "evaluators", "pipeline")
    )
    write_figure(growth["rows"])
    parts = [INTRO, STEPS, _command(speed), steps(speed["rows"]), GROWTH, _command(growth)]
    parts += ["![Cost over layers, weights and chips](images/growth.png)", grown(growth["rows"])]
    parts += [MEMORY, memory(growth["rows"]), PLACEMENTS, placements(growth["rows"])]
    parts += [_command(evaluators), fits(evaluators["rows"])]
    parts += [_command(pipeline), whole_run(pipeline["rows"]), START, _command(startup)]
    parts += [starting(startup), GPU]
    PAGE.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def steps(rows: Sequence[Row]) -> str:
    """Training steps, fitting steps and chips of the paper's networks."""
    columns = {
        "case": text("case"),
        "ours / plain torch": text("ours_over_plain"),
        "ours / stock": text("ours_over_stock"),
        "stock": text("stock"),
        "repeats": text("repeats"),
    }
    return table(rows, columns)


def grown(rows: Sequence[Row]) -> str:
    """Linear networks over depth and over width."""
    columns = {
        "what": text("what"),
        "layers": text("layers"),
        "width": text("width"),
        "weights": text("weights"),
        "ours / plain torch": text("ours_over_plain"),
        "ours / stock": text("ours_over_stock"),
        "ms": text("milliseconds"),
    }
    return table([row for row in rows if row["axis"] in ("layers", "width")], columns)


def memory(rows: Sequence[Row]) -> str:
    """Peak memory by variant."""
    shown = [row for row in rows if row["axis"] == "memory"]
    return table(shown, {"what": text("what"), "MiB": text("peak_mebibytes")})


def placements(rows: Sequence[Row]) -> str:
    """Placements measured with the shared evaluator."""
    shown = [row for row in rows if row["axis"] == "placement"]
    return table(shown, {"what": text("what"), "ours / plain torch": text("ours_over_plain")})


def fits(rows: Sequence[Row]) -> str:
    """A fit of each placement beside the shared evaluator."""
    columns = {
        "problem": text("problem"),
        "fit / shared": number("cost_ratio"),
        "amortised": number("cost_ratio_amortised"),
        "placements": text("placements_timed"),
    }
    return table(rows, columns)


def whole_run(rows: Sequence[Row]) -> str:
    """Training, scan, searches, fit: seconds, and shares of the training's."""
    columns = {
        "step": text("step"),
        "s": number("seconds", 0),
        "of training %": percent("of_training", 0),
        "evaluations": text("evaluations"),
    }
    return table(rows, columns)


def starting(found: Mapping[str, Any]) -> str:
    """Imports and the command's help."""
    rows = [{"what": name, "seconds": s} for name, s in found["seconds"].items()]
    return table(rows, {"what": text("what"), "s": number("seconds")})


def write_figure(rows: Sequence[Row]) -> None:
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
        numbers = [row["chips"] for row in found]
        chips.plot(
            numbers,
            [row["times_one_chip"] for row in found],
            color=BLUE,
            marker="o",
            label="n chips",
        )
        chips.plot(numbers, numbers, "--", color=VERMILLION, label="n times one chip")
        chips.legend()
        chips.set_xlabel("chips of an evaluation of LeNet-5")
        chips.set_ylabel("times one chip")
        figure.legend(*depth.get_legend_handles_labels(), loc="outside upper center", ncols=2)
        IMAGE.parent.mkdir(exist_ok=True)
        figure.savefig(IMAGE, dpi=160, metadata={"Software": None})


def _command(result: Mapping[str, Any]) -> str:
    return f"Command: `{result['command']}`."
