"""Example 07: how often a chip is fooled, by what the attacker knows of it.

A LeNet-5 on digits is attacked with projected gradient descent on its chips: by an attacker with
the trained weights, with another chip, and with the chip itself. Budgets are in pixel units. Needs
`pip install 'cnet_aihw[attacks]'`.
"""

import sys
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
from cnet_aihw.attacks import PGD, attack_chips
from cnet_aihw.zoo import LeNet5, digits

QUICK = "--quick" in sys.argv
EPOCHS, CHIPS, SAMPLES, STEPS = (2, 2, 20, 5) if QUICK else (15, 4, 100, 20)
THREATS = ["nominal", "other_chip", "this_chip"]
BUDGETS = ["4/255", "16/255"]


def main() -> None:
    """Train, attack, and show success rates."""
    torch.manual_seed(0)
    data = digits()
    config = RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.5))
    model = convert_to_analog(LeNet5(data.input_shape, data.classes), config)
    settings = TrainingSettings(epochs=EPOCHS, batch_size=32, lr=0.01, validate_every=5)
    with TemporaryDirectory() as folder:
        train(model, data, settings, Path(folder))
    found = attack_chips(
        model, data, PGD(steps=STEPS), THREATS, BUDGETS, chips=CHIPS, samples=SAMPLES
    )
    print(f"{'threat':<12}{'eps':>8}{'clean':>8}{'robust':>8}{'success':>9}{'noise':>8}")
    for one in found.successes:
        figures = f"{one.eps:8.4f}{one.clean:8.3f}{one.robust:8.3f}{one.mean:9.3f}{one.noise:8.3f}"
        print(f"{one.threat:<12}{figures}")
    for check in found.checks[:3]:
        print(f"{'passed' if check.passed else 'not passed'}: {check.sentence}")


if __name__ == "__main__":
    main()
