"""Attacks on chips: networks and recipes x knowledge of the attacker, and stages of the noise.

    python -m benchmarks.attacks run      # trainings and recipes x threats x attacks
    python -m benchmarks.attacks stages   # levels, programming, read and output noise, matched
    python -m benchmarks.attacks table    # benchmarks/results/attacks.json

It needs the extra `attacks`, and the networks that `python -m benchmarks.per_chip train` trains;
where they and the data are: see benchmarks/subjects.py. Devices have a variation of sigma 0.5 and
read noise of 1 % of the largest conductance. Each step resumes where it was stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from aihwkit.inference.noise.base import BaseNoiseModel
from torch import nn

from benchmarks.subjects import (
    CHIPS_SEED,
    RESULTS,
    SIGMA,
    SUBJECTS,
    VALIDATION_SEED,
    Subject,
    Way,
    calibration,
    dataset,
    folder_of,
    network,
)
from cnet_aihw.attacks import APGD, PGD, Attack, OnePixel, Square, attack_chips
from cnet_aihw.compensation import LowRank, Placement
from cnet_aihw.evaluation import evaluate_chips
from cnet_aihw.rram import (
    CompositeNoiseModel,
    LevelsNoiseModel,
    LogNormalNoiseModel,
    ReadNoiseModel,
    RRAMRPUConfig,
    convert_to_analog,
    convert_to_digital,
    periphery,
)
from cnet_aihw.runtime.records import read_json, write_json_atomic

COMMAND = "python -m benchmarks.attacks"
NETWORKS = ("lenet5_mnist", "lenet5_cifar10")
ATTACKS: dict[str, Attack] = {
    "pgd": PGD(),
    "apgd": APGD(),
    "square": Square(),
    "one_pixel": OnePixel(),
}
THREATS = ("nominal", "other_chip", "other_chips_eot", "this_chip", "this_chip_eot")
BUDGETS: dict[str, tuple[Any, ...]] = {"mnist": (0.05, 0.1, 0.2), "cifar10": (1 / 255, 4 / 255)}
OTHERS = {"mnist": (0.1,), "cifar10": (4 / 255,)}
"""Budgets of other attacks than PGD."""

PIXELS = (1,)
CHIPS, SOURCES = 5, 2
EOT = {"pgd": 4, "apgd": 4, "square": 2, "one_pixel": 2}
"""Chips, or readings, of a mean."""

SAMPLES = {"apgd": 40, "square": 25, "one_pixel": 10}
PGD_SAMPLES = {"mnist": 100, "cifar10": 40}
READ_SIGMA = 0.01
KEPT = 0.9
"""Share of the clean accuracy that each stage of the noise leaves."""


@dataclass(frozen=True)
class Stage:
    """A source of errors, with a strength that can be changed."""

    device: Callable[[float], BaseNoiseModel]
    weak: float
    strong: float
    output: bool = False
    """Whether the strength is that of Gaussian noise on the outputs of each crossbar."""


STAGES = {
    "levels": Stage(lambda bits: LevelsNoiseModel(max(2, round(2**bits))), 6.0, 1.0),
    "programming": Stage(LogNormalNoiseModel, 0.02, 1.0),
    "read": Stage(ReadNoiseModel, 0.002, 0.5),
    "output": Stage(lambda _: LogNormalNoiseModel(0.0), 0.002, 16.0, output=True),
}


def on_device(
    subject: Subject, training: str, beta: float | None, device: BaseNoiseModel, noise: float = 0.0
) -> nn.Module:
    """Return a trained network on other devices, with Gaussian noise on the crossbars' outputs."""
    edge = periphery(out_noise=noise, adc_range=None) if noise else periphery()
    config = RRAMRPUConfig(noise_model=device, forward=edge)
    trained = convert_to_digital(network(subject, 0, training, beta))
    return convert_to_analog(trained, config).eval()


def recipes(subject: Subject) -> dict[str, Way]:
    """Return the ways that are attacked, the last of them the best one on validation data."""
    path = folder_of(subject, 0) / "choose.json"
    beta, found = None, {}
    if path.exists():
        chosen = read_json(path)["chosen"]
        beta, placement = chosen["beta"], Placement(chosen["placement"])
        for training in ("plain", "lipschitz"):
            found[f"{training}, per chip"] = Way(
                f"{training}, per chip", training, LowRank(), placement, "per_chip",
                beta=beta if training == "lipschitz" else None,
            )  # fmt: skip
    alone = {
        training: Way(training, training, beta=beta if training == "lipschitz" else None)
        for training in ("plain", "noise", "lipschitz")
    }
    return alone | found


def run(subject: Subject, attacks: Sequence[str]) -> None:
    """Attack all recipes."""
    device = CompositeNoiseModel([LogNormalNoiseModel(SIGMA), ReadNoiseModel(READ_SIGMA)])
    for name in attacks:
        samples = PGD_SAMPLES[subject.data] if name == "pgd" else SAMPLES[name]
        budgets = BUDGETS[subject.data] if name == "pgd" else OTHERS[subject.data]
        for recipe, way in recipes(subject).items():
            if name != "pgd" and recipe == "plain, per chip":
                continue
            path = folder_of(subject, 0) / "attacks" / f"{recipe.replace(' ', '-')}-{name}.json"
            if path.exists():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            found = attack_chips(
                on_device(subject, way.training, way.beta, device),
                dataset(subject.data),
                ATTACKS[name],
                THREATS,
                PIXELS if name == "one_pixel" else budgets,
                3 if name == "one_pixel" else CHIPS,
                CHIPS_SEED,
                path.with_suffix(".jsonl"),
                samples=samples,
                sources=SOURCES,
                eot_chips=EOT[name],
                eot_readings=EOT[name],
                calibration=calibration(way, subject),
                device="cpu",
            )
            rows = [
                {
                    "network": subject.name,
                    "recipe": recipe,
                    "attack": name,
                    "threat": success.threat,
                    "eps": success.eps,
                    "clean": success.clean,
                    "success": success.mean,
                    "ci95": success.ci95,
                    "robust": success.robust,
                    "flips": success.flips,
                    "noise": success.noise,
                    "inputs": found.inputs,
                    "chips": found.chips,
                    "queries": success.queries,
                    "command": f"{COMMAND} run --network {subject.name}",
                }
                for success in found.successes
            ]
            failed = [check.name for check in found.checks if not check.passed]
            write_json_atomic(path, {"rows": rows, "failed_checks": failed})
            for row in rows:
                print(
                    f"{subject.name} {recipe} {name} {row['threat']} {row['eps']:.4f}: "
                    f"{row['success']:.3f}",
                    flush=True,
                )


def matched(subject: Subject, stage: Stage, training: str) -> tuple[float, float, nn.Module]:
    """Return the strength that leaves `KEPT` of the clean accuracy on validation chips."""
    part = dataset(subject.data).val.first(1000)
    weak, strong = stage.weak, stage.strong
    for _ in range(8):
        strength = (weak + strong) / 2 if weak > strong else (weak * strong) ** 0.5
        model = on_device(
            subject, training, None, stage.device(strength), strength if stage.output else 0.0
        )
        found = evaluate_chips(
            model, part, chips=4, seed=VALIDATION_SEED, device="cpu", batch_size=500
        )
        kept = found.mean / found.clean
        if abs(kept - KEPT) < 0.01:
            break
        weak, strong = (strength, strong) if kept > KEPT else (weak, strength)
    return strength, kept, model


def stages(subject: Subject) -> None:
    """Attack a plain network that each stage of the noise harms equally."""
    for name, stage in STAGES.items():
        path = folder_of(subject, 0) / "attacks" / f"stage-{name}.json"
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        strength, kept, model = matched(subject, stage, "plain")
        found = attack_chips(
            model, dataset(subject.data), PGD(), ("nominal", "this_chip"), BUDGETS[subject.data],
            CHIPS, CHIPS_SEED, path.with_suffix(".jsonl"), samples=100, device="cpu", checks=False,
        )  # fmt: skip
        rows = [
            {
                "network": subject.name,
                "stage": name,
                "strength": strength,
                "kept": kept,
                "threat": success.threat,
                "eps": success.eps,
                "success": success.mean,
                "ci95": success.ci95,
                "chips": found.chips,
                "command": f"{COMMAND} stages --network {subject.name}",
            }
            for success in found.successes
        ]
        write_json_atomic(path, {"rows": rows})
        print(f"{subject.name} {name}: strength {strength:.3g} keeps {kept:.3f}", flush=True)


def table() -> None:
    """Write all rows."""
    rows: list[Any] = []
    by_stage: list[Any] = []
    for name in NETWORKS:
        for path in sorted((folder_of(SUBJECTS[name], 0) / "attacks").glob("*.json")):
            record = read_json(path)
            if path.name.startswith("stage-"):
                by_stage += record["rows"]
            else:
                failed = record["failed_checks"]
                rows += [{**row, "failed_checks": failed} for row in record["rows"]]
    record = {"command": f"{COMMAND} run", "rows": rows}
    write_json_atomic(RESULTS / "attacks.json", record)
    write_json_atomic(
        RESULTS / "attacks_by_stage.json", {"command": f"{COMMAND} stages", "rows": by_stage}
    )


def main(words: Sequence[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("step", choices=("run", "stages", "table"))
    parser.add_argument("--network", choices=NETWORKS, action="append")
    parser.add_argument("--attack", choices=list(ATTACKS), action="append")
    asked = parser.parse_args(words)
    torch.set_num_threads(1)
    for name in asked.network or NETWORKS:
        if asked.step == "run":
            run(SUBJECTS[name], asked.attack or list(ATTACKS))
        elif asked.step == "stages":
            stages(SUBJECTS[name])
    if asked.step == "table":
        table()


if __name__ == "__main__":
    main()
