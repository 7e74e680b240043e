"""Chips per second with worker processes, and the figures of a model of cost.

    python -m benchmarks.scaling        (on a machine that does nothing else, with two cores)

One thread a process. Chips of LeNet-5 on 10,000 images: in this process, with one worker of Ray and
with two, one after the other. Then the rates of the model of cost, and its error for networks that
they were not measured on. Writes benchmarks/results/scaling.json.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from benchmarks.training import RESULTS
from cnet_aihw.cluster import RaySettings, start_ray
from cnet_aihw.compensation import network_cost
from cnet_aihw.evaluation import evaluate_chips
from cnet_aihw.rram import RRAMRPUConfig, analog_layers, clear_chip, convert_to_analog, program
from cnet_aihw.runtime.progress import reported_to
from cnet_aihw.runtime.records import write_json_atomic
from cnet_aihw.zoo import VGG16, LeNet5, ViT

CHIPS, IMAGES, BATCH = 100, 10_000, 250
ROUNDS = 5
BILLION = {"weights": 1.0e9, "layers": 170, "macs_per_input": 1.0e9 * 128, "chips": 1000}
"""A causal transformer of a billion weights on crossbars, read at 128 positions an input."""
BILLION_INPUTS = 1000
WORKERS = (1, 8, 64)


def efficiency() -> list[dict[str, Any]]:
    """Time the chips of LeNet-5 with none, one and two workers."""
    model, data = analog(LeNet5((3, 32, 32), 10)), images((3, 32, 32), IMAGES)
    start_ray(RaySettings(num_cpus=2, dashboard=False))
    rows = []
    for workers in (0, 1, 2):
        ray = RaySettings(workers=workers, num_cpus=2, dashboard=False)
        moments: list[float] = []
        start = time.perf_counter()
        with reported_to(lambda *news, seen=moments: seen.append(time.perf_counter())):
            evaluate_chips(
                model, data, chips=CHIPS, batch_size=BATCH, device="cpu", progress=True, ray=ray
            )
        done = moments[1:]  # the first one says that the bar is there
        steady = (len(done) - workers) / (done[-1] - done[max(0, workers - 1)])
        rows.append(
            {
                "workers": workers,
                "chips": CHIPS,
                "images": IMAGES,
                "seconds": time.perf_counter() - start,
                "first_chip_seconds": done[0] - start,
                "chips_per_second": steady,
            }
        )
        print(rows[-1], flush=True)
    return rows


def rates() -> dict[str, float]:
    """Measure what the model of cost adds up: seconds for each weight, product, output and call.

    Those of a convolution are from two of them, of many channels and of few, with a ReLU behind.
    """
    wide, x = analog(nn.Linear(1024, 1024, bias=False)), torch.rand(1024, 1024)
    tiny, one = analog(nn.Linear(4, 4, bias=False)), torch.rand(1, 4)

    def programming() -> None:
        program(wide, 0)
        clear_chip(wide)

    many, few = (_convolution(channels) for channels in (64, 8))
    # seconds = macs * a + outputs * b, for both
    products = (many[0] / many[2] - few[0] / few[2]) / (many[1] / many[2] - few[1] / few[2])
    return {
        "weight": seconds(programming) / 1024**2,
        "linear_mac": seconds(lambda: wide(x)) / (1024 * 1024**2),
        "convolution_mac": products,
        "convolution_output": max(0.0, (few[0] - few[1] * products) / few[2]),
        "layer_call": seconds(lambda: tiny(one), 200) / 200,
    }


def _convolution(channels: int) -> tuple[float, float, float]:
    """Seconds, products and outputs of a convolution."""
    layer = analog(nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()))
    x = torch.rand(32, channels, 32, 32)
    outputs = float(x.numel())
    return seconds(lambda: layer(x)), outputs * channels * 9, outputs


def predicted(
    rate: Mapping[str, float], model: nn.Module, example: torch.Tensor, inputs: int, batch: int
) -> float:
    """Return the seconds of a chip by the model of cost."""
    total = 0.0
    for layer in network_cost(model, example).layers.values():
        if not layer.analog:
            continue
        total += layer.weights * rate["weight"] + -(-inputs // batch) * rate["layer_call"]
        if layer.shape.dims == 0:
            total += inputs * layer.macs * rate["linear_mac"]
        else:
            outputs = layer.positions * layer.shape.out_channels
            total += inputs * layer.macs * rate["convolution_mac"]
            total += inputs * outputs * rate["convolution_output"]
    return total


def check(rate: Mapping[str, float]) -> list[dict[str, Any]]:
    """Compare the model of cost with chips that are measured."""
    cases: list[tuple[str, nn.Module, tuple[int, ...], int]] = [
        ("LeNet-5", LeNet5((3, 32, 32), 10), (3, 32, 32), 2000),
        ("VGG16, an eighth of the width", VGG16((3, 32, 32), 10, width=0.125), (3, 32, 32), 500),
        ("vision transformer", ViT((3, 32, 32), 10), (3, 32, 32), 500),
    ]
    rows = []
    for name, network, shape, inputs in cases:
        model, (x, y) = analog(network), images(shape, inputs)

        def chips(count: int, model: nn.Module = model, data: Any = (x, y)) -> float:
            start = time.perf_counter()
            evaluate_chips(model, data, chips=count, batch_size=BATCH, device="cpu")
            return time.perf_counter() - start

        measured = (chips(4) - chips(1)) / 3
        by_model = predicted(rate, model, x[:1], inputs, BATCH)
        rows.append(
            {
                "network": name,
                "inputs": inputs,
                "weights": sum(w.numel() for w in weights_of(model)),
                "seconds": measured,
                "predicted": by_model,
                "predicted_over_measured": by_model / measured,
            }
        )
        print(rows[-1], flush=True)
    return rows


def plan(rate: Mapping[str, float], efficiency_of_two: float) -> list[dict[str, Any]]:
    """Return what chips of a network of a billion weights take by the model of cost."""
    b = BILLION
    programming = b["weights"] * rate["weight"]
    reading = BILLION_INPUTS * b["macs_per_input"] * rate["linear_mac"]
    calls = -(-BILLION_INPUTS // BATCH) * b["layers"] * rate["layer_call"]
    chip = programming + reading + calls
    return [
        {
            "workers": workers,
            "chips": b["chips"],
            "inputs": BILLION_INPUTS,
            "programming_seconds": programming,
            "seconds_per_chip": chip,
            "days": b["chips"]
            * chip
            / workers
            / (1.0 if workers == 1 else efficiency_of_two)
            / 86400,
        }
        for workers in WORKERS
    ]


def analog(network: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return convert_to_analog(nn.Sequential(network), RRAMRPUConfig()).eval()


def images(shape: tuple[int, ...], count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(count, *shape, generator=generator)
    return x, torch.randint(10, (count,), generator=generator)


def weights_of(model: nn.Module) -> list[torch.Tensor]:
    return [layer.get_weights()[0] for layer in analog_layers(model).values()]


@torch.no_grad()
def seconds(work: Callable[[], object], times: int = 1) -> float:
    """Median seconds of doing something a number of times."""
    work()
    found = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(times):
            work()
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="ten chips of 500 images")
    if parser.parse_args().quick:
        global CHIPS, IMAGES
        CHIPS, IMAGES = 10, 500
    torch.set_num_threads(1)
    rate = rates()
    print(rate, flush=True)
    checked, rows = check(rate), efficiency()
    one, two = rows[1], rows[2]
    found = {
        "speedup": one["seconds"] / two["seconds"],
        "speedup_without_start": two["chips_per_second"] / one["chips_per_second"],
    }
    print(found, flush=True)
    record = {
        "command": "python -m benchmarks.scaling",
        "rows": rows,
        **found,
        "seconds_for_each": rate,
        "model": checked,
        "billion": plan(rate, found["speedup_without_start"] / 2),
    }
    if CHIPS == 100:
        write_json_atomic(RESULTS / "scaling.json", record)


if __name__ == "__main__":
    main()
