"""Speed on a GPU: training steps beside plain torch, waits of the host, chips and fits.

    make gpu         (or: python -m benchmarks.gpu [--device cuda] [--quick])

It fetches nothing. In this order: the tests marked `cuda`; ratios of training steps to plain torch
and the waits of the host in a step, which should be none; chips, bare and with correctors fitted to
each, for a second. `--device cpu --quick` tries the script. Writes benchmarks/results/gpu.json.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks import speed
from benchmarks.common import HERE, RESULTS, SIGMA, Row, command_line
from benchmarks.subjects import uniform
from cnet_aihw import rram
from cnet_aihw.compensation import LowRank, PerChipFit, WithCompensation, network_cost
from cnet_aihw.runtime.records import write_json_atomic
from cnet_aihw.zoo import VGG16, LeNet5, ResNet20, ViT

CONFIG = rram.RRAMRPUConfig(noise_model=rram.LogNormalNoiseModel(SIGMA))
STEPS = 10  # between two looks at the clock


def networks(quick: bool) -> list[tuple[str, nn.Module, tuple[int, ...], int]]:
    """Return name, network, shape of an input and batch size."""
    digit = (1, 28, 28)
    found: list[tuple[str, nn.Module, tuple[int, ...], int]] = [
        ("LeNet-5", LeNet5(digit, 10), digit, 256),
        ("ResNet-20", ResNet20(speed.IMAGE, 10), speed.IMAGE, 256),
        ("VGG16", VGG16(speed.IMAGE, 10), speed.IMAGE, 256),
        ("ViT, 64 tokens", ViT(speed.IMAGE, 10), speed.IMAGE, 128),
    ]
    return found[:1] if quick else found


def finished(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(step: speed.Step, device: torch.device) -> speed.Step:
    """Return several steps with the seconds of one of them, the device's work included."""

    def steps() -> float:
        finished(device)
        start = time.perf_counter()
        for _ in range(STEPS):
            step()
        finished(device)
        return (time.perf_counter() - start) / STEPS

    return steps


def waits(step: speed.Step, device: torch.device) -> int | None:
    """Count the times that one step makes the host wait for the device; None without CUDA."""
    if device.type != "cuda":
        return None
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)


def speed_rows(device: torch.device, quick: bool) -> list[Row]:
    """Measure training steps, chips and fits of all networks."""
    rows = []
    for name, digital, shape, batch in networks(quick):
        x, y = (part.to(device) for part in speed.inputs(shape, batch))
        steps = speed.training_variants(digital.to(device), x, y, cheap=True, stock=False)
        ours = speed.OURS[:4]
        turns = {kind: timed(steps[kind], device) for kind in ("plain torch", *ours)}
        seconds = speed.race(turns, 2 if quick else 7)
        plain = seconds["plain torch"]
        rows += [
            {
                "network": name,
                "batch": batch,
                "case": kind,
                "over_plain": speed.ratio(seconds[kind], plain),
                "milliseconds_plain": round(1e3 * min(plain), 3),
                "waits": waits(steps[kind], device),
            }
            for kind in ours
        ]
        rows += chip_rows(name, digital, shape, device, quick)
    return rows


def chip_rows(
    name: str, digital: nn.Module, shape: tuple[int, ...], device: torch.device, quick: bool
) -> list[Row]:
    """Measure chips a second over 2,000 inputs, bare and with correctors fitted to each."""
    data, chips = speed.inputs(shape, 64 if quick else 2000), 2 if quick else 10
    model = rram.convert_to_analog(digital, CONFIG).eval()
    placement = uniform(network_cost(model, data[0][:1].to(device)), LowRank())
    fit = PerChipFit(data[0][:1000], batch_size=1000)
    correctors = WithCompensation(placement, LowRank(), fit)
    rows = []
    for kind, calibration in (("chip", None), ("chip with its correctors", correctors)):
        seconds = speed.chip_seconds(model, data, chips, batch_size=1000, calibration=calibration)
        per_second = round(1 / statistics.median(seconds), 2)
        rows.append({"network": name, "case": kind, "per_second": per_second})
    return rows


def run(device: str, quick: bool, output: Path) -> None:
    """Do all of it, one after the other, and write what was measured."""
    on = torch.device(device)
    is_cuda = on.type == "cuda"
    if is_cuda and not torch.cuda.is_available():
        raise SystemExit(
            "a CUDA device is missing here; --device cpu --quick tries the script without one"
        )
    record: dict[str, Any] = {
        "command": "python -m benchmarks.gpu",
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(on) if is_cuda else "cpu",
    }
    if is_cuda:
        tests = [sys.executable, "-m", "pytest", "-q", "-m", "cuda", "tests"]
        record["tests"] = subprocess.run(tests, cwd=HERE.parent, check=False).returncode
    record["speed"] = speed_rows(on, quick)
    write_json_atomic(output, record)
    print(record)


if __name__ == "__main__":
    command_line(__doc__, run, device="cuda", quick=False, output=RESULTS / "gpu.json")
