"""Attacks on chips: networks and recipes x knowledge of the attacker, and stages of the noise.

    python -m benchmarks.attacks run      # trainings and recipes x threats x attacks, some hours
    python -m benchmarks.attacks stages   # levels, programming, read and output noise, matched
    python -m benchmarks.attacks table    # benchmarks/results/attacks.json

It needs the extra `attacks`, and the networks that `python -m benchmarks.per_chip train` trains;
where they and the data are: see benchmarks/subjects.py. Devices have a variation of sigma 0.5 and
read noise of 1 % of the largest conductance. Each step resumes where it was stopped; `--network`
and `--attack` restrict it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aihwkit.inference.noise.base import BaseNoiseModel
from torch import nn

from benchmarks.common import Row, command_line, once, recorded, write_result
from benchmarks.subjects import (
    CHIPS_SEED,
    SIGMA,
    SUBJECTS,
    VALIDATION_SEED,
    Subject,
    dataset,
    folder_of,
    network,
)
from benchmarks.ways import Way, calibration, chosen
from cnet_aihw import rram
from cnet_aihw.attacks import APGD, PGD, Attack, OnePixel, Square, attack_chips
from cnet_aihw.compensation import LowRank, Placement
from cnet_aihw.evaluation import evaluate_chips

COMMAND = "python -m benchmarks.attacks"
NETWORKS = ["lenet5_mnist", "lenet5_cifar10"]
ATTACKS: dict[str, Attack] = {
    "pgd": PGD(), "apgd": APGD(), "square": Square(), "one_pixel": OnePixel(),
}  # fmt: skip
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
    "levels": Stage(lambda bits: rram.LevelsNoiseModel(max(2, round(2**bits))), 6.0, 1.0),
    "programming": Stage(rram.LogNormalNoiseModel, 0.02, 1.0),
    "read": Stage(rram.ReadNoiseModel, 0.002, 0.5),
    "output": Stage(lambda _: rram.LogNormalNoiseModel(0.0), 0.002, 1.0, output=True),
}


def on_device(
    subject: Subject, training: str, beta: float | None, device: BaseNoiseModel, noise: float = 0.0
) -> nn.Module:
    """Return a trained network on other devices, with Gaussian noise on the crossbars' outputs."""
    edge = rram.periphery(out_noise=noise, adc_range=None) if noise else rram.periphery()
    config = rram.RRAMRPUConfig(noise_model=device, forward=edge)
    trained = rram.convert_to_digital(network(subject, 0, training, beta))
    return rram.convert_to_analog(trained, config).eval()


def recipes(subject: Subject) -> dict[str, Way]:
    """Return the ways that are attacked, the last of them the best one on validation data."""
    best = chosen(subject)
    placement, betas = Placement(best["placement"]), {"lipschitz": best["beta"]}
    bare = [Way(name, name, beta=betas.get(name)) for name in ("plain", "noise", "lipschitz")]
    fitted = [
        Way(f"{name}, per chip", name, LowRank(), placement, "per_chip", beta=betas.get(name))
        for name in ("plain", "lipschitz")
    ]
    return {way.name: way for way in (*bare, *fitted)}


def run(network: list[str], attack: list[str]) -> None:
    """Attack all recipes."""
    for subject in (SUBJECTS[name] for name in network):
        for name in attack:
            for recipe, way in recipes(subject).items():
                if name == "pgd" or recipe != "plain, per chip":
                    path = file_of(subject, f"{recipe.replace(' ', '-')}-{name}")
                    once(path, attacked, subject, name, recipe, way, path)


def file_of(subject: Subject, name: str) -> Path:
    """Where one cell is."""
    return folder_of(subject, 0) / "attacks" / f"{name}.json"


def attacked(subject: Subject, name: str, recipe: str, way: Way, path: Path) -> dict[str, Any]:
    """Attack one recipe; return its rows, one for each threat and budget."""
    device = rram.CompositeNoiseModel(
        [rram.LogNormalNoiseModel(SIGMA), rram.ReadNoiseModel(READ_SIGMA)]
    )
    budgets = BUDGETS[subject.data] if name == "pgd" else OTHERS[subject.data]
    found = attack_chips(
        on_device(subject, way.training, way.beta, device),
        dataset(subject.data),
        ATTACKS[name],
        THREATS,
        PIXELS if name == "one_pixel" else budgets,
        3 if name == "one_pixel" else CHIPS,
        CHIPS_SEED,
        path.with_suffix(".jsonl"),
        samples=PGD_SAMPLES[subject.data] if name == "pgd" else SAMPLES[name],
        sources=SOURCES,
        eot_chips=EOT[name],
        eot_readings=EOT[name],
        calibration=calibration(way, subject),
        device="cpu",
    )
    about = {"network": subject.name, "recipe": recipe, "attack": name}
    command = {"command": f"{COMMAND} run --network {subject.name}"}
    failed = [check.name for check in found.checks if not check.passed]
    return {"rows": [about | row | command for row in over_threats(found)], "failed_checks": failed}


def matched(subject: Subject, stage: Stage, training: str) -> tuple[float, float, nn.Module]:
    """Return the strength that leaves `KEPT` of the clean accuracy on validation chips.

    Clean is the network without any noise: that of outputs is there without a chip too.
    """
    part = dataset(subject.data).val.first(1000)
    exact = on_device(subject, training, None, rram.LogNormalNoiseModel(0.0))
    clean = evaluate_chips(exact, part, chips=1, seed=0, device="cpu", batch_size=500).mean
    weak, strong = stage.weak, stage.strong
    for _ in range(8):
        strength = (weak + strong) / 2 if weak > strong else (weak * strong) ** 0.5
        model = on_device(
            subject, training, None, stage.device(strength), strength if stage.output else 0.0
        )
        found = evaluate_chips(
            model, part, chips=4, seed=VALIDATION_SEED, device="cpu", batch_size=500
        )
        kept = found.mean / clean
        if abs(kept - KEPT) < 0.01:
            break
        weak, strong = (strength, strong) if kept > KEPT else (weak, strength)
    return strength, kept, model


def stages(network: list[str]) -> None:
    """Attack a plain network that each stage of the noise harms equally."""
    for subject in (SUBJECTS[name] for name in network):
        for name in STAGES:
            path = file_of(subject, f"stage-{name}")
            once(path, staged, subject, name, path)


def staged(subject: Subject, name: str, path: Path) -> dict[str, Any]:
    """Attack the plain network at one stage; return its rows."""
    strength, kept, model = matched(subject, STAGES[name], "plain")
    found = attack_chips(
        model, dataset(subject.data), PGD(), ("nominal", "this_chip"), BUDGETS[subject.data],
        CHIPS, CHIPS_SEED, path.with_suffix(".jsonl"), samples=100, device="cpu", checks=False,
    )  # fmt: skip
    about = {"network": subject.name, "stage": name, "strength": strength, "kept": kept}
    command = {"command": f"{COMMAND} stages --network {subject.name}"}
    return {"rows": [about | row | command for row in over_threats(found)]}


def over_threats(found: Any) -> Iterator[Row]:
    """Yield a row for each threat and budget; its success is the mean over chips."""
    names = ("threat", "eps", "clean", "ci95", "robust", "flips", "noise", "queries")
    for each in found.successes:
        over_chips = {"success": each.mean, "inputs": found.inputs, "chips": found.chips}
        yield {name: getattr(each, name) for name in names} | over_chips


def table() -> None:
    """Write all rows."""
    rows: dict[bool, list[Row]] = {False: [], True: []}
    for name in NETWORKS:
        for path in sorted(file_of(SUBJECTS[name], "x").parent.glob("*.json")):
            record = recorded(path)
            more = {key: value for key, value in record.items() if key != "rows"}
            rows[path.name.startswith("stage-")] += [{**row, **more} for row in record["rows"]]
    write_result("attacks", f"{COMMAND} run", rows[False])
    write_result("attacks_by_stage", f"{COMMAND} stages", rows[True])


if __name__ == "__main__":
    command_line(__doc__, run, stages, table, network=NETWORKS, attack=list(ATTACKS))
