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

import argparse
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.common import DATA, RESULTS
from benchmarks.speed import IMAGE, SIGMA, TABLE, Step, race, ratio, training_step
from benchmarks.subjects import LIMIT
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
    load_snapshot,
)
from cnet_aihw.runtime.records import read_records, write_json_atomic
from cnet_aihw.training import LipschitzPenalty, lipschitz_lambda, load_checkpoint
from cnet_aihw.zoo import VGG16, LeNet5, ResNet20, ViT, arrays

ROOT = Path(__file__).parent.parent
FOLDER = Path("outputs/gpu")
CONFIG = RRAMRPUConfig(noise_model=LogNormalNoiseModel(SIGMA))
TABLED = replace(CONFIG, variation=VariationParameter(table=TABLE))
STEPS = 10  # between two looks at the clock
EPOCHS = 30
TRAINING = [
    *("job=train", "model=vgg16", "data=arrays", "data.val_size=5000", "data.augment=true"),
    *(f"training.epochs={EPOCHS}", "training.batch_size=512", "training.schedule=onecycle"),
    *("training.lr=0.2", "training.label_smoothing=0.1", "training.bf16=true"),
    *("training.channels_last=true", "training.select=last", "training.validation_chips=2"),
    *(f"training.validate_every={EPOCHS}", "progress=false"),
]


def networks(quick: bool) -> list[tuple[str, nn.Module, tuple[int, ...], int]]:
    """Return name, network, shape of an input and batch size."""
    digit, image = (1, 28, 28), IMAGE
    found: list[tuple[str, nn.Module, tuple[int, ...], int]] = [
        ("LeNet-5", LeNet5(digit, 10), digit, 256),
        ("ResNet-20", ResNet20(image, 10), image, 256),
        ("VGG16", VGG16(image, 10), image, 256),
        ("ViT, 64 tokens", ViT(image, 10), image, 128),
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


def speed_rows(device: torch.device, quick: bool) -> list[dict[str, Any]]:
    """Measure training steps, chips and fits of all networks."""
    rows = []
    for name, digital, shape, batch in networks(quick):
        digital.to(device)
        x, y = torch.randn(batch, *shape, device=device), torch.randint(10, (batch,)).to(device)
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


def chip_rows(
    name: str, digital: nn.Module, shape: tuple[int, ...], device: torch.device, quick: bool
) -> list[dict[str, Any]]:
    """Measure chips a second over 2,000 inputs, bare and with correctors fitted to each."""
    images, chips = (64, 2) if quick else (2000, 10)
    x, y = torch.randn(images, *shape), torch.randint(10, (images,))
    model = convert_to_analog(digital, CONFIG).eval()
    cost = network_cost(model, x[:1].to(device))
    placement = uniform_placement(
        cost, list(analog_layers(model)), LIMIT, LowRank(), limit_macs=None
    )
    fit = WithCompensation(placement, LowRank(), PerChipFit(x[:1000], batch_size=1000))
    rows = []
    for kind, calibration in (("chip", None), ("chip with its correctors", fit)):
        records = FOLDER / "speed.jsonl"
        records.unlink(missing_ok=True)
        records.parent.mkdir(parents=True, exist_ok=True)
        evaluate_chips(
            model, (x, y), chips=chips, calibration=calibration, records=records,
            device=str(device), batch_size=1000,
        )  # fmt: skip
        spent = sorted(record["seconds"] for record in read_records(records))
        median = spent[len(spent) // 2]
        rows.append({"network": name, "case": kind, "per_second": round(1 / median, 2)})
    return rows


def train(kind: str, device: torch.device, until: float, quick: bool) -> bool:
    """Train VGG16 at full width until a time at most; return whether it is trained."""
    folder = FOLDER / kind
    if (folder / kind / "best.safetensors").exists():
        return True
    small = ["data.limit_train=64", "model.width=0.0625", "training.epochs=1"] if quick else []
    words = [
        *TRAINING, f"training={kind}", f"data.path={DATA / 'cifar10.npz'}", f"device={device}",
        f"run={folder}", *small,
    ]  # fmt: skip
    job = subprocess.Popen([sys.executable, "-m", "cnet_aihw.jobs.cli", *words])
    try:
        job.wait(max(1.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        job.send_signal(signal.SIGTERM)  # it ends the epoch's files, and the next run goes on
        job.wait(30)
    return (folder / kind / "best.safetensors").exists()


def row_of(device: torch.device, chips: int) -> dict[str, Any]:
    """Measure the penalised network with correctors fitted to each chip beside the plain one."""
    data = arrays(DATA / "cifar10.npz", val_size=5000)
    rows: dict[str, dict[str, Any]] = {}
    for kind in ("plain", "lipschitz"):
        model = convert_to_analog(VGG16(data.input_shape, data.classes), CONFIG)
        load_snapshot(model, load_checkpoint(FOLDER / kind / kind / "best.safetensors").model)
        cost, layers = network_cost(model, data.val.first(1).x), list(analog_layers(model))
        placement = uniform_placement(cost, layers, LIMIT, LowRank(), limit_macs=LIMIT)
        fit = PerChipFit(data.train.x[:2000], batch_size=1000)
        fitted = WithCompensation(placement, LowRank(), fit)
        for name, way in (("none", None), ("per chip", fitted)):
            found = evaluate_chips(
                model, data.test, chips=chips, calibration=way, device=str(device), batch_size=1000
            )
            record = found.as_record()
            rows[f"{kind}, {name}"] = {key: record[key] for key in ("clean", "mean", "std", "q05")}
    clean = rows["plain, none"]["clean"]
    rows = {name: {**row, "recovery": row["mean"] / clean} for name, row in rows.items()}
    return {"network": "VGG16 on CIFAR-10", "sigma": SIGMA, "chips": chips, "rows": rows}


def main(words: Sequence[str] | None = None) -> None:
    """Do all of it, one after the other, and write what is there after each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="small, to see that it runs")
    parser.add_argument("--output", type=Path, default=RESULTS / "gpu.json")
    asked = parser.parse_args(words)
    until = time.monotonic() + 60 * asked.minutes
    device = torch.device(asked.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error(
            "a CUDA device is missing here; --device cpu --quick tries the script without one"
        )
    is_cuda = device.type == "cuda"
    record: dict[str, Any] = {
        "command": "python -m benchmarks.gpu",
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if is_cuda else "cpu",
    }
    if is_cuda:
        tests = [sys.executable, "-m", "pytest", "-q", "-m", "cuda", "tests"]
        record["tests"] = subprocess.run(tests, cwd=ROOT, check=False).returncode
    record["speed"] = speed_rows(device, asked.quick)
    write_json_atomic(asked.output, record)
    if (DATA / "cifar10.npz").exists():
        middle = time.monotonic() + (until - time.monotonic() - 60) / 2
        trained = [
            train("plain", device, middle, asked.quick),
            train("lipschitz", device, until - 60, asked.quick),
        ]
        if all(trained) and not asked.quick:
            record["vgg16"] = row_of(device, 10)
            write_json_atomic(asked.output, record)
    print(record)


if __name__ == "__main__":
    main()
