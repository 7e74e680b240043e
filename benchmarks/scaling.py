"""Chips per second with worker processes, and the figures of a model of cost.

    python -m benchmarks.scaling        (on a machine that does nothing else, with two cores)

One thread a process. Chips of LeNet-5 on 10,000 images: in this process, with one worker of Ray and
with two, in turns, of which the faster counts. Then the rates of the model of cost, and its error
for networks that they were not measured on. Writes benchmarks/results/scaling.json.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from benchmarks.common import RESULTS, command_line
from benchmarks.speed import inputs
from cnet_aihw.cluster import RaySettings, start_ray
from cnet_aihw.compensation import network_cost
from cnet_aihw.evaluation import Score, evaluate_chips, measured_chips
from cnet_aihw.rram import RRAMRPUConfig, clear_chip, convert_to_analog, program
from cnet_aihw.runtime.progress import reported_to
from cnet_aihw.runtime.records import write_json_atomic
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


def efficiency(chips: int, count: int) -> list[dict[str, Any]]:
    """Time the chips of LeNet-5 with none, one and two workers; the faster of two turns each."""
    model, data = analog(LeNet5(SHAPE, 10)), inputs(SHAPE, count)
    start_ray(RaySettings(num_cpus=2, dashboard=False))
    turns = [turn(model, data, workers, chips) for _ in range(TURNS) for workers in (0, 1, 2)]
    return [
        min((row for row in turns if row["workers"] == workers), key=lambda row: row["seconds"])
        for workers in (0, 1, 2)
    ]


def turn(model: nn.Module, data: Any, workers: int, chips: int) -> dict[str, Any]:
    """Time chips once."""
    ray = RaySettings(workers=workers, num_cpus=2, dashboard=False)
    moments: list[float] = []
    start = time.perf_counter()
    with reported_to(lambda *news: moments.append(time.perf_counter())):
        evaluate_chips(
            model, data, chips=chips, batch_size=BATCH, device="cpu", progress=True, ray=ray
        )
    done = moments[1:]  # the first one says that the bar is there
    row = {
        "workers": workers,
        "chips": chips,
        "images": len(data[0]),
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
        layers = on_crossbars(model, batch)
        products = len(batch) * sum(layer.macs for layer in layers)
        spent = seconds(lambda model=model, batch=batch: model(batch))
        found[family] = max(0.0, spent - len(layers) * call) / products
    return found


def predicted(
    rate: Mapping[str, float], family: str, model: nn.Module, inputs: torch.Tensor, batch: int
) -> float:
    """Return the seconds of a chip by the model of cost."""
    layers = on_crossbars(model, inputs[:1])
    calls = len(layers) * -(-len(inputs) // batch)
    return (
        sum(layer.weights for layer in layers) * rate["weight"]
        + len(inputs) * sum(layer.macs for layer in layers) * rate[family]
        + calls * rate["layer_call"]
    )


def check(rate: Mapping[str, float]) -> list[dict[str, Any]]:
    """Compare the model of cost with chips of networks of other sizes."""
    rows = []
    for family, sizes in FAMILIES.items():
        for size in sizes[1:]:
            model, data = analog(network(family, *size)), inputs(SHAPE, 64)
            tries = [
                measured_chips(model, data, Score(), 1, seed=n, batch_size=32) for n in range(3)
            ]
            measured = min(chip.seconds for (chip,) in tries)
            by_model = predicted(rate, family, model, data[0], 32)
            layers = on_crossbars(model, data[0][:1])
            rows.append(
                {
                    "network": f"{family}, width {size[0]}, {size[1]} blocks",
                    "weights": sum(layer.weights for layer in layers),
                    "macs": sum(layer.macs for layer in layers),
                    "inputs": len(data[0]),
                    "seconds": measured,
                    "predicted": by_model,
                    "predicted_over_measured": by_model / measured,
                }
            )
            print(rows[-1], flush=True)
    return rows


def network(family: str, width: int, blocks: int) -> nn.Module:
    """Return a network of a family."""
    if family == "transformer":
        return ViT(SHAPE, 10, width=width, depth=blocks, heads=width // 64)
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1), nn.ReLU()]
    for _ in range(blocks - 1):
        layers += [nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def on_crossbars(model: nn.Module, example: torch.Tensor) -> list[Any]:
    """Return the cost of each layer on crossbars."""
    layers = network_cost(model, example).layers.values()
    return [layer for layer in layers if layer.analog]


def plan(rate: Mapping[str, float], efficiency_of_two: float) -> list[dict[str, Any]]:
    """Return what chips of a network of a billion weights take by the model of cost."""
    b = BILLION
    programming = b["weights"] * rate["weight"]
    reading = BILLION_INPUTS * b["macs_per_input"] * rate["transformer"]
    calls = -(-BILLION_INPUTS // BATCH) * b["layers"] * rate["layer_call"]
    chip = programming + reading + calls
    share = min(1.0, efficiency_of_two)
    return [
        {
            "workers": workers,
            "chips": b["chips"],
            "inputs": BILLION_INPUTS,
            "programming_seconds": programming,
            "seconds_per_chip": chip,
            "days": b["chips"] * chip / workers / (1.0 if workers == 1 else share) / 86400,
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


def run(chips: int, images: int) -> None:
    """Measure all and write the result."""
    load = os.getloadavg()[0]  # of others
    rate = rates()
    print(rate, flush=True)
    checked, rows = check(rate), efficiency(chips, images)
    one, two = rows[1], rows[2]
    found = {
        "speedup": one["seconds"] / two["seconds"],
        "speedup_without_start": two["chips_per_second"] / one["chips_per_second"],
    }
    print(found, flush=True)
    record = {
        "command": " ".join(["python -m benchmarks.scaling", *sys.argv[1:]]),
        "cores": os.cpu_count(),
        "load": load,
        "rows": rows,
        **found,
        "seconds_for_each": rate,
        "model": checked,
        "billion_network": BILLION,
        "billion": plan(rate, found["speedup_without_start"] / 2),
    }
    write_json_atomic(RESULTS / "scaling.json", record)


if __name__ == "__main__":
    command_line(__doc__, run, chips=CHIPS, images=IMAGES)
