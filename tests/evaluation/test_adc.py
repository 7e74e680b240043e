"""ADCs: ranges found on data cover what is converted; conversions are counted as on paper."""

import pytest
import torch
from torch import Tensor, nn

from cnet_aihw.evaluation import AdcUse, adc_use, calibrate_adc, conversion_steps
from cnet_aihw.rram import (
    CrossbarMapping,
    LogNormalNoiseModel,
    RRAMRPUConfig,
    convert_to_analog,
    effective_weights,
    is_programmed,
    periphery,
    program,
)
from cnet_aihw.runtime.errors import CnetError


class Net(nn.Module):
    """A convolution, a grouped one and a linear layer for inputs [N, 2, 6, 6]."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 8, 3)  # 4 x 4 positions, 18 rows
        self.grouped = nn.Conv2d(8, 8, 2, groups=2)  # 3 x 3 positions, 16 rows
        self.fc = nn.Linear(72, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.grouped(torch.relu(self.first(x)))).flatten(1))


def converted(mapping: CrossbarMapping | None = None, **settings: object) -> nn.Module:
    torch.manual_seed(0)
    config = RRAMRPUConfig(
        forward=periphery(**settings),
        mapping=mapping,
        noise_model=LogNormalNoiseModel(0.3),
    )
    return convert_to_analog(Net(), config)


def images(number: int = 20) -> Tensor:
    return torch.rand(number, 2, 6, 6, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("example", [images(1), images(3)])
def test_conversions_are_columns_times_positions_times_crossbars_in_a_row(example: Tensor) -> None:
    whole = adc_use(converted(adc_bits=6), example)
    assert whole == (
        AdcUse("first", 1, 8 * 16, 6),
        AdcUse("grouped", 1, 8 * 9, 6),
        AdcUse("fc", 1, 5, 6),
    )
    # the columns of all crossbars are converted; partial sums are added digitally
    split = adc_use(converted(CrossbarMapping(max_rows=16, max_columns=4), adc_bits=4), example)
    assert split == (
        AdcUse("first", 2 * 2, 2 * 8 * 16, 4),
        AdcUse("grouped", 1, 8 * 9, 4),
        AdcUse("fc", 5 * 2, 5 * 5, 4),
    )


@pytest.mark.parametrize("settings", [{}, {"dac_bits": 6}, {"out_noise": 0.1}])
def test_without_an_adc_nothing_is_converted(settings: dict[str, float]) -> None:
    assert adc_use(converted(**settings), images(1)) == ()


def test_each_bit_doubles_the_steps() -> None:
    assert [conversion_steps(10, bits) for bits in (1, 2, 8)] == [20, 40, 2560]
    assert AdcUse("fc", 1, 10, 8).steps == 2560


@pytest.mark.parametrize("mapping", [None, CrossbarMapping(max_rows=16, max_columns=4)])
def test_a_calibrated_range_is_the_largest_output(mapping: CrossbarMapping | None) -> None:
    """Of the unscaled columns, by hand; and no output of these inputs is clipped."""
    model = converted(mapping, adc_bits=8, adc_range=None)
    ranges = calibrate_adc(model, images(), batch_size=7)
    columns = nn.functional.unfold(images(), 3).transpose(1, 2)  # [N, positions, 18]
    weight = effective_weights(model)["first"]
    if mapping is None:
        rows, tile_weight = columns, weight
    else:
        rows, tile_weight = columns[..., :9], weight[:4, :9]
    unit = tile_weight.abs().amax(1) * rows.abs().amax(-1, keepdim=True)
    largest = ((rows @ tile_weight.T) / unit).abs().max().item()
    assert largest <= ranges["first/0"] <= 1.1 * largest
    assert float(f"{ranges['first/0']:.1e}") == ranges["first/0"]  # two digits
    assert len(ranges) == (3 if mapping is None else 4 + 1 + 10)

    exact = converted(mapping, adc_bits=24, adc_range=None)
    calibrate_adc(exact, images())
    unconverted = converted(mapping, dac_range=1e3)
    torch.testing.assert_close(
        exact.eval()(images()), unconverted.eval()(images()), rtol=1e-4, atol=1e-4
    )


def test_a_calibrated_range_serves_few_bits_better_than_a_wide_one() -> None:
    ideal = converted().eval()(images())
    wide = converted(adc_bits=5).eval()(images())
    model = converted(adc_bits=5, adc_range=None)
    calibrate_adc(model, images())
    assert (model.eval()(images()) - ideal).norm() < 0.7 * (wide - ideal).norm()


def test_calibration_leaves_all_but_the_ranges_as_it_was() -> None:
    model = converted(adc_bits=6, inp_noise=0.1).train()
    before = effective_weights(model)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = calibrate_adc(model, images())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(w, before[name]) for name, w in effective_weights(model).items())
    assert all(module.training for module in model.modules())
    assert calibrate_adc(model, images()) == first
    assert adc_use(model, images(1))[0].bits == 6
    quantized = model.eval()(images())
    assert quantized.unique().numel() > 1


def test_what_cannot_be_calibrated_says_so() -> None:
    with pytest.raises(CnetError) as error:
        calibrate_adc(converted(dac_bits=6), images())
    assert error.value.key == "adc_bits"
    with pytest.raises(CnetError) as error:
        calibrate_adc(converted(adc_bits=6), images(0))
    assert (error.value.key, error.value.value) == ("inputs", 0)


def test_ranges_are_those_of_the_nominal_weights_whatever_chip_is_there() -> None:
    model = converted(adc_bits=6)
    expected, use = calibrate_adc(model, images()), adc_use(model, images(1))
    program(model, 1)
    assert calibrate_adc(model, images()) == expected and adc_use(model, images(1)) == use
    assert is_programmed(model)


def test_outputs_of_zero_get_a_range_all_the_same() -> None:
    model = converted(adc_bits=6, adc_range=None)
    ranges = calibrate_adc(model, torch.zeros(3, 2, 6, 6))
    assert ranges["first/0"] == 1.0
    assert torch.isfinite(model.eval()(torch.zeros(3, 2, 6, 6))).all()


@pytest.mark.parametrize("pixel", [float("nan"), float("inf")])
def test_inputs_that_are_not_finite_give_no_range(pixel: float) -> None:
    model, bad = converted(adc_bits=6, adc_range=None), images()
    bad[3, 0, 0, 0] = pixel
    with pytest.raises(CnetError) as error:
        calibrate_adc(model, bad)
    assert error.value.key == "inputs"
    with pytest.raises(CnetError) as error:  # still without ranges
        model(images())
    assert error.value.key == "adc_range"
