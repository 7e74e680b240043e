"""Example 06: another device, and what the device report shows of it.

A device is composed of 16 levels, lognormal variation, stuck-at faults, drift and read noise. The
report programs a layer of random weights: it shows what becomes of weights and outputs, and warns
of what looks like a wrong unit. Then a network is measured on such chips at two times.
"""

import sys
from tempfile import TemporaryDirectory

import torch

from cnet_aihw import RRAMRPUConfig, TrainingSettings, convert_to_analog, evaluate_chips, train
from cnet_aihw.evaluation import inspect_device
from cnet_aihw.rram import (
    CompositeNoiseModel,
    LevelsNoiseModel,
    LogNormalNoiseModel,
    PowerLawDriftNoiseModel,
    ReadNoiseModel,
    StuckAtNoiseModel,
)
from cnet_aihw.zoo import LeNet5, digits

QUICK = "--quick" in sys.argv
EPOCHS, CHIPS = (1, 2) if QUICK else (10, 20)
TIMES = [1.0, 3.15e7]  # seconds since programming: at once, and after a year

STAGES = [
    LevelsNoiseModel(levels=16),
    LogNormalNoiseModel(sigma=0.3),
    StuckAtNoiseModel(share_g_min=0.01, share_g_max=0.001),
    PowerLawDriftNoiseModel(nu=0.01, nu_std=0.005),
    ReadNoiseModel(sigma=0.01),
]


def main() -> None:
    """Inspect stage by stage, then measure the network on all of them together."""
    print(f"{'device':<62}{'error':>8}{'flips':>8}{'zeros':>8}{'SNR dB':>8}")
    for last in range(1, len(STAGES) + 1):
        device = CompositeNoiseModel(STAGES[:last])
        times = TIMES if last > 3 else None  # drift is the fourth
        for row in inspect_device(RRAMRPUConfig(noise_model=device), t_inference=times).rows:
            name = f"+ {STAGES[last - 1].label()}" + (f", {row.t_inference:g} s" if times else "")
            shares = f"{row.error_std:8.3f}{row.sign_flips:8.3f}{row.zeros:8.3f}"
            print(f"{name:<62}{shares}{row.snr_db:8.1f}")
    percent = RRAMRPUConfig(noise_model=LogNormalNoiseModel(sigma=5))  # 5 % is sigma=0.05
    for warning in inspect_device(percent).warnings:
        print("sigma=5:", warning)

    torch.manual_seed(0)
    data = digits()
    config = RRAMRPUConfig(noise_model=CompositeNoiseModel(STAGES))
    model = convert_to_analog(LeNet5(data.input_shape, data.classes), config)
    with TemporaryDirectory() as folder:
        settings = TrainingSettings(epochs=EPOCHS, batch_size=32, lr=0.01, select="last")
        train(model, data, settings, folder)
    for t, found in evaluate_chips(model, data.test, chips=CHIPS, t_inference=TIMES).items():
        print(f"after {t:g} s: on chips {found.mean:.3f} +- {found.std:.3f}")
    print(f"clean: {found.clean:.3f}")


if __name__ == "__main__":
    main()
