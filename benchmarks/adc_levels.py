"""Accuracy and ADC cost against conductance levels and ADC bits, LeNet-5 on MNIST (CorrectNet+).

    python -m benchmarks.adc_levels

Sweeps `experiment=adc_levels` over the networks that `python -m benchmarks.training run` left, and
writes benchmarks/results/adc_levels.json. It needs MNIST in data/ as torchvision lays it out.
"""

from __future__ import annotations

import argparse
import os
import shlex

from benchmarks.training import RECORDS, RESULTS, cnet_aihw
from cnet_aihw.runtime.records import read_json, write_json_atomic

FOLDER = RECORDS / "adc_levels"
SOURCE = os.path.relpath(RECORDS / "lenet5_mnist")
WORDS = (
    "-m", "experiment=adc_levels", "data=mnist", "data.root=data", f"source={SOURCE}",
    "training.compare=[plain,noise]", "compensation=none", "evaluation.chips=3",
    "rram.levels=4,8,16", "rram.adc_bits=4,5,6,8",
)  # fmt: skip
KEPT = (
    "training",
    "levels",
    "adc_bits",
    "adc_cost",
    "clean",
    "mean",
    "std",
    "q05",
    "chips",
    "seed",
)


def main() -> None:
    """Run the sweep, where it was not run, and write its rows."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    if not (FOLDER / "sweep.json").exists():
        cnet_aihw(*WORDS, f"hydra.sweep.dir={FOLDER}")
    rows = [{key: row[key] for key in KEPT} for row in read_json(FOLDER / "sweep.json")["rows"]]
    rows.sort(key=lambda row: (row["training"], row["levels"], row["adc_bits"]))
    about = {"command": "python -m benchmarks.adc_levels", "sweep": shlex.join(WORDS)}
    write_json_atomic(RESULTS / "adc_levels.json", {**about, "rows": rows})


if __name__ == "__main__":
    main()
