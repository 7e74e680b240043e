"""The device check: numbers against closed forms, and a sentence for each wrong unit."""

import json
import math
import re
from typing import Any

import pytest
import torch
from aihwkit.inference import PCMLikeNoiseModel
from aihwkit.nn import AnalogLinear
from aihwkit.simulator.configs import InferenceRPUConfig
from aihwkit.simulator.parameters import IOParameters
from torch import Tensor

from cnet_aihw.evaluation import inspect_device
from cnet_aihw.rram import (
    CrossbarMapping,
    DeviceNoiseModel,
    GaussianAdditiveNoiseModel,
    LevelsNoiseModel,
    LogNormalNoiseModel,
    MultiplicativeNoiseModel,
    RRAMRPUConfig,
    StuckAtNoiseModel,
    conductance_converter,
    periphery,
)
from cnet_aihw.rram.devices.conductances import WeightScale
from cnet_aihw.runtime.errors import CnetError


class Times(MultiplicativeNoiseModel):
    """Every weight times one number."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def label(self) -> str:
        return f"times {self.factor:g}"

    def sample_factor(self, weights: Tensor) -> Tensor:
        return torch.full_like(weights, self.factor)


class Saturating(DeviceNoiseModel):
    """Every device that is asked for anything goes to the end of its range."""

    def label(self) -> str:
        return "saturating"

    def program_device(self, g: Tensor, scale: WeightScale) -> tuple[Tensor, Any]:
        return torch.where(g > 0, scale.g_max, g), None


def config(noise: Any = None, **settings: Any) -> RRAMRPUConfig:
    return RRAMRPUConfig(
        noise_model=LogNormalNoiseModel(0.0) if noise is None else noise, **settings
    )


def test_lognormal_has_the_moments_of_its_law() -> None:
    report = inspect_device(config(LogNormalNoiseModel(0.5)), chips=20)
    (row,) = report.rows
    mean, std = LogNormalNoiseModel(0.5).factor_moments()
    assert row.gain == pytest.approx(mean, rel=0.02)
    assert row.relative_mean == pytest.approx(mean - 1, rel=0.05)
    assert row.relative_std == pytest.approx(std, rel=0.05)
    assert (row.sign_flips, row.zeros, row.zeros_moved) == (0.0, 0.0, 0.0)
    assert row.values > 7000  # all differ
    # the error of an output is that of independent factors, plus the common gain
    noise_power = (mean - 1) ** 2 + std**2
    assert row.snr_weights_db == pytest.approx(-10 * math.log10(noise_power), abs=1.5)
    assert row.snr_periphery_db is None
    assert row.snr_db == row.snr_weights_db
    assert report.device == "lognormal 0.5"
    assert (report.weights, report.chips, report.warnings) == (64 * 128, 20, ())


@pytest.mark.parametrize("factor", [0.8, 1.5])
def test_a_factor_common_to_all_is_the_gain(factor: float) -> None:
    (row,) = inspect_device(config(Times(factor)), chips=2).rows
    assert row.gain == pytest.approx(factor, rel=1e-5)
    assert row.relative_mean == pytest.approx(factor - 1, rel=1e-4)
    assert row.relative_std == pytest.approx(0.0, abs=1e-5)
    assert row.snr_db == pytest.approx(-20 * math.log10(abs(factor - 1)), abs=0.01)


def test_levels_show_as_different_values_and_zeros() -> None:
    weight = torch.linspace(-1, 1, 2001).view(3, 667)
    weight[1, 333] = 0.0
    (row,) = inspect_device(config(LevelsNoiseModel(5)), weight, chips=1).rows
    assert row.values == 9
    assert row.zeros == pytest.approx(250 / 2000, abs=0.01)  # below an eighth of the largest
    assert row.zeros_moved == 0.0
    # uniform error of a step of 1 / 4
    assert row.error_std == pytest.approx(0.25 / math.sqrt(12), rel=0.02)


def test_stuck_devices_show_as_saturation() -> None:
    weight = torch.linspace(-1, 1, 2001).view(3, 667)
    (row,) = inspect_device(config(StuckAtNoiseModel(0.0, 0.2)), weight, chips=10).rows
    assert row.saturated > 0.05
    (none,) = inspect_device(config(StuckAtNoiseModel(0.0, 0.0)), weight, chips=1).rows
    assert none.saturated == 0.0


def test_quantisation_noise_of_the_adc_in_closed_form() -> None:
    report = inspect_device(config(forward=periphery(adc_bits=8, adc_range=8.0)), chips=1)
    (row,) = report.rows
    assert row.snr_weights_db is None
    assert row.snr_db == row.snr_periphery_db
    # a step of 16 / 254 in units of largest weight of the column times largest input
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(64, 128, generator=generator) / math.sqrt(128)
    weight[torch.rand(64, 128, generator=generator) < 1 / 16] = 0.0
    x = torch.randn(500, 128, generator=torch.Generator().manual_seed(1)).relu()
    unit = weight.abs().amax(1) * x.amax(1, keepdim=True)
    noise = (unit * 16 / 254).square().mean() / 12
    expected = 10 * torch.log10((x @ weight.T).square().mean() / noise).item()
    assert row.snr_db == pytest.approx(expected, abs=0.2)
    assert report.clipped == 0.0
    assert report.reach == pytest.approx(((x @ weight.T) / unit).abs().max().item() / 8, rel=1e-3)


def test_an_adc_without_a_range_is_calibrated() -> None:
    report = inspect_device(config(forward=periphery(adc_bits=8, adc_range=None)), chips=1)
    assert report.clipped == 0.0
    assert report.reach is not None
    assert 0.9 <= report.reach <= 1.0


def test_times_come_in_rows_and_drift_shows() -> None:
    report = inspect_device(config(PCMLikeNoiseModel()), chips=3, t_inference=[1.0, 3600.0, 3e7])
    assert [row.t_inference for row in report.rows] == [1.0, 3600.0, 3e7]
    gains = [row.gain for row in report.rows]
    assert gains[0] > gains[1] > gains[2]
    assert report.device == "PCMLike"


def test_it_is_repeatable_and_leaves_torchs_random_state_alone() -> None:
    noisy = config(LogNormalNoiseModel(0.3), forward=periphery(out_noise=0.1))
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = inspect_device(noisy, chips=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert inspect_device(noisy, chips=2) == first
    assert inspect_device(noisy, chips=2, seed=1) != first
    record = json.loads(json.dumps(first.as_record(), allow_nan=False))
    assert record["rows"][0]["gain"] == first.rows[0].gain
    assert len(record["weight_points"]["programmed"]) == len(record["weight_points"]["nominal"])
    assert 500 <= len(record["output_points"]["chip"]) <= 2000


WRONG = {
    "sigma in percent": (LogNormalNoiseModel(5.0), {}, "times as large as meant"),
    "nS for uS: g_min is nearly g_max": (
        LogNormalNoiseModel(
            0.1, per_conductance=True, g_converter=conductance_converter("pair", 24.9, 25.0)
        ),
        {},
        r"4\d% of the weights change their sign",
    ),
    "noise as large as the range": (
        GaussianAdditiveNoiseModel(1.0),
        {},
        r"the error of outputs is larger than outputs themselves \(-\d+",
    ),
    "all at the top": (Saturating(), {}, "are programmed as the largest one"),
    "two levels": (LevelsNoiseModel(2), {}, "of the weights become 0"),
    "a gain of a thousand": (Times(1000.0), {}, "come out 1e"),
    "nothing at all": (None, {}, "nothing changes"),
    "an ADC for outputs of one weight": (
        None,
        {"forward": periphery(adc_bits=8, adc_range=0.1)},
        r"the ADC clips \d\d%",
    ),
    "an ADC for a thousand rows": (
        None,
        {"forward": periphery(adc_bits=8, adc_range=1000.0)},
        r"outputs reach \d.\d% of the ADC's range",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_unit_gives_a_warning(name: str) -> None:
    noise, settings, sentence = WRONG[name]
    found = inspect_device(config(noise, **settings), chips=2).warnings
    assert any(re.search(sentence, text) for text in found), found
    assert all(text.endswith(".") for text in found)


@pytest.mark.parametrize(
    "device",
    [
        config(LogNormalNoiseModel(0.5)),
        config(PCMLikeNoiseModel(), forward=periphery(dac_bits=8, adc_bits=8)),
        config(
            LogNormalNoiseModel(0.2),
            forward=periphery(wire_resistance=1.0, g_max=25.0),
            mapping=CrossbarMapping(max_rows=64),
        ),
    ],
)
def test_ordinary_devices_give_no_warning(device: RRAMRPUConfig) -> None:
    assert inspect_device(device, chips=2).warnings == ()


def test_splitting_a_layer_changes_no_perfect_output() -> None:
    report = inspect_device(config(mapping=CrossbarMapping(32, 16, "column")), chips=1)
    assert report.rows[0].snr_db is None


def extension_fits() -> bool:
    try:
        AnalogLinear(1, 1, rpu_config=InferenceRPUConfig())
    except (RuntimeError, ImportError):
        return False
    return True


@pytest.mark.skipif(not extension_fits(), reason="aihwkit's extension does not fit this torch")
def test_aihwkits_cpp_tile_is_inspected_too() -> None:
    forward = IOParameters(is_perfect=True, out_bound=0.0)
    cpp = InferenceRPUConfig(
        forward=forward, noise_model=LogNormalNoiseModel(0.5), drift_compensation=None
    )
    theirs = inspect_device(cpp, chips=2).rows[0]
    ours = inspect_device(config(LogNormalNoiseModel(0.5)), chips=2).rows[0]
    assert theirs.relative_std == pytest.approx(ours.relative_std, rel=1e-4)
    assert theirs.snr_db == pytest.approx(ours.snr_db, abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "key", "value"),
    [
        ({"weight": torch.zeros(3, 4)}, "weight", (3, 4)),
        ({"weight": torch.ones(3)}, "weight", (3,)),
        ({"chips": 0}, "evaluation.chips", 0),
        ({"t_inference": [-1.0]}, "t_inference", -1.0),
    ],
)
def test_impossible_arguments_are_refused(
    arguments: dict[str, Any], key: str, value: object
) -> None:
    with pytest.raises(CnetError) as error:
        inspect_device(config(), **arguments)
    assert (error.value.key, error.value.value) == (key, value)


def test_weights_that_are_not_finite_are_refused() -> None:
    with pytest.raises(CnetError) as error:
        inspect_device(config(LogNormalNoiseModel(500.0)), chips=1)
    assert error.value.key == "device"
