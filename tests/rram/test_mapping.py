"""How weights lie on crossbars: tiles of a size, scales, and the devices of one weight."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from aihwkit.inference import PCMLikeNoiseModel, ReRamWan2022NoiseModel
from aihwkit.simulator.parameters import IOParameters, MappingParameter
from aihwkit.simulator.parameters.enums import WeightNoiseType, WeightRemapType
from aihwkit.simulator.parameters.inference import WeightRemapParameter
from torch import Tensor, nn
from torch.nn import functional as F

from cnet_aihw.rram import (
    CrossbarMapping,
    LogNormalNoiseModel,
    ReferenceColumnConverter,
    RRAMConv2d,
    RRAMRPUConfig,
    clear_chip,
    conductance_converter,
    convert_to_analog,
    convert_to_digital,
    count_weights,
    digital_state_dict,
    effective_weights,
    load_digital_state_dict,
    load_snapshot,
    periphery,
    program,
    snapshot,
    trainable_parameters,
)
from cnet_aihw.runtime.errors import CnetError

ROWS, COLUMNS = 24, 10
SCALINGS = ("none", "tile", "column")

# weight_scaling="none" is what some tests ask for
pytestmark = pytest.mark.filterwarnings("ignore:mapping.weight_scaling_omega is 0")


def weights() -> Tensor:
    return torch.randn(COLUMNS, ROWS, generator=torch.Generator().manual_seed(0)) * 0.3


def inputs() -> Tensor:
    return torch.rand(200, ROWS, generator=torch.Generator().manual_seed(1))


def linear(config: Any) -> nn.Module:
    layer = nn.Linear(ROWS, COLUMNS, bias=False)
    with torch.no_grad():
        layer.weight.copy_(weights())
    return convert_to_analog(nn.Sequential(layer), config).eval()


def digital_and_tiled(name: str, mapping: CrossbarMapping, **settings: Any) -> Any:
    torch.manual_seed(0)
    digital, x = {
        "linear": (nn.Linear(ROWS, COLUMNS), torch.randn(7, ROWS)),
        "conv": (nn.Conv2d(4, COLUMNS, 3, padding=1), torch.randn(2, 4, 6, 6)),
    }[name]
    config = RRAMRPUConfig(mapping=mapping, **settings)
    return digital, x, convert_to_analog(nn.Sequential(digital), config).eval()


SIZES = [(None, None), (8, None), (None, 4), (8, 4), (1, 1)]


@pytest.mark.parametrize(
    ("name", "sizes", "scaling", "forward"),
    [
        *(("conv", sizes, "column", periphery()) for sizes in SIZES),
        *(("linear", sizes, "column", periphery(dac_range=100.0)) for sizes in SIZES),
        *(("conv", (8, 4), scaling, periphery()) for scaling in (None, "none", "tile")),
        *(("linear", (8, 4), s, periphery(dac_range=100.0)) for s in (None, "tile")),
        ("conv", (8, 4), "column", periphery(dac_range=100.0)),
    ],
)
def test_split_layers_compute_as_whole_ones(
    name: str, sizes: tuple[int | None, int | None], scaling: str | None, forward: IOParameters
) -> None:
    """Also where aihwkit's own path is taken, with a DAC that only clips at 100."""
    digital, x, tiled = digital_and_tiled(name, CrossbarMapping(*sizes, scaling), forward=forward)
    torch.testing.assert_close(tiled(x), digital(x), rtol=1e-4, atol=1e-5)
    for tile in tiled.analog_tiles():
        assert tile.in_size <= (sizes[0] or 1000)
        assert tile.out_size <= (sizes[1] or 1000)
    rows = 36 if name == "conv" else ROWS
    count = -(-rows // (sizes[0] or rows)) * -(-COLUMNS // (sizes[1] or COLUMNS))
    assert len(list(tiled.analog_tiles())) == count


@pytest.mark.parametrize(
    ("saved", "own"), [(s, o) for s in SCALINGS for o in SCALINGS if s != o], ids=str
)
def test_weights_of_another_scaling_are_refused_and_carried_over(saved: str, own: str) -> None:
    _, x, given = digital_and_tiled("linear", CrossbarMapping(8, 4, saved))
    torch.manual_seed(1)
    other = digital_and_tiled("linear", CrossbarMapping(8, 4, own))[2]
    with pytest.raises(CnetError, match=r"of 0 have scales .*digital_state_dict") as caught:
        other.load_state_dict(given.state_dict())
    assert caught.value.key == "weight_scaling"
    load_digital_state_dict(other, digital_state_dict(given))
    torch.testing.assert_close(other(x), given(x))


@pytest.mark.parametrize("scaling", ["none", "column"])
@pytest.mark.parametrize("name", ["linear", "conv"])
def test_split_layers_are_copied_saved_and_exported_as_whole_ones(name: str, scaling: str) -> None:
    digital, x, tiled = digital_and_tiled(name, CrossbarMapping(8, 4, scaling))
    expected = digital(x)
    exported = convert_to_digital(tiled)
    assert not list(exported.modules())[-1].__class__.__name__.startswith("RRAM")
    for net in (copy.deepcopy(tiled), exported):
        torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-5)
    for key, value in digital_state_dict(tiled).items():
        torch.testing.assert_close(value, digital.state_dict()[key.removeprefix("0.")])
    other = digital_and_tiled(name, CrossbarMapping(8, 4, scaling))[2]
    with torch.no_grad():
        for parameter in trainable_parameters(other):
            parameter.zero_()
    load_snapshot(other, snapshot(tiled))
    torch.testing.assert_close(other(x), expected, rtol=1e-4, atol=1e-5)
    assert count_weights(tiled) == count_weights(digital)
    nominal = effective_weights(tiled)["0"]
    program(tiled, 1)
    assert not torch.equal(effective_weights(tiled)["0"], nominal)
    clear_chip(tiled)
    assert torch.equal(effective_weights(tiled)["0"], nominal)


def test_a_gradient_step_of_a_split_layer_is_the_digital_one() -> None:
    digital, x, tiled = digital_and_tiled("conv", CrossbarMapping(8, 4, "column"))
    tiled.train()
    for tile in tiled.analog_tiles():
        tile.rpu_config.variation.enabled = False
    for net in (digital, tiled):
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        net(x).square().mean().backward()
        optimizer.step()
    torch.testing.assert_close(
        effective_weights(tiled)["0"], digital.weight.flatten(1), rtol=1e-4, atol=1e-6
    )


def test_per_weight_variation_is_the_same_law_on_split_tiles() -> None:
    _, _, tiled = digital_and_tiled("conv", CrossbarMapping(8, 4, "column"))
    nominal = effective_weights(tiled)["0"]
    program(tiled, 1)
    theta = (effective_weights(tiled)["0"] / nominal).log()
    assert theta.std().item() == pytest.approx(0.5, rel=0.1)
    assert theta.unique().numel() == theta.numel()  # no two tiles share a draw


def test_what_g_min_does_to_weights_of_zero_in_closed_form() -> None:
    """Both devices of the pair vary around g_min; what is left of them is the weight."""
    sigma, g_min, g_max = 0.3, 2.0, 42.0
    w = torch.zeros(100, 100)
    w[0, 0] = 0.8  # the largest weight, which g_max stands for
    noise = LogNormalNoiseModel(
        sigma, per_conductance=True, g_converter=conductance_converter("pair", g_min, g_max)
    )
    torch.manual_seed(0)
    programmed = noise.apply_programming_noise(w)[0].flatten()[1:]
    _, of_one = LogNormalNoiseModel(sigma).factor_moments()
    expected = 0.8 * g_min / (g_max - g_min) * of_one * 2**0.5
    assert programmed.std().item() == pytest.approx(expected, rel=0.03)


# -- cells


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize(("g_min", "g_max"), [(0.0, 25.0), (2.0, 40.0)])
def test_reference_column_in_closed_form(exact: bool, g_min: float, g_max: float) -> None:
    converter = ReferenceColumnConverter(g_max, g_min, exact)
    w = weights()
    conductances, params = converter.convert_to_conductances(w)
    devices = conductances[0]
    middle, half = (g_max + g_min) / 2, (g_max - g_min) / 2
    torch.testing.assert_close(devices, middle + half * w / w.abs().max())
    assert devices.min() >= g_min - 1e-4
    assert devices.max() <= g_max + 1e-4
    torch.testing.assert_close(converter.convert_back_to_weights(conductances, params), w)
    # a device 1 uS off shifts its weight; a reference 1 uS off shifts the whole row, the other way
    moved = devices.clone()
    moved[2, 3] += 1.0
    shifted = converter.convert_back_to_weights([moved, *conductances[1:]], params) - w
    assert shifted[2, 3].item() == pytest.approx(w.abs().max().item() / half, rel=1e-3)
    shifted[2, 3] = 0.0
    assert shifted.abs().max() < 1e-5
    if exact:
        assert len(conductances) == 1
        return
    reference = conductances[1].clone()
    assert reference.shape == (1, ROWS)
    reference[0, 3] += 1.0
    shifted = converter.convert_back_to_weights([devices, reference], params) - w
    torch.testing.assert_close(
        shifted[:, 3], torch.full((COLUMNS,), -w.abs().max().item() / half), rtol=1e-3, atol=1e-5
    )
    assert shifted[:, 4].abs().max() < 1e-5


def test_an_error_of_the_reference_is_common_to_a_row() -> None:
    """The rest after the row's mean is less than without the reference's part."""
    errors = {}
    for cell in ("reference", "offset"):
        noise = LogNormalNoiseModel(
            0.3, per_conductance=True, g_converter=conductance_converter(cell, 1.0, 25.0)
        )
        model = linear(RRAMRPUConfig(noise_model=noise))
        program(model, 5)
        errors[cell] = (effective_weights(model)["0"] - weights()).mean(0).std().item()
    assert errors["reference"] > 1.5 * errors["offset"]


@pytest.mark.parametrize("cell", ["pair", "reference", "offset"])
@pytest.mark.parametrize(
    "model", [PCMLikeNoiseModel, ReRamWan2022NoiseModel, lambda **k: LogNormalNoiseModel(**k)]
)
def test_every_cell_works_with_every_noise_model(cell: Any, model: Any) -> None:
    """Programmed, with time where the model knows it; a training step sees it too."""
    converter = conductance_converter(cell, 0.0, 40.0)
    net = linear(RRAMRPUConfig(noise_model=model(g_converter=converter)))
    program(net, 1, t_inference=1.0)
    chip = effective_weights(net)["0"]
    assert torch.isfinite(chip).all()
    assert 0.001 < ((chip - weights()).norm() / weights().norm()) < 1.5
    net = linear(RRAMRPUConfig(noise_model=model(g_converter=converter))).train()
    out = net(inputs())
    out.square().sum().backward()
    assert not torch.allclose(out, F.linear(inputs(), weights()))
    (tile,) = net.analog_tiles()
    assert tile.tile.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("cell", ["reference", "offset"])
def test_a_tile_of_zeros_or_of_equal_weights_stays_finite(cell: Any) -> None:
    converter = conductance_converter(cell)
    for w in (torch.zeros(3, 4), torch.full((3, 4), -0.5)):
        conductances, params = converter.convert_to_conductances(w)
        torch.testing.assert_close(converter.convert_back_to_weights(conductances, params), w)


def test_the_pair_is_aihwkits_default() -> None:
    """So a configuration that names it programs the chips of one that does not, bit for bit."""
    chips = []
    for extra in ({}, {"g_converter": conductance_converter()}):
        model = linear(
            RRAMRPUConfig(noise_model=LogNormalNoiseModel(per_conductance=True, **extra))
        )
        program(model, 2)
        chips.append(effective_weights(model)["0"])
    assert torch.equal(*chips)


# -- defaults and refusals


def test_defaults_are_those_of_aihwkit_written_out() -> None:
    perfect = MappingParameter(max_input_size=0, max_output_size=0)
    assert RRAMRPUConfig().mapping == perfect
    assert RRAMRPUConfig(mapping=CrossbarMapping()).mapping == perfect
    noisy = RRAMRPUConfig(forward=periphery(adc_bits=8)).mapping
    assert noisy == RRAMRPUConfig(forward=periphery(adc_bits=8), mapping=CrossbarMapping()).mapping
    assert noisy.weight_scaling_columnwise
    assert noisy.weight_scaling_omega == 1.0


def test_perfect_periphery_takes_torchs_kernel_however_it_is_mapped(monkeypatch: Any) -> None:
    _, x, tiled = digital_and_tiled("conv", CrossbarMapping(8, 4, "column"))
    monkeypatch.setattr(RRAMConv2d, "_periphery_forward", None)
    assert torch.isfinite(tiled(x)).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CrossbarMapping(max_rows=0), "max_rows"),
        (lambda: CrossbarMapping(max_columns=-1), "max_columns"),
        (lambda: CrossbarMapping(weight_scaling="row"), "weight_scaling"),
        (lambda: conductance_converter("single"), "cell"),  # type: ignore[arg-type]
        (lambda: conductance_converter(g_min=5.0, g_max=5.0), "g_min"),
        (lambda: conductance_converter(g_min=-1.0), "g_min"),
        (lambda: periphery(adc_bits=6, adc_range=-1.0), "adc_range"),
        (lambda: periphery(dac_range=0.0), "dac_range"),
        (lambda: periphery(wire_resistance=-1.0), "wire_resistance"),
        (lambda: periphery(wire_resistance=1.0), "wire_resistance"),
    ],
)
def test_impossible_values_are_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(CnetError, check=lambda e: e.key == message):
        call()


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ({"w_noise": 0.1, "w_noise_type": WeightNoiseType.ADDITIVE_CONSTANT}, "w_noise"),
        ({"out_nonlinearity": 0.1}, "non-linearity"),
        ({"r_series": 0.1}, "R-series"),
    ],
)
def test_what_torch_tiles_lack_is_refused_with_the_reason(
    setting: dict[str, Any], reason: str
) -> None:
    with pytest.raises(CnetError, check=lambda e: e.key == "rpu_config"):
        linear(RRAMRPUConfig(forward=IOParameters(**setting)))


def test_a_group_that_fits_no_crossbar_is_refused() -> None:
    config = RRAMRPUConfig(mapping=CrossbarMapping(max_rows=16))
    with pytest.raises(CnetError, check=lambda e: e.key == "max_rows"):
        RRAMConv2d(4, 4, 3, groups=2, rpu_config=config)
    RRAMConv2d(4, 4, 3, groups=4, rpu_config=config)


def test_an_adc_without_a_range_says_so() -> None:
    model = linear(RRAMRPUConfig(forward=periphery(adc_bits=6, adc_range=None)))
    with pytest.raises(CnetError, check=lambda e: e.key == "adc_range"):
        model(inputs())


@pytest.mark.parametrize(
    "kind", [WeightRemapType.LAYERWISE_SYMMETRIC, WeightRemapType.CHANNELWISE_SYMMETRIC]
)
def test_remapping_after_a_step_takes_columns_of_zeros(kind):
    """Their scale is 1: with 0 their weights would be no numbers on the crossbar."""
    digital = nn.Sequential(nn.Linear(5, 3))
    with torch.no_grad():
        digital[0].weight[1] = 0.0
    config = RRAMRPUConfig(remap=WeightRemapParameter(type=kind))
    model = convert_to_analog(digital, config).eval()
    (tile,) = model.analog_tiles()
    tile.post_update_step()
    largest = tile.tile.crossbar_weight().abs().amax(1)
    assert largest[1] == 0.0 and largest.max().item() == pytest.approx(1.0)
    assert torch.equal(tile.nominal_weight(), digital[0].weight)
    program(model, 1)
    assert torch.isfinite(model(torch.randn(2, 5))).all()
