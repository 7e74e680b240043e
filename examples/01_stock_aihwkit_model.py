"""Example 01: measure a model of stock aihwkit over chips.

The model is built and trained with aihwkit alone, on the C++ tile with its ADC, DAC and output
noise. `evaluate_chips` takes it as it is: each chip is programmed from a seed of its own, measured,
and the nominal weights are put back. Then the same weights go onto this package's crossbars.
"""

import sys

import torch
from aihwkit.inference import PCMLikeNoiseModel
from aihwkit.nn import AnalogLinear, AnalogSequential
from aihwkit.optim import AnalogSGD
from aihwkit.simulator.configs import InferenceRPUConfig
from torch import nn
from torch.nn import functional as F

from cnet_aihw import (
    LogNormalNoiseModel,
    RRAMRPUConfig,
    convert_to_analog,
    convert_to_digital,
    evaluate_chips,
)
from cnet_aihw.zoo import batches, digits

QUICK = "--quick" in sys.argv
EPOCHS, CHIPS = (10, 3) if QUICK else (30, 20)
DAY, YEAR = 86400.0, 3.15e7


def main() -> None:
    """Train with aihwkit, then measure."""
    torch.manual_seed(0)
    data = digits(size=8)
    rpu_config = InferenceRPUConfig(noise_model=PCMLikeNoiseModel(g_max=25.0))
    model = AnalogSequential(
        nn.Flatten(),
        AnalogLinear(64, 64, rpu_config=rpu_config),
        nn.ReLU(),
        AnalogLinear(64, 10, rpu_config=rpu_config),
    )
    optimizer = AnalogSGD(model.parameters(), lr=0.1)
    optimizer.regroup_param_groups(model)
    for epoch in range(EPOCHS):
        for x, y in batches(data.train, 32, torch.Generator().manual_seed(epoch)):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()

    times = [1.0, DAY, YEAR]
    print(f"{'chips':<28}{'clean':>8}{'mean':>8}{'std':>8}")
    for t, found in evaluate_chips(model, data.test, chips=CHIPS, t_inference=times).items():
        show(f"PCM, {t:.3g} s", found)
    lognormal = LogNormalNoiseModel(sigma=0.5)
    show(
        "RRAM, aihwkit's tile", evaluate_chips(model, data.test, chips=CHIPS, noise_model=lognormal)
    )

    ours = convert_to_analog(convert_to_digital(model), RRAMRPUConfig(noise_model=lognormal))
    show("RRAM, perfect periphery", evaluate_chips(ours, data.test, chips=CHIPS))


def show(name, found) -> None:
    """Print one row."""
    print(f"{name:<28}{found.clean:8.3f}{found.mean:8.3f}{found.std:8.3f}")


if __name__ == "__main__":
    main()
