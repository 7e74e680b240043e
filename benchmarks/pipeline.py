"""How long the steps of the whole way take, LeNet-5 on MNIST, each as a command of its own.

    python -m benchmarks.pipeline

It needs MNIST in data/ as torchvision lays it out, and writes benchmarks/results/pipeline.json.
All steps run one after the other on one thread, so that their ratios count.
"""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path
from time import perf_counter

from benchmarks.training import RESULTS, cnet_aihw
from cnet_aihw.runtime.records import read_json, write_json_atomic

WORDS = (
    "experiment=lenet5_mnist", "data.root=data", "training=lipschitz", "compensation=paper",
    "compensation.threshold=0.999",  # most layers, so that there is enough to search
)  # fmt: skip
STEPS = {
    "train": ("job=train",),
    "scan": ("job=scan",),
    "search, default searcher": ("job=search",),
    "search, ppo": ("job=search", "search=ppo", "ray.dashboard=false", "ray.num_cpus=1"),
    "compensate": ("job=compensate",),
}


def main() -> None:
    """Run and time all steps."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        # Each search pays for its own evaluations.
        for step, words in STEPS.items():
            store = f"search.store={Path(name) / f'store{len(rows)}'}"
            begun = perf_counter()
            cnet_aihw(*WORDS, *words, store, f"hydra.run.dir={Path(name) / 'run'}")
            command = shlex.join(["cnet-aihw", *WORDS, *words])
            rows.append({"step": step, "seconds": perf_counter() - begun, "command": command})
            if step.startswith("search"):
                found = read_json(Path(name) / "run" / "lipschitz" / "search.json")["result"]
                keys = ("searcher", "reward", "placement", "evaluations", "overhead_weights")
                rows[-1] |= {key: found[key] for key in keys}
    for row in rows:
        row["of_training"] = row["seconds"] / rows[0]["seconds"]
    write_json_atomic(
        RESULTS / "pipeline.json", {"command": "python -m benchmarks.pipeline", "rows": rows}
    )


if __name__ == "__main__":
    main()
