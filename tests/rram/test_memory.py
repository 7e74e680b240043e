"""Peak memory of conversion and programming, as a multiple of the network's weights."""

import subprocess
import sys

import pytest

SCRIPT = """
import gc, sys
import torch
from torch import nn
from cnet_aihw.rram import CrossbarMapping, RRAMRPUConfig, convert_to_analog, program

def status(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(key)) * 1024

def reset_peak():
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")

config = RRAMRPUConfig(mapping=CrossbarMapping(weight_scaling=sys.argv[1]))
program(convert_to_analog(nn.Sequential(nn.Linear(4, 4)), config, inplace=True), 1)
gc.collect()
before = status("VmRSS")
side, layers = 3000, 8  # large enough for the allocator to give each back
network = nn.Sequential(*[nn.Linear(side, side, bias=False) for _ in range(layers)])
weights = side * side * layers * 4
reset_peak()
model = convert_to_analog(network, config, inplace=True)
print((status("VmHWM") - before) / weights)
del network
gc.collect()
reset_peak()
program(model, 1)
print((status("VmHWM") - before) / weights)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("scaling", "programming"), [("none", 2.2), ("column", 2.3)])
def test_peak_memory_is_little_above_what_is_kept(scaling, programming):
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, scaling], capture_output=True, text=True, check=True
    )
    converted, programmed = map(float, ran.stdout.split())
    assert converted <= 1.2  # the network, and one layer more at a time
    assert programmed <= programming  # nominal weights, the chip's, and one layer more at a time
