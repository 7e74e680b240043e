"""Speed and a full-width network on a GPU, in at most eight minutes.

    make gpu         (or: python -m benchmarks.gpu [--minutes 8] [--device cuda] [--quick])

It fetches nothing: CIFAR-10 is expected as data/cifar10.npz (BENCHMARK_DATA names another folder),
without which the networks at the end are left out. In this order: the tests marked `cuda`; ratios
of training steps to plain torch; waits of the host in a step, which should be none; chips and fits
of correctors for a second; then VGG16 at full width on CIFAR-10, plain and penalised, for as many
epochs as fit, in outputs/gpu, where the next run goes on; and its row with correctors fitted to
each chip, once both are trained. Results are written as they come, to benchmarks/results/gpu.json.
"""

from __future__ import annotations

import signal
import statistics
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.common import DATA, RESULTS, SIGMA, Row, command_line
from benchmarks.speed import IMAGE, TABLE, Step, inputs, race, ratio, training_step
from benchmarks.subjects import LIMIT, ONE_CYCLE, SUBJECTS, dataset, loaded, where
from benchmarks.ways import over_chips
from cnet_aihw.compensation import (
    LowRank,
    PerChipFit,
    WithCompensation,
    network_cost,
    uniform_placement,
)
from cnet_aihw.evaluation import evaluate_chips
from cnet_aihw.rram import (
    LogNormalNoiseModel,
    RRAMRPUConfig,
    VariationParameter,
    analog_layers,
    convert_to_analog,
)
from cnet_aihw.runtime.records import read_records, write_json_atomic
from cnet_aihw.training import LipschitzPenalty, lipschitz_lambda
from cnet_aihw.zoo import VGG16, LeNet5, ResNet20, ViT

ROOT = Path(__file__).parent.parent
FOLDER = Path("outputs/gpu")
CONFIG = RRAMRPUConfig(noise_model=LogNormalNoiseModel(SIGMA))
TABLED = replace(CONFIG, variation=VariationParameter(table=TABLE))
STEPS = 10  # between two looks at the clock
WORDS = (
    "job=train", "model=vgg16", *(w for w in ONE_CYCLE if not w.startswith("training.lr")),
    "training.lr=0.2", "training.batch_size=512", "training.select=last", "progress=false",
)  # fmt: skip


def networks(quick: bool) -> list[tuple[str, nn.Module, tuple[int, ...], int]]:
    """Return name, network, shape of an input and batch size."""
    digit = (1, 28, 28)
    found: list[tuple[str, nn.Module, tuple[int, ...], int]] = [
        ("LeNet-5", LeNet5(digit, 10), digit, 256),
        ("ResNet-20", ResNet20(IMAGE, 10), IMAGE, 256),
        ("VGG16", VGG16(IMAGE, 10), IMAGE, 256),
        ("ViT, 64 tokens", ViT(IMAGE, 10), IMAGE, 128),
    ]
    return found[:1] if quick else found


def finished(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(step: Step, device: torch.device) -> Step:
    """Return several steps with the seconds of one of them, the device's work included."""

    def steps() -> float:
        finished(device)
        start = time.perf_counter()
        for _ in range(STEPS):
            step()
        finished(device)
        return (time.perf_counter() - start) / STEPS

    return steps


def waits(step: Step, device: torch.device) -> int | None:
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
        digital.to(device)
        x, y = (part.to(device) for part in inputs(shape, batch))
        plain = training_step(digital, x, y, None)
        ours = {}
        for kind, config, probes in (("exact", CONFIG, None), ("table", TABLED, 1)):
            varied, penalised = (convert_to_analog(digital, config) for _ in range(2))
            penalty = LipschitzPenalty(
                penalised, lipschitz_lambda(CONFIG.noise_model), probes=probes
            )
            ours[f"variation, {kind}"] = training_step(varied, x, y, None)
            ours[f"variation and penalty, {kind}"] = training_step(penalised, x, y, penalty)
        steps = {"plain": plain, **ours}
        seconds = race({k: timed(s, device) for k, s in steps.items()}, 2 if quick else 7)
        rows += [
            {
                "network": name,
                "batch": batch,
                "case": kind,
                "over_plain": ratio(seconds[kind], seconds["plain"]),
                "milliseconds_plain": round(1e3 * min(seconds["plain"]), 3),
                "waits": waits(step, device),
            }
            for kind, step in ours.items()
        ]
        rows += chip_rows(name, digital, shape, device, quick)
    return rows


def fitted(model: nn.Module, example: torch.Tensor, x: torch.Tensor) -> WithCompensation:
    """Return low-rank correctors at all layers, fitted to each chip."""
    cost, layers = network_cost(model, example), list(analog_layers(model))
    placement = uniform_placement(cost, layers, LIMIT, LowRank(), limit_macs=LIMIT)
    return WithCompensation(placement, LowRank(), PerChipFit(x, batch_size=1000))


def chip_rows(
    name: str, digital: nn.Module, shape: tuple[int, ...], device: torch.device, quick: bool
) -> list[Row]:
    """Measure chips a second over 2,000 inputs, bare and with correctors fitted to each."""
    data, chips = inputs(shape, 64 if quick else 2000), 2 if quick else 10
    model = convert_to_analog(digital, CONFIG).eval()
    rows, records = [], FOLDER / "speed.jsonl"
    correctors = fitted(model, data[0][:1].to(device), data[0][:1000])
    for kind, calibration in (("chip", None), ("chip with its correctors", correctors)):
        records.unlink(missing_ok=True)
        records.parent.mkdir(parents=True, exist_ok=True)
        evaluate_chips(
            model, data, chips=chips, calibration=calibration, records=records,
            device=str(device), batch_size=1000,
        )  # fmt: skip
        seconds = statistics.median(record["seconds"] for record in read_records(records))
        rows.append({"network": name, "case": kind, "per_second": round(1 / seconds, 2)})
    return rows


def train(kind: str, device: torch.device, until: float, quick: bool) -> bool:
    """Train VGG16 at full width until a time at most; return whether it is trained."""
    folder, epochs = FOLDER / kind, 1 if quick else 30
    if (folder / kind / "best.safetensors").exists():
        return True
    words = [
        *WORDS, *where("cifar10"), f"training={kind}", f"training.epochs={epochs}",
        f"training.validate_every={epochs}", f"device={device}", f"run={folder}",
        *(["data.limit_train=64", "model.width=0.0625"] if quick else []),
    ]  # fmt: skip
    job = subprocess.Popen([sys.executable, "-m", "cnet_aihw.jobs.cli", *words])
    try:
        job.wait(max(1.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        job.send_signal(signal.SIGTERM)  # it ends the epoch's files, and the next run goes on
        job.wait(30)
    return (folder / kind / "best.safetensors").exists()


def row_of(device: torch.device, chips: int) -> Row:
    """Measure the penalised network with correctors fitted to each chip beside the plain one."""
    data, rows = dataset("cifar10"), {}
    for kind in ("plain", "lipschitz"):
        model = loaded(SUBJECTS["vgg16_cifar10"], FOLDER / kind / kind, CONFIG)
        correctors = fitted(model, data.val.first(1).x, data.train.x[:2000])
        for name, way in (("none", None), ("per chip", correctors)):
            found = evaluate_chips(
                model, data.test, chips=chips, calibration=way, device=str(device), batch_size=1000
            )
            rows[f"{kind}, {name}"] = over_chips(found)
            rows[f"{kind}, {name}"]["recovery"] = found.mean / rows["plain, none"]["clean"]
    return {"network": "VGG16 on CIFAR-10", "sigma": SIGMA, "chips": chips, "rows": rows}


def run(minutes: float, device: str, quick: bool, output: Path) -> None:
    """Do all of it, one after the other, and write what is there after each."""
    until, where_to = time.monotonic() + 60 * minutes, torch.device(device)
    is_cuda = where_to.type == "cuda"
    if is_cuda and not torch.cuda.is_available():
        raise SystemExit(
            "a CUDA device is missing here; --device cpu --quick tries the script without one"
        )
    record: dict[str, Any] = {
        "command": "python -m benchmarks.gpu",
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(where_to) if is_cuda else "cpu",
    }
    if is_cuda:
        tests = [sys.executable, "-m", "pytest", "-q", "-m", "cuda", "tests"]
        record["tests"] = subprocess.run(tests, cwd=ROOT, check=False).returncode
    record["speed"] = speed_rows(where_to, quick)
    write_json_atomic(output, record)
    if (DATA / "cifar10.npz").exists():
        middle = time.monotonic() + (until - time.monotonic() - 60) / 2
        trained = [
            train("plain", where_to, middle, quick),
            train("lipschitz", where_to, until - 60, quick),
        ]
        if all(trained) and not quick:
            record["vgg16"] = row_of(where_to, 10)
            write_json_atomic(output, record)
    print(record)


if __name__ == "__main__":
    command_line(__doc__, run, minutes=8.0, device="cuda", quick=False, output=RESULTS / "gpu.json")
