"""Chips per second with worker processes, and the figures of a model of cost.

    python -m benchmarks.scaling        (on a machine that does nothing else, with two cores)

One thread a process. Chips of LeNet-5 on 10,000 images: in this process, with one worker of Ray and
with two, in turns, of which the faster counts. Then the rates of the model of cost, and its error
for networks that they were not measured on. Writes benchmarks/results/scaling.json.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from benchmarks.common import Row, command_line, write_result
from benchmarks.speed import chip_seconds, inputs
from cnet_aihw.cluster import RaySettings, start_ray
from cnet_aihw.compensation import network_cost
from cnet_aihw.evaluation import evaluate_chips
from cnet_aihw.rram import RRAMRPUConfig, clear_chip, convert_to_analog, program
from cnet_aihw.runtime.progress import reported_to
from cnet_aihw.zoo import LeNet5, ViT

CHIPS, IMAGES, BATCH = 100, 10_000, 250
ROUNDS = 9
TURNS = 2
SHAPE = (3, 32, 32)
FAMILIES = {
    "transformer": [(512, 2), (768, 3), (256, 6)],
    "convolutional": [(64, 3), (128, 4), (64, 8)],
}
"""Width and blocks: the first ones give the rates, which are checked with the others."""
BILLION = {"weights": 1.0e9, "layers": 170, "macs_per_input": 1.0e9 * 128, "chips": 1000}
"""A causal transformer of a billion weights on crossbars, read at 128 positions an input."""
BILLION_INPUTS = 1000
WORKERS = (1, 8, 64)


def efficiency() -> list[Row]:
    """Time the chips of LeNet-5 with none, one and two workers; the faster of two turns each."""
    model, data = analog(LeNet5(SHAPE, 10)), inputs(SHAPE, IMAGES)
    start_ray(RaySettings(num_cpus=2, dashboard=False))
    turns = [turn(model, data, workers) for _ in range(TURNS) for workers in (0, 1, 2)]
    return [
        min((row for row in turns if row["workers"] == workers), key=lambda row: row["seconds"])
        for workers in (0, 1, 2)
    ]


def turn(model: nn.Module, data: Any, workers: int) -> Row:
    """Time chips once."""
    ray = RaySettings(workers=workers, num_cpus=2, dashboard=False)
    moments: list[float] = []
    start = time.perf_counter()
    with reported_to(lambda *news: moments.append(time.perf_counter())):
        evaluate_chips(
            model, data, chips=CHIPS, batch_size=BATCH, device="cpu", progress=True, ray=ray
        )
    done = moments[1:]  # the first one says that the bar is there
    row = {
        "workers": workers,
        "chips": CHIPS,
        "images": IMAGES,
        "seconds": time.perf_counter() - start,
        "first_chip_seconds": done[0] - start,
        "chips_per_second": (len(done) - max(1, workers)) / (done[-1] - done[max(0, workers - 1)]),
    }
    print(row, flush=True)
    return row


def rates() -> dict[str, float]:
    """Measure what the model of cost adds up: seconds for each weight, product and call.

    A product of a family of networks has its share of all that they compute beside crossbars.
    """
    wide = analog(nn.Linear(1024, 1024, bias=False))
    tiny, one = analog(nn.Linear(4, 4, bias=False)), torch.rand(1, 4)

    def programming() -> None:
        program(wide, 0)
        clear_chip(wide)

    call = seconds(lambda: tiny(one), 200) / 200
    found = {"weight": seconds(programming) / 1024**2, "layer_call": call}
    for family, sizes in FAMILIES.items():
        model, batch = analog(network(family, *sizes[0])), inputs(SHAPE, 16)[0]
        size = size_of(model, batch)
        spent = seconds(lambda model=model, batch=batch: model(batch))
        products = len(batch) * size["macs_per_input"]
        found[family] = max(0.0, spent - size["layers"] * call) / products
    return found


def predicted(
    rate: Mapping[str, float], family: str, size: Mapping[str, float], inputs: int, batch: int
) -> float:
    """Return the seconds of a chip by the model of cost."""
    calls = -(-inputs // batch) * size["layers"]
    return (
        size["weights"] * rate["weight"]
        + inputs * size["macs_per_input"] * rate[family]
        + calls * rate["layer_call"]
    )


def check(rate: Mapping[str, float]) -> list[Row]:
    """Compare the model of cost with chips of networks of other sizes."""
    rows = []
    others = [(family, *size) for family, sizes in FAMILIES.items() for size in sizes[1:]]
    for family, width, blocks in others:
        model, data = analog(network(family, width, blocks)), inputs(SHAPE, 64)
        size, measured = size_of(model, data[0]), min(chip_seconds(model, data, 3, batch_size=32))
        by_model = predicted(rate, family, size, len(data[0]), 32)
        row = {
            "network": f"{family}, width {width}, {blocks} blocks",
            "weights": size["weights"],
            "macs": size["macs_per_input"],
            "inputs": len(data[0]),
            "seconds": measured,
            "predicted": by_model,
            "predicted_over_measured": by_model / measured,
        }
        rows.append(row)
        print(row, flush=True)
    return rows


def network(family: str, width: int, blocks: int) -> nn.Module:
    """Return a network of a family."""
    if family == "transformer":
        return ViT(SHAPE, 10, width=width, depth=blocks, heads=width // 64)
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1), nn.ReLU()]
    for _ in range(blocks - 1):
        layers += [nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def size_of(model: nn.Module, example: torch.Tensor) -> dict[str, int]:
    """Return what is on crossbars: weights, layers and products an input."""
    layers = [r for r in network_cost(model, example[:1]).layers.values() if r.analog]
    weights, macs = sum(row.weights for row in layers), sum(row.macs for row in layers)
    return {"weights": weights, "layers": len(layers), "macs_per_input": macs}


def plan(rate: Mapping[str, float], efficiency_of_two: float) -> list[Row]:
    """Return what chips of a network of a billion weights take by the model of cost."""
    chips, share = BILLION["chips"], min(1.0, efficiency_of_two)
    chip = predicted(rate, "transformer", BILLION, BILLION_INPUTS, BATCH)
    return [
        {
            "workers": workers,
            "chips": chips,
            "inputs": BILLION_INPUTS,
            "programming_seconds": BILLION["weights"] * rate["weight"],
            "seconds_per_chip": chip,
            "days": chips * chip / workers / (1.0 if workers == 1 else share) / 86400,
        }
        for workers in WORKERS
    ]


def analog(network: nn.Module) -> nn.Module:
    """Return a network on crossbars, with the weights of a seed."""
    torch.manual_seed(0)
    return convert_to_analog(nn.Sequential(network), RRAMRPUConfig()).eval()


@torch.no_grad()
def seconds(work: Callable[[], object], times: int = 1) -> float:
    """Seconds of doing something a number of times, the least of some rounds."""
    work()
    found = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(times):
            work()
        found.append(time.perf_counter() - start)
    return min(found)


def run() -> None:
    """Measure all and write the result."""
    load = os.getloadavg()[0]  # of others
    rate = rates()
    print(rate, flush=True)
    checked, rows = check(rate), efficiency()
    one, two = rows[1], rows[2]
    without_start = two["chips_per_second"] / one["chips_per_second"]
    write_result(
        "scaling",
        "python -m benchmarks.scaling",
        rows,
        cores=os.cpu_count(),
        load=load,
        speedup=one["seconds"] / two["seconds"],
        speedup_without_start=without_start,
        seconds_for_each=rate,
        model=checked,
        billion_network=BILLION,
        billion=plan(rate, without_start / 2),
    )


if __name__ == "__main__":
    command_line(__doc__, run)
