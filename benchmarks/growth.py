"""How cost grows with chips, layers and weights, and what placements, chips and memory cost.

    make bench          (or: python -m benchmarks.growth)

Times are ratios within one run, one thread, the median over rounds in which all variants take
turns. Peak memory is that of a process of its own for each variant, less what it had before the
first step. Writes benchmarks/results/growth.json.
"""

from __future__ import annotations

import json
import multiprocessing
import statistics
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from functools import partial
from itertools import chain, product
from pathlib import Path
from typing import Any

import torch
from aihwkit.simulator.configs import TorchInferenceRPUConfig
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from benchmarks import speed
from benchmarks.common import command_line, write_result
from cnet_aihw.compensation import PAPER, Placement, network_cost
from cnet_aihw.evaluation import evaluate_chips
from cnet_aihw.rram import RRAMRPUConfig, convert_to_analog
from cnet_aihw.search import SpaceSettings, SupernetEvaluator, placement_problem
from cnet_aihw.zoo import MLP, VGG16, Dataset, LeNet5
from cnet_aihw.zoo.dataset import ImagePart

BATCH, IMAGES, ROUNDS = 128, 1024, 9
MEMORY_BATCH = 64


def networks() -> Iterator[dict]:
    """Training step and chip over depth at one width, and over width at one depth."""
    for axis, sizes in (
        ("layers", [(layers, 256) for layers in (2, 4, 8, 16, 32)]),
        ("width", [(4, width) for width in (64, 128, 256, 512, 1024, 2048)]),
    ):
        for layers, width in sizes:
            x, y = torch.randn(IMAGES, width), torch.randint(10, (IMAGES,))
            network, again = (MLP((width,), 10, [width] * (layers - 1)) for _ in range(2))
            weights = sum(parameter.numel() for parameter in network.parameters())
            about = {"axis": axis, "layers": layers, "width": width, "weights": weights}
            steps = speed.race(
                speed.training_variants(network, x[:BATCH], y[:BATCH], cheap=True), ROUNDS
            )
            chip = speed.race(speed.chip_variants(again, x, y, 256), ROUNDS)
            for what, seconds, ours in (
                ("training step", steps, "variation"),
                ("training step with penalty", steps, "variation + penalty"),
                ("training step with a table and probed penalty", steps, speed.OURS[3]),
                ("one chip", chip, "chip"),
            ):
                yield {
                    "what": what,
                    **about,
                    "ours_over_plain": speed.ratio(seconds[ours], seconds["plain torch"]),
                    "ours_over_stock": speed.ratio(seconds[ours], seconds["stock torch tile"]),
                    "milliseconds": round(1e3 * statistics.median(seconds[ours]), 2),
                }


def chips() -> Iterator[dict]:
    """The time of an evaluation over its number of chips, beside that of one chip."""
    model = convert_to_analog(LeNet5((1, 28, 28), 10), RRAMRPUConfig()).eval()
    data = torch.randn(IMAGES, 1, 28, 28), torch.randint(10, (IMAGES,))

    def measure(number: int) -> None:
        evaluate_chips(model, data, chips=number, batch_size=256)

    numbers = (1, 2, 5, 10, 20, 50)
    seconds = speed.race({str(n): partial(measure, n) for n in numbers}, 3)
    for n in numbers:
        yield {
            "what": "evaluation of LeNet-5",
            "axis": "chips",
            "chips": n,
            "times_one_chip": speed.ratio(seconds[str(n)], seconds["1"]),
        }


def placements() -> Iterator[dict]:
    """A placement's evaluation beside plain forward passes over as many images on as many chips."""
    digital = LeNet5((1, 28, 28), 10)
    model = convert_to_analog(digital, RRAMRPUConfig()).eval()
    part = ImagePart(torch.randn(500, 1, 28, 28), torch.randint(10, (500,)))
    data = Dataset("random", part, part, part, 10, (1, 28, 28), None, "random")
    cost = network_cost(model, part.x[:1])
    problem = placement_problem(
        cost, list(cost.layers), PAPER, 0.5, SpaceSettings(), limit_macs=None
    )
    shared = SupernetEvaluator(
        model, data, problem, corrector=PAPER, steps=1, chips=10, device="cpu"
    )
    layers = list(cost.layers)

    def passes() -> None:
        with torch.inference_mode():
            for _ in range(10):
                digital(part.x)

    def evaluate(placement: Placement) -> None:
        shared.evaluate(placement)

    variants: dict[str, speed.Step] = {"plain torch": passes}
    for n in (1, 2):
        placement = Placement(dict.fromkeys(layers[:n], 0.125))
        variants[f"compensation on {n} of {len(layers)} layers"] = partial(evaluate, placement)
    seconds = speed.race(variants, ROUNDS)
    for name in list(variants)[1:]:
        yield {
            "what": f"placement of LeNet-5, {name}, 10 chips",
            "axis": "placement",
            "ours_over_plain": speed.ratio(seconds[name], seconds["plain torch"]),
        }


def together() -> Iterator[dict]:
    """Several chips in one forward, by products that torch batches, beside one after the other."""
    networks = {
        "LeNet-5": (LeNet5((1, 28, 28), 10), (1, 28, 28)),
        "MLP 4x512": (MLP((512,), 512, (512, 512, 512)), (512,)),
        "VGG16, an eighth of the width": (VGG16((3, 32, 32), 10, width=0.125), (3, 32, 32)),
    }
    for name, (network, shape) in networks.items():
        for batch, number in product((16, 250), (4, 16)):
            x, model = torch.randn(batch, *shape), network.eval()
            chips = [deepcopy(model) for _ in range(number)]
            stacked, skeleton = stack_module_state(chips), deepcopy(model).to("meta")
            batched = vmap(lambda *state, s=skeleton, x=x: functional_call(s, state, (x,)))

            def one_by_one(chips: list[nn.Module] = chips, x: Tensor = x) -> None:
                with torch.no_grad():
                    for chip in chips:
                        chip(x)

            def at_once(batched: Any = batched, stacked: Any = stacked) -> None:
                with torch.no_grad():
                    batched(*stacked)

            seconds = speed.race({"one by one": one_by_one, "at once": at_once}, ROUNDS)
            yield {
                "what": name,
                "axis": "together",
                "batch": batch,
                "chips": number,
                "at_once_over_one_by_one": speed.ratio(seconds["at once"], seconds["one by one"]),
            }


# -- memory, each variant in a process of its own


def _memory(variant: str) -> float:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=UserWarning)
    digital = VGG16((3, 32, 32), 10)
    x, y = torch.randn(MEMORY_BATCH, 3, 32, 32), torch.randint(10, (MEMORY_BATCH,))
    if variant == "plain torch":
        step = speed.training_step(digital, x, y)
    elif variant == "ours":
        step = speed.training_step(convert_to_analog(digital, RRAMRPUConfig()), x, y)
    else:
        step = speed.stock_training_step(digital, x, y, TorchInferenceRPUConfig)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = _peak()
    step()
    step()
    return (_peak() - before) / 1024


def _peak() -> int:
    """Largest resident memory of this process in KiB, as Linux tells it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0])


def memory() -> Iterator[dict]:
    """Peak memory of a training step of VGG16."""
    for variant in ("plain torch", "ours", "stock torch tile"):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            mebibytes = pool.submit(_memory, variant).result()
        yield {
            "what": f"training step of VGG16, batch {MEMORY_BATCH}, {variant}",
            "axis": "memory",
            "peak_mebibytes": round(mebibytes),
        }


def run() -> None:
    """Measure all and write the rows."""
    warnings.filterwarnings("ignore", category=UserWarning)
    torch.manual_seed(0)
    rows = []
    for row in chain(networks(), chips(), placements(), together(), memory()):
        print(json.dumps(row), flush=True)
        rows.append(row)
    write_result("growth", "python -m benchmarks.growth", rows)


if __name__ == "__main__":
    command_line(__doc__, run)
