"""Example 08: columns read as the voltage of a capacitor, which two potentials limit.

A small network learns digits without a limit, is put on crossbars with charge read-out of low
reversal potentials as it is, with its weights scaled by sign, and after training through the
circuit; the last one also with correctors fitted to each chip. All see the same chips.
"""

import math
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from cnet_aihw import (
    LogNormalNoiseModel,
    RRAMRPUConfig,
    TrainingSettings,
    convert_to_analog,
    evaluate_chips,
    train,
)
from cnet_aihw.compensation import LowRank, PerChipFit, Placement, WithCompensation
from cnet_aihw.evaluation import column_voltages, fit_charge_scales
from cnet_aihw.rram import Charge, set_readout
from cnet_aihw.zoo import ClippedMLP, digits

QUICK = "--quick" in sys.argv
EPOCHS, CHIPS, STEPS = (1, 2, 3) if QUICK else (20, 10, 8)
LIMIT = 0.5


def main() -> None:
    """Train, map, scale, train through the circuit, and show accuracies."""
    torch.manual_seed(0)
    data = digits()
    network = ClippedMLP(data.input_shape, data.classes, (64, 32), mean=data.mean, std=data.std)
    circuit = Charge(math.inf, -math.inf, steps=STEPS, test_steps=STEPS)
    config = RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.3), readout=circuit)
    model = convert_to_analog(network, config)
    settings = TrainingSettings(
        epochs=EPOCHS, batch_size=32, optimizer="adam", lr=2e-3, select="last", validation_chips=0
    )

    def show(name: str, calibration: WithCompensation | None = None) -> None:
        found = evaluate_chips(model, data.test, chips=CHIPS, calibration=calibration)
        print(f"{name:<10}{found.clean:7.3f}{found.mean:7.3f}{found.std:7.3f}")

    print(f"{'':<10}{'clean':>7}{'mean':>7}{'std':>7}")
    with TemporaryDirectory() as folder:
        train(model, data, settings, Path(folder))
    show("no limit")
    set_readout(model, e_plus=LIMIT, e_minus=-LIMIT)
    show("mapped")
    fit_charge_scales(model, data.val, (0.5, 1.0, 2.0) if QUICK else (0.25, 0.5, 1.0, 1.5, 2.0))
    show("scaled")
    set_readout(model, scale_plus=1.0, scale_minus=1.0)
    with TemporaryDirectory() as folder:
        train(model, data, settings, Path(folder))
    show("trained")
    names = [f"layers.fc{number}" for number in (1, 2, 3)]
    correctors = Placement(dict.fromkeys(names, "size 1"))
    fit = PerChipFit(data.train.x[:200])
    show("corrected", WithCompensation(correctors, LowRank(), fit))
    voltages = column_voltages(model, data.test.x)["layers.fc1"]
    shares = torch.quantile(voltages.flatten(), torch.tensor([0.01, 0.25, 0.5, 0.75, 0.99]))
    print("voltages of layers.fc1: " + " ".join(f"{v:.3f}" for v in shares.tolist()))


if __name__ == "__main__":
    main()
