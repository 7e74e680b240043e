"""Chips over time after programming: correctors fitted once, on a schedule, or in vectors alone.

    python -m benchmarks.drift run     # --device pcm --chips 10
    python -m benchmarks.drift table   # benchmarks/results/drift.json

LeNet-5 on CIFAR-10, penalised; network and placement are those of `benchmarks.per_chip`. Test part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from aihwkit.inference import GlobalDriftCompensation

from benchmarks import common
from benchmarks.subjects import CHIPS_SEED, SUBJECTS, dataset, folder_of, loaded
from benchmarks.ways import chosen, plain_clean
from cnet_aihw import compensation, rram
from cnet_aihw.evaluation import chip_statistics, evaluate_chips

COMMAND = "python -m benchmarks.drift"
DEVICES: dict[str, Callable[[], Any]] = {
    "pcm": rram.PCMNoiseModel,
    "cmo": rram.CMONoiseModel,
    "lognormal, drift": lambda: rram.CompositeNoiseModel(
        [rram.LogNormalNoiseModel(0.5), rram.PowerLawDriftNoiseModel()]
    ),
    "lognormal, fast drift": lambda: rram.CompositeNoiseModel(
        [rram.LogNormalNoiseModel(0.3), rram.PowerLawDriftNoiseModel(nu=0.05, nu_std=0.03)]
    ),
}
"""Phase-change memory, for comparison; ReRAM; and log-normal variation with the decay of the same
ReRAM, or one that is nearly 30 times as fast, as phase-change memory has it."""
TIMES = [25.0, 3600.0, 86400.0, 2592000.0, 31536000.0]
"""Seconds: a look after programming, an hour, a day, a month, a year."""
SCHEDULES = {
    "fitted once": (TIMES[:1], []),
    "vectors each time": (TIMES[:1], TIMES[1:]),
    "fitted each time": (TIMES, []),
}
"""Way -> times of fits, and of fits of the vectors alone."""
SAMPLES, IMAGES = 2000, 1000


def run(device: list[str], chips: int) -> None:
    """Measure each device, in a file of its own."""
    for name in device:
        path = common.OUTPUTS / "drift" / f"{name.replace(', ', '-').replace(' ', '-')}.json"
        common.once(path, lambda name=name: list(measured(name, chips)))


def measured(device: str, chips: int) -> Iterator[dict[str, Any]]:
    """Yield a row for each way and time."""
    subject = SUBJECTS["lenet5_cifar10"]
    folder, part = folder_of(subject, 0) / "lipschitz", dataset("cifar10").test.first(SAMPLES)
    placement = compensation.Placement(chosen(subject)["placement"])
    noise, asked = DEVICES[device](), {"chips": chips, "seed": CHIPS_SEED, "batch_size": 500}
    top = plain_clean(subject, 0, SAMPLES)

    def row(way: str, t: float, scores: list[Any], **cost: float) -> dict[str, Any]:
        found = chip_statistics(scores)
        return {
            "network": subject.name, "training": "lipschitz", "device": device,
            "model": noise.label(), "way": way, "t_inference": t, "samples": SAMPLES,
            "mean": found.mean, "std": found.std, "q05": found.q05, "chips": chips,
            "chips_seed": CHIPS_SEED, "recovery": found.mean / top, **cost,
            "command": f"{COMMAND} run --chips {chips}",
        }  # fmt: skip

    for way, scaled in (("none", None), ("global drift compensation", GlobalDriftCompensation())):
        config = rram.RRAMRPUConfig(noise_model=noise, drift_compensation=scaled)
        model = loaded(subject, folder, config)
        over_time = evaluate_chips(model, part, t_inference=TIMES, device="cpu", **asked)
        for t, found in over_time.items():
            yield row(way, t, list(found.scores))
    model = loaded(subject, folder, rram.RRAMRPUConfig(noise_model=noise))
    fit = compensation.PerChipFit(dataset("cifar10").train.x[:IMAGES])
    correctors = compensation.WithCompensation(placement, compensation.LowRank(), fit)
    for way, (fits, vectors) in SCHEDULES.items():
        records = compensation.accuracy_over_time(
            model, part, TIMES, correctors, fits=fits, vectors=vectors, **asked
        )
        for t in TIMES:
            at = [record for record in records if record["t_inference"] == t]
            spent = at[0]["calibration"]
            cost = {"images": spent["images"], "passes": spent["passes"]}
            yield row(way, t, [record["score"] for record in at], **cost)


def table() -> None:
    """Write all rows."""
    rows = common.rows_in(sorted((common.OUTPUTS / "drift").glob("*.json")))
    rows = common.with_earlier("drift", rows, "device", "way", "t_inference")
    common.write_result("drift", f"{COMMAND} run", rows)


if __name__ == "__main__":
    common.command_line(__doc__, run, table, device=list(DEVICES), chips=25)
