"""A seed gives the chips that it gave while chips still overwrote the weights."""

import json
import warnings
from pathlib import Path

import pytest
import torch
from aihwkit.inference import PCMLikeNoiseModel
from torch import Tensor, nn

from cnet_aihw.rram import (
    CMONoiseModel,
    CompositeNoiseModel,
    CrossbarMapping,
    GaussianAdditiveNoiseModel,
    GaussianProportionalNoiseModel,
    LevelsNoiseModel,
    LogNormalNoiseModel,
    PCMNoiseModel,
    PowerLawDriftNoiseModel,
    ReadNoiseModel,
    RRAMRPUConfig,
    StuckAtNoiseModel,
    Wan2022NoiseModel,
    convert_to_analog,
    effective_weights,
    periphery,
    programmed,
)
from cnet_aihw.runtime.random_state import derive_seed

ROWS = json.loads((Path(__file__).parent.parent / "fixtures" / "chips.json").read_text())
MODELS = {
    "lognormal": lambda: LogNormalNoiseModel(0.5),
    "lognormal, dies": lambda: LogNormalNoiseModel(0.3, sigma_die=0.2),
    "lognormal, per conductance": lambda: LogNormalNoiseModel(0.3, per_conductance=True),
    "gaussian additive": lambda: GaussianAdditiveNoiseModel(0.05),
    "gaussian proportional": lambda: GaussianProportionalNoiseModel(0.1),
    "levels": lambda: LevelsNoiseModel(8),
    "stuck": lambda: StuckAtNoiseModel(0.05, 0.02),
    "pcm": PCMNoiseModel,
    "wan2022": Wan2022NoiseModel,
    "cmo": CMONoiseModel,
    "read noise": lambda: ReadNoiseModel(0.02),
    "power law": lambda: PowerLawDriftNoiseModel(nu=0.01, nu_std=0.005),
    "composite": lambda: CompositeNoiseModel(
        [
            LevelsNoiseModel(16),
            LogNormalNoiseModel(0.3),
            StuckAtNoiseModel(0.05, 0.02),
            PowerLawDriftNoiseModel(nu=0.01, nu_std=0.005),
            ReadNoiseModel(0.01),
        ]
    ),
    "aihwkit pcm": PCMLikeNoiseModel,
}
CONFIGS = {
    "default": lambda noise: RRAMRPUConfig(noise_model=noise),
    "columns, adc": lambda noise: RRAMRPUConfig(
        noise_model=noise, forward=periphery(dac_bits=8, adc_bits=8, adc_range=12.0)
    ),
    "crossbars of 20 x 6": lambda noise: RRAMRPUConfig(
        noise_model=noise, mapping=CrossbarMapping(max_rows=20, max_columns=6)
    ),
}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 8, 3, groups=4, padding=1)
        self.conv1d = nn.Conv1d(8, 6, 3)
        self.fc = nn.Linear(32, 10)
        with torch.no_grad():
            for number, parameter in enumerate(self.parameters()):
                k = torch.arange(parameter.numel(), dtype=torch.float64)
                values = torch.sin(k * 1.7 + number) * 0.3 + 0.01 * number
                parameter.copy_(values.view_as(parameter))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.grouped(torch.relu(self.conv(x))))
        x = torch.relu(self.conv1d(x.flatten(2)))
        return self.fc(x.flatten(1)[:, :32])


@pytest.mark.parametrize("row", ROWS, ids=lambda r: f"{r['config']}, {r['noise_model']}")
def test_a_seed_gives_the_chip_that_it_always_gave(row) -> None:
    # Only the last bits may differ between machines; they do not on one.
    config = CONFIGS[row["config"]](MODELS[row["noise_model"]]())
    exclude = ["grouped"] if "crossbars" in row["config"] else []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = convert_to_analog(Net(), config, exclude=exclude).eval()
    x = torch.sin(torch.arange(2 * 3 * 6 * 6, dtype=torch.float32) * 0.37).view(2, 3, 6, 6)
    with programmed(model, derive_seed(7, 3), t_inference=row["t_inference"]), torch.no_grad():
        for name, weight in effective_weights(model).items():
            *first, total = row["weights"][name]
            assert weight.flatten()[:4].tolist() == pytest.approx(first, rel=1e-5, abs=1e-7)
            assert weight.double().sum().item() == pytest.approx(total, rel=1e-4, abs=1e-4)
        outputs = [model(x)[number, :4].tolist() for number in range(2)]  # one reading each
    for given, expected in zip(outputs, row["outputs"], strict=True):
        assert given == pytest.approx(expected, rel=1e-4, abs=1e-4)
