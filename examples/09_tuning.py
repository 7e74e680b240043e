"""Example 09: a network tuned on the one chip that it is used on.

A LeNet-5 on digits is tuned on a simulated chip in three ways: written layer by layer while the
rest is tuned in software, written at each step with gradients through the nominal weights
(physics-aware), and with its biases alone. The variation from device to device lasts, and each
write adds fresh variation; so the network is measured on that chip, and on another one beside it.
The driver of a real chip is a class with the two methods `write` and `forward`.
"""

import sys
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from cnet_aihw import (
    LogNormalNoiseModel,
    RRAMRPUConfig,
    TrainingSettings,
    convert_to_analog,
    train,
)
from cnet_aihw.tuning import (
    SimulatedChip,
    TuningSettings,
    score_on_chip,
    tune_on_chip,
    write_all,
)
from cnet_aihw.zoo import LeNet5, digits

QUICK = "--quick" in sys.argv
EPOCHS, PASSES, SAMPLES = (2, 1, 100) if QUICK else (15, 4, 1000)
FRESH = 0.1
WAYS = {
    "progressive": TuningSettings(tune="progressive", epochs=PASSES, samples=SAMPLES),
    "physics-aware": TuningSettings(tune="all", epochs=PASSES, samples=SAMPLES, max_writes=1000),
    "biases": TuningSettings(tune="digital", epochs=PASSES, samples=SAMPLES),
}


def main() -> None:
    """Train, tune in each way, and show scores on the chip and on another one."""
    torch.manual_seed(0)
    data = digits()
    config = RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.8))
    model = convert_to_analog(LeNet5(data.input_shape, data.classes), config)
    settings = TrainingSettings(epochs=EPOCHS, batch_size=32, lr=0.01, validate_every=5)
    with TemporaryDirectory() as folder:
        train(model, data, settings, Path(folder))
    chip = SimulatedChip(model, seed=1, rewrite_sigma=FRESH)
    write_all(model, chip)
    print(f"{'way':<14}{'writes':>7}{'this chip':>11}{'another':>9}")
    print(f"{'not tuned':<14}{chip.cells.most:7d}{score_on_chip(model, chip, data.test):11.3f}")
    for name, way in WAYS.items():
        tuned, chip = deepcopy(model), SimulatedChip(model, seed=1, rewrite_sigma=FRESH)
        with TemporaryDirectory() as folder:
            tune_on_chip(tuned, chip, data, way, folder)
        another = SimulatedChip(model, seed=2, rewrite_sigma=FRESH)
        write_all(tuned, another)
        here, there = (score_on_chip(tuned, where, data.test) for where in (chip, another))
        print(f"{name:<14}{chip.cells.most:7d}{here:11.3f}{there:9.3f}")


if __name__ == "__main__":
    main()
