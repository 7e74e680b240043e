"""Seconds of the steps of a whole run, LeNet-5 on MNIST, each as a command of its own, ten minutes.

    python -m benchmarks.pipeline

It needs MNIST in data/ (BENCHMARK_DATA) as torchvision lays it out, and writes
benchmarks/results/pipeline.json. Correctors are fitted to each chip; searches have a budget of 50
placements. All steps run one after the other on one thread, so that their ratios count.
"""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.common import DATA, cnet_aihw, command_line, write_result
from benchmarks.subjects import where
from cnet_aihw.runtime.records import read_json

WORDS = (
    "experiment=lenet5_mnist", *where("mnist"), "training=lipschitz", "compensation=default",
    "compensation.threshold=0.999", "search.budget=50",  # most layers: there is enough to search
)  # fmt: skip
FEW = "search.chips=3", "compensation.per_chip.samples=500"
STEPS = {
    "train": ("job=train",),
    "scan": ("job=scan",),
    "search, default searcher": ("job=search",),
    "search, default searcher, 3 chips": ("job=search", *FEW),
    "search, ppo, 3 chips": ("job=search", *FEW, "search=ppo", "ray.dashboard=false"),
    "compensate": ("job=compensate",),
    "evaluate, 100 chips": ("job=evaluate",),
}


def run() -> None:
    """Run and time all steps; each search pays for its own evaluations."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        for step, words in STEPS.items():
            store = f"search.store={Path(name) / f'store{len(rows)}'}"
            begun = perf_counter()
            folder, where_to = Path(name) / "run", [f"hydra.run.dir={Path(name) / 'run'}"]
            if words[1:]:  # a folder holds one search of a kind
                folder = Path(name) / f"search{len(rows)}"
                where_to = [f"source={Path(name) / 'run'}", f"hydra.run.dir={folder}"]
            cnet_aihw(*WORDS, *words, store, *where_to)
            seconds, command = perf_counter() - begun, shlex.join(["cnet-aihw", *WORDS, *words])
            command = command.replace(str(DATA), "data")
            rows.append({"step": step, "seconds": seconds, "command": command})
            if words[0] == "job=search":
                found = read_json(folder / "lipschitz" / "search.json")["result"]
                keys = ("searcher", "reward", "placement", "evaluations", "overhead_weights")
                rows[-1] |= {key: found[key] for key in keys}
    for row in rows:
        row["of_training"] = row["seconds"] / rows[0]["seconds"]
    write_result("pipeline", "python -m benchmarks.pipeline", rows)


if __name__ == "__main__":
    command_line(__doc__, run)
