"""Example 02: one network trained in four ways, measured on the same chips.

Plain, with variation injected in training, with CorrectNet's Lipschitz penalty, and with both. All
begin with the same weights; the recovery is the mean over chips / the plain training's clean
accuracy.
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
    evaluate_chips,
    train,
)
from cnet_aihw.training import LipschitzSettings, VariationSettings
from cnet_aihw.zoo import LeNet5, digits

QUICK = "--quick" in sys.argv
EPOCHS, CHIPS = (1, 2) if QUICK else (10, 50)
SIGMA = 0.5

PENALTY = LipschitzSettings(enabled=True, beta=1e-2)
NOISE = VariationSettings(enabled=True)
TRAININGS = {
    "plain": {},
    "noise": {"variation": NOISE},
    "lipschitz": {"lipschitz": PENALTY},
    "lipschitz and noise": {"lipschitz": PENALTY, "variation": NOISE},
}


def main() -> None:
    """Train and measure in each way."""
    data = digits()
    config = RRAMRPUConfig(noise_model=LogNormalNoiseModel(SIGMA))
    reference = None
    print(f"{'training':<22}{'clean':>8}{'mean':>8}{'std':>8}{'q05':>8}{'recovery':>10}")
    for name, parts in TRAININGS.items():
        torch.manual_seed(0)
        model = convert_to_analog(LeNet5(data.input_shape, data.classes), config)
        settings = TrainingSettings(
            name=name, epochs=EPOCHS, batch_size=32, lr=0.01, validate_every=5, **parts
        )
        with TemporaryDirectory() as folder:  # a folder that stays can be resumed
            train(model, data, settings, Path(folder) / name)
        reference = reference or evaluate_chips(model, data.test, chips=1).clean
        found = evaluate_chips(model, data.test, chips=CHIPS, reference=reference)
        figures = f"{found.clean:8.3f}{found.mean:8.3f}{found.std:8.3f}{found.q05:8.3f}"
        print(f"{name:<22}{figures}{found.recovery:10.3f}")


if __name__ == "__main__":
    main()
