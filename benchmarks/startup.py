"""Time to start: importing the package beside torch and aihwkit, and the command's help.

    python -m benchmarks.startup

Each measurement is a new process; the variants take turns and the medians are written to
benchmarks/results/startup.json.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from functools import partial

from benchmarks.common import RESULTS, command_line
from benchmarks.speed import race
from cnet_aihw.runtime.records import write_json_atomic

REPEATS = 5
BASE = "import torch, aihwkit.nn, aihwkit.inference, aihwkit.simulator.configs"
ROOMS = "; ".join(
    f"import cnet_aihw.{room}; [getattr(cnet_aihw.{room}, n) for n in cnet_aihw.{room}.__all__]"
    for room in ("rram", "zoo", "evaluation", "training", "compensation")
)
VARIANTS = {
    "torch and aihwkit": BASE,
    "and cnet_aihw": f"{BASE}; import cnet_aihw",
    "and all names of all rooms": f"{BASE}; {ROOMS}",
    "cnet-aihw --help": "import sys; sys.argv = ['cnet-aihw', '--help']; "
    "from cnet_aihw.jobs.cli import main; main()",
}


def seconds(code: str) -> float:
    """Wall time of a new interpreter that runs the code."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def run() -> None:
    """Measure and write."""
    found = race({name: partial(seconds, code) for name, code in VARIANTS.items()}, REPEATS)
    result = {
        "command": "python -m benchmarks.startup",
        "repeats": REPEATS,
        "seconds": {name: round(statistics.median(of), 2) for name, of in found.items()},
    }
    print(result)
    write_json_atomic(RESULTS / "startup.json", result)


if __name__ == "__main__":
    command_line(__doc__, run)
