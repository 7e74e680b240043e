"""docs/scaling.md, from benchmarks/results/scaling.json alone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from benchmarks.tables import number, table, text
from cnet_aihw.runtime.records import read_json

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "scaling.md"
INTRO = """\
# Scaling

How far chips spread over processes carry, measured on one machine with two cores, and a model of
cost for what is larger. How to run on Ray: [running on Ray](ray.md). Written by
`python -m benchmarks.page` from the results of `python -m benchmarks.scaling`."""
WORKERS = """\
## Workers

Chips of LeNet-5, one thread a process, in turns in one run, the faster of two each; Ray runs
already. 0 workers are this process alone. The start of workers (a process, torch, the network, the
data) is in the seconds, not in chips per second."""
MODEL = """\
## A model of cost

A measurement of C chips on N inputs takes

> seconds = C x (sum over layers of (weights x w + N x products x m + batches x c))

with the seconds w to program a weight, m for a multiply-accumulate on a crossbar, which has its
share of what the network computes beside crossbars and so differs between families of networks,
and c for the call of a layer. A per-chip fit adds about as many inputs as it takes images
([results](results.md)). Chips are independent, so that P workers divide C; what they share is the
start, the sending of network and data to each, and the memory bandwidth of a machine.

The rates are measured on the first size of each family, for one thread; the table checks the
model with other sizes."""
BILLION = """\
## A thousand chips of a network of a billion weights

By that model, a transformer of a billion weights on crossbars in {layers} layers, read at 128
positions an input: {macs:.3g} products an input, {inputs:,} inputs a chip, on threads as fast as
this one. Programming a chip takes {programming:.1f} s, reading it {reading:,.0f} s: products are
nearly all that counts, so that half the inputs save as much as twice the workers.

A device that computes R products a second takes {total:.3g} / R seconds for all chips: {gpu:.1f}
hours at 1e14. Programming, which is done on the CPU, then is the longer part: {programmed:.1f}
hours at one thread's rate, so that each such device needs {threads} threads that program, or noise
models that draw on the device. This is arithmetic, not a measurement: nothing of this size has been
run.

Each worker holds the network and a chip: {memory:.0f} GB in float32, beside activations. A network
of this size is sent to each worker once, as one object of Ray."""


def write_page() -> None:
    """Write the page."""
    found = read_json(HERE / "results" / "scaling.json")
    command = f"Command: `{found['command']}`."
    parts = [INTRO, WORKERS, f"{command} {_machine(found)}", _workers(found), _speedup(found)]
    parts += [MODEL, _rates(found), _model(found), _billion(found), _plan(found)]
    PAGE.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _machine(found: dict[str, Any]) -> str:
    busy = found["load"] > 0.5
    if not busy:
        return f"{found['cores']} cores, load before the run {found['load']:.1f}."
    return (
        f"The machine was shared: {found['cores']} cores, load before the run {found['load']:.1f}. "
        "Ratios of so few processes are then rough, and may exceed the number of workers."
    )


def _workers(found: dict[str, Any]) -> str:
    columns = {
        "workers": text("workers"),
        "chips": text("chips"),
        "images": text("images"),
        "seconds": number("seconds", 1),
        "first chip after s": number("first_chip_seconds", 1),
        "chips per second": number("chips_per_second"),
    }
    return table(found["rows"], columns)


def _speedup(found: dict[str, Any]) -> str:
    alone = found["rows"][0]["seconds"] / found["rows"][2]["seconds"]
    return (
        f"Two workers are {alone:.2f} times as fast as this process alone, "
        f"{found['speedup']:.2f} times as fast as one worker, starts included, and "
        f"{found['speedup_without_start']:.2f} times without."
    )


def _rates(found: dict[str, Any]) -> str:
    rates = found["seconds_for_each"]
    families = [name for name in rates if name not in ("weight", "layer_call")]
    return (
        f"w = {1e9 * rates['weight']:.1f} ns; c = {1e6 * rates['layer_call']:.0f} us; "
        + "; ".join(f"m = {1e12 * rates[name]:.0f} ps ({name})" for name in families)
        + "."
    )


def _model(found: dict[str, Any]) -> str:
    columns = {
        "network": text("network"),
        "weights": text("weights"),
        "products an input": text("macs"),
        "inputs": text("inputs"),
        "s a chip": number("seconds"),
        "by the model": number("predicted"),
        "model / measured": number("predicted_over_measured"),
    }
    return table(found["model"], columns)


def _billion(found: dict[str, Any]) -> str:
    sizes, row = found["billion_network"], found["billion"][0]
    products = sizes["macs_per_input"] * row["inputs"] * sizes["chips"]
    return BILLION.format(
        layers=sizes["layers"],
        macs=sizes["macs_per_input"],
        inputs=row["inputs"],
        programming=row["programming_seconds"],
        reading=row["seconds_per_chip"] - row["programming_seconds"],
        total=products,
        gpu=products / 1e14 / 3600,
        threads=math.ceil(sizes["chips"] * row["programming_seconds"] / (products / 1e14)),
        programmed=sizes["chips"] * row["programming_seconds"] / 3600,
        memory=2 * 4 * sizes["weights"] / 1e9,
    )


def _plan(found: dict[str, Any]) -> str:
    columns = {
        "workers of one thread": text("workers"),
        "chips": text("chips"),
        "s a chip": number("seconds_per_chip", 0),
        "days": number("days", 1),
    }
    return table(found["billion"], columns)
