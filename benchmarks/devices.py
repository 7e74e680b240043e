"""LeNet-5 on MNIST on every device model, at its published operating point and at a harsher one.

    python -m benchmarks.devices run     # makes, or continues, all rows
    python -m benchmarks.devices table   # benchmarks/results/devices.json from what is there

Rows: the plain network, noise injection with the same device, the Lipschitz penalty (its lambda
from the device), and CorrectNet: that network with a searched placement of compensation. Each runs
the commands of `cnet-aihw` that it prints. It needs MNIST in data/ as torchvision lays it out.
"""

from __future__ import annotations

import argparse
import csv
import os
import shlex
from collections.abc import Sequence

import torch

from benchmarks.training import RECORDS, RESULTS, cnet_aihw
from cnet_aihw.rram import Wan2022NoiseModel
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.runtime.records import read_json, write_json_atomic

FOLDER = RECORDS / "devices"
STORE = os.path.relpath(FOLDER / "evaluations")
MEASUREMENTS = FOLDER / "measurements.csv"
DAY = ["rram.t_inference=86400.0", "evaluation.t_inference=[86400.0]"]
DECADE = ["rram.t_inference=3.15e8", "evaluation.t_inference=[3.15e8]"]
PUBLISHED, HARSHER = "published", "harsher"
POINTS: dict[str, dict[str, Sequence[str]]] = {
    "lognormal": {PUBLISHED: [], HARSHER: ["rram.sigma=0.8"]},
    "gaussian_additive": {PUBLISHED: [], HARSHER: ["rram.sigma=0.15"]},
    "gaussian_proportional": {PUBLISHED: [], HARSHER: ["rram.sigma=0.6"]},
    "reram_wan2022": {PUBLISHED: DAY, HARSHER: [*DAY, "rram.noise_scale=3.0"]},
    "reram_cmo": {
        PUBLISHED: DAY,
        HARSHER: [*DECADE, "rram.acceptance=2", "rram.prog_noise_scale=3.0"],
    },
    "pcm": {PUBLISHED: DAY, HARSHER: [*DECADE, "rram.prog_noise_scale=3.0"]},
    "measured": {PUBLISHED: [], HARSHER: ["rram.noise_scale=3.0"]},
    "levels": {PUBLISHED: [], HARSHER: ["rram.levels=4"]},
    "stuck_at": {
        PUBLISHED: [],
        HARSHER: ["rram.share_g_min=0.2", "rram.share_g_max=0.05"],
    },
    "power_law_drift": {PUBLISHED: DAY, HARSHER: [*DECADE, "rram.nu=0.05", "rram.nu_std=0.02"]},
    "read_noise": {PUBLISHED: [], HARSHER: ["rram.sigma=0.1"]},
    "composed": {PUBLISHED: DAY, HARSHER: [*DECADE, "rram.sigma=0.5", "rram.levels=8"]},
}  # fmt: skip
COMMON = (
    "experiment=lenet5_mnist", "data.root=data", "training.epochs=3", "evaluation.chips=25",
)  # fmt: skip
PLAIN = FOLDER / "plain"  # no device comes into its training
PARTS = {
    "plain": ("training=plain", "job=evaluate", f"source={os.path.relpath(PLAIN)}"),
    "noise": ("training=noise",),
    "correctnet": (
        "training=lipschitz", "compensation=paper", "compensation.scan.chips=10",
        "compensation.scan.samples=500", "compensation.shared.epochs=1", "search=coordinate",
        "search.budget=25", "search.chips=5", "search.samples=500",
        "search.evaluator.shared_steps=400", f"search.store={STORE}",
    ),
}  # fmt: skip
METHODS = {
    ("plain", False): "plain",
    ("noise", False): "noise-injected",
    ("lipschitz", False): "lipschitz",
    ("lipschitz", True): "correctnet",
}


def words_of(device: str, point: str) -> list[str]:
    """Words that choose a device at a point."""
    path = [f"rram.path={os.path.relpath(MEASUREMENTS)}"] if device == "measured" else []
    return [f"rram={device}", *path, *POINTS[device][point]]


def make_measurements() -> None:
    """A CSV file of the kind that users have: 40 devices at each of nine conductances.

    They are drawn from the fit of Wan et al., a second after programming.
    """
    if MEASUREMENTS.exists():
        return
    MEASUREMENTS.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(derive_seed(0, "measurements"))
    targets = torch.linspace(0.0, 40.0, 9).repeat_interleave(40)
    measured = Wan2022NoiseModel().drift_device(targets, None, 1.0)
    with MEASUREMENTS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("target", "measured"))
        pairs = zip(targets.tolist(), measured.tolist(), strict=True)
        writer.writerows((f"{target:g}", f"{value:.4f}") for target, value in pairs)


def run(devices: Sequence[str]) -> None:
    """All parts of all points of some devices."""
    make_measurements()
    if not (PLAIN / "plain" / "result.json").exists():
        cnet_aihw(*COMMON, "training=plain", "job=train", f"hydra.run.dir={PLAIN}")
    for device in devices:
        for point in POINTS[device]:
            for part, words in PARTS.items():
                folder = FOLDER / f"{device}-{point}" / part
                if not (folder / "table.json").exists():
                    cnet_aihw(*COMMON, *words, *words_of(device, point), f"hydra.run.dir={folder}")
            table()


def table() -> None:
    """Write the table from the records alone."""
    rows = []
    for device, points in POINTS.items():
        for point in points:
            for part, words in PARTS.items():
                path = FOLDER / f"{device}-{point}" / part / "table.json"
                if not path.exists():
                    continue
                found = read_json(path)
                for row in found["rows"]:
                    method = METHODS[row["training"], row["compensation"] is not None]
                    command = ["cnet-aihw", *COMMON, *words, *words_of(device, point)]
                    rows.append(
                        {"device": device, "point": point, "knobs": knobs(device, point)}
                        | {"method": method, **row, "command": shlex.join(command)}
                    )
    write_json_atomic(
        RESULTS / "devices.json", {"command": "python -m benchmarks.devices run", "rows": rows}
    )


def knobs(device: str, point: str) -> str:
    """Settings that differ from the device's file, without the groups' names."""
    return ", ".join(word.partition(".")[2] for word in POINTS[device][point])


def main() -> None:
    """Do what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=("run", "table"))
    parser.add_argument("--device", choices=list(POINTS), nargs="+", default=list(POINTS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.action == "run":
        run(arguments.device)
    table()


if __name__ == "__main__":
    main()
