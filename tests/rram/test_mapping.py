"""Crossbar knobs: off is nothing, on goes the stated way; closed forms and aihwkit are oracles."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import torch
from aihwkit.inference import PCMLikeNoiseModel, ReRamWan2022NoiseModel
from aihwkit.nn import AnalogLinear
from aihwkit.nn.conversion import convert_to_analog as stock_convert_to_analog
from aihwkit.simulator.configs import InferenceRPUConfig, TorchInferenceRPUConfig
from aihwkit.simulator.parameters import IOParameters, MappingParameter
from aihwkit.simulator.parameters.enums import WeightNoiseType
from torch import Tensor, nn
from torch.nn import functional as F

from cnet_aihw.errors import CnetError
from cnet_aihw.rram import (
    CrossbarMapping,
    LogNormalNoiseModel,
    ReferenceColumnConverter,
    RRAMConv2d,
    RRAMRPUConfig,
    conductance_converter,
    convert_to_analog,
    convert_to_digital,
    count_weights,
    digital_state_dict,
    effective_weights,
    load_snapshot,
    periphery,
    program,
    restore,
    snapshot,
    trainable_parameters,
)

ROWS, COLUMNS = 24, 10

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


def output_error(**settings: Any) -> float:
    """Relative error of a layer's output behind a periphery, weights nominal."""
    torch.manual_seed(0)
    ideal = inputs() @ weights().T
    mapping = {"mapping": settings.pop("mapping")} if "mapping" in settings else {}
    out = linear(RRAMRPUConfig(forward=periphery(**settings), **mapping))(inputs())
    return ((out - ideal).norm() / ideal.norm()).item()


def weight_error(**settings: Any) -> float:
    """Relative error of programmed weights, lognormal on each conductance."""
    sigma = settings.pop("sigma", 0.2)
    scaling = settings.pop("weight_scaling", None)
    noise = LogNormalNoiseModel(
        sigma, per_conductance=True, g_converter=conductance_converter(**settings)
    )
    mapping = CrossbarMapping(weight_scaling=scaling)
    model = linear(RRAMRPUConfig(noise_model=noise, mapping=mapping))
    program(model, 3)
    chip = effective_weights(model)["0"]
    return ((chip - weights()).norm() / weights().norm()).item()


@dataclass
class Knob:
    """One knob: settings from harmless to harmful; the error grows along them."""

    error: Callable[..., float]
    settings: list[dict[str, Any]]
    off: bool = True
    """Whether the first one is off, and changes nothing."""


KNOBS = {
    "dac_bits": Knob(output_error, [{"dac_bits": n} for n in (None, 8, 6, 4)]),
    "adc_bits": Knob(output_error, [{"adc_bits": n} for n in (None, 10, 8, 6)]),
    "adc_range, wider at the same bits": Knob(
        output_error, [{}, *({"adc_bits": 6, "adc_range": r} for r in (8.0, 16.0, 64.0))]
    ),
    "adc_range, too small": Knob(
        output_error, [{}, *({"adc_bits": 12, "adc_range": r} for r in (10.0, 1.0, 0.1))]
    ),
    "dac_range, too small": Knob(
        output_error, [{"dac_range": 1.0}, {"dac_range": 0.9}, {"dac_range": 0.3}]
    ),
    "dac_range, wider at the same bits": Knob(
        output_error, [{}, *({"dac_bits": 6, "dac_range": r} for r in (1.0, 3.0, 9.0))]
    ),
    "out_noise": Knob(output_error, [{"out_noise": s} for s in (0.0, 0.01, 0.1)]),
    "inp_noise": Knob(output_error, [{"inp_noise": s} for s in (0.0, 0.01, 0.1)]),
    "wire_resistance": Knob(
        output_error, [{"wire_resistance": r, "g_max": 25.0} for r in (0.0, 1.0, 10.0, 100.0)]
    ),
    "g_max, with wires": Knob(
        output_error, [{}, *({"wire_resistance": 5.0, "g_max": g} for g in (5.0, 25.0, 100.0))]
    ),
    "max_rows, with an ADC that is not exact": Knob(  # each part of a column is converted by itself
        output_error,
        [{}, *({"adc_bits": 8, "mapping": CrossbarMapping(max_rows=n)} for n in (ROWS, 8, 2))],
    ),
    "max_rows, with wires": Knob(  # short columns lose less
        output_error,
        [
            {},
            *(
                {"wire_resistance": 9.0, "g_max": 25.0, "mapping": CrossbarMapping(max_rows=n)}
                for n in (2, 8, ROWS)
            ),
        ],
    ),
    "weight_scaling, with output noise": Knob(
        output_error,
        [
            {},
            *(
                {"out_noise": 0.1, "mapping": CrossbarMapping(weight_scaling=s)}
                for s in ("column", "tile")
            ),
        ],
    ),
    "sigma": Knob(weight_error, [{"sigma": s} for s in (0.0, 0.1, 0.3)]),
    "g_min": Knob(weight_error, [{"sigma": 0.0}, *({"g_min": g} for g in (0.0, 1.0, 5.0))]),
    "g_max, above the same g_min": Knob(
        weight_error, [{"sigma": 0.0}, *({"g_min": 1.0, "g_max": g} for g in (100.0, 25.0, 5.0))]
    ),
    "weight_scaling, with g_min": Knob(
        weight_error,
        [{"sigma": 0.0}, *({"g_min": 5.0, "weight_scaling": s} for s in ("column", "tile"))],
    ),
    "weight_scaling, none as tile where only conductances count": Knob(
        weight_error,
        [{"sigma": 0.0}, *({"g_min": 5.0, "weight_scaling": s} for s in ("column", "none"))],
    ),
    "cell": Knob(weight_error, [{"sigma": 0.0}, *({"cell": c} for c in ("pair", "offset"))]),
    "cell, reference column": Knob(  # the reference varies too
        weight_error, [{"sigma": 0.0}, *({"cell": c} for c in ("offset", "reference"))]
    ),
}


@pytest.mark.parametrize("name", KNOBS)
def test_a_knob_off_changes_nothing_and_on_goes_its_way(name: str) -> None:
    knob = KNOBS[name]
    errors = [knob.error(**settings) for settings in knob.settings]
    assert errors[0] < 1e-6
    assert all(low < high for low, high in pairwise(errors)), errors


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
    restore(tiled)
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


# -- oracles: quantisation by hand


def quantized(values: Tensor, bits: int, bound: float) -> Tensor:
    """2^bits - 1 levels from -bound to bound, zero among them; clipped."""
    step = 2 * bound / (2**bits - 2)
    return (torch.round(values / step) * step).clamp(-bound, bound)


@pytest.mark.parametrize("scaling", ["none", "tile", "column"])
@pytest.mark.parametrize(
    "settings",
    [
        {"dac_bits": 4},
        {"dac_bits": 4, "dac_range": 0.5},
        {"adc_bits": 5, "adc_range": 2.0},
        {"dac_bits": 6, "dac_range": 2.0, "adc_bits": 7, "adc_range": 3.0},
    ],
    ids=str,
)
def test_converters_equal_quantisation_by_hand(settings: dict[str, Any], scaling: str) -> None:
    w, x = weights(), inputs()
    one = torch.ones(())
    scale = {"none": one, "tile": w.abs().max(), "column": w.abs().amax(1)}[scaling]
    per_input = x.abs().amax(1, keepdim=True)
    reach = torch.as_tensor(settings.get("dac_range", per_input))
    v = (x / reach).clamp(-1, 1)
    if "dac_bits" in settings:
        v = quantized(v, settings["dac_bits"], 1.0)
    y = v @ (w / scale.view(-1, 1)).T
    if "adc_bits" in settings:
        y = quantized(y, settings["adc_bits"], settings["adc_range"])
    config = RRAMRPUConfig(
        forward=periphery(**settings), mapping=CrossbarMapping(weight_scaling=scaling)
    )
    out = linear(config)(x)
    step = 2 * settings.get("adc_range", 0.0) / 30  # rounding may fall to either side of a tie
    close = (out - y * scale * reach).abs() <= 1e-5
    assert close.float().mean() > 0.99
    assert (out - y * scale * reach).abs().max() <= step * 1.01 * scale.max() + 1e-5


def test_output_noise_is_in_units_of_largest_weight_times_largest_input() -> None:
    torch.manual_seed(0)
    x = inputs().repeat(50, 1)
    out = linear(RRAMRPUConfig(forward=periphery(out_noise=0.2)))(x).detach()
    unit = weights().abs().amax(1) * x.abs().amax(1, keepdim=True)
    noise = (out - x @ weights().T) / unit
    assert noise.std().item() == pytest.approx(0.2, rel=0.02)
    assert noise.mean().abs() < 0.005


def test_input_noise_adds_up_over_the_rows() -> None:
    torch.manual_seed(0)
    x = inputs().repeat(50, 1)
    out = linear(RRAMRPUConfig(forward=periphery(inp_noise=0.1)))(x).detach()
    noise = (out - x @ weights().T) / x.abs().amax(1, keepdim=True)
    torch.testing.assert_close(noise.std(0), 0.1 * weights().norm(dim=1), rtol=0.05, atol=0.0)


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


# -- oracles: stock aihwkit


def extension_fits() -> bool:
    try:
        AnalogLinear(1, 1, rpu_config=InferenceRPUConfig())
    except (RuntimeError, ImportError):
        return False
    return True


on_cpp_tile = pytest.mark.skipif(
    not extension_fits(), reason="aihwkit's extension does not fit this torch"
)
SCALED = MappingParameter(
    max_input_size=8,
    max_output_size=4,
    weight_scaling_omega=1.0,
    weight_scaling_columnwise=True,
)


@pytest.mark.parametrize(
    "stock", [TorchInferenceRPUConfig, pytest.param(InferenceRPUConfig, marks=on_cpp_tile)]
)
@pytest.mark.parametrize(
    "settings",
    [
        {"dac_bits": 6},
        {"adc_bits": 8, "adc_range": 4.0},
        {"dac_bits": 6, "adc_bits": 8, "adc_range": 0.7},
        {"dac_bits": 6, "dac_range": 0.6},
    ],
    ids=str,
)
def test_converters_equal_stock_aihwkit_on_split_tiles(stock: Any, settings: Any) -> None:
    forward = periphery(**settings)
    ours = linear(RRAMRPUConfig(forward=forward, mapping=CrossbarMapping(8, 4)))
    layer = nn.Linear(ROWS, COLUMNS, bias=False)
    with torch.no_grad():
        layer.weight.copy_(weights())
    config = stock(forward=forward, mapping=SCALED, drift_compensation=None)
    theirs = stock_convert_to_analog(nn.Sequential(layer), config).eval()
    difference = (ours(inputs()) - theirs(inputs())).abs()
    assert (difference <= 1e-5).float().mean() > 0.99  # the C++ tile breaks ties the other way
    assert difference.max() < 0.1


@on_cpp_tile
@pytest.mark.parametrize("wire_resistance", [0.0, 1.0, 20.0, 200.0])
@pytest.mark.parametrize("settings", [{"dac_range": 1.0}, {"dac_bits": 5}], ids=str)
def test_ir_drop_equals_the_cpp_tile(wire_resistance: float, settings: dict[str, Any]) -> None:
    """Signed inputs, so that current and output differ."""
    x = 2 * inputs() - 1
    forward = periphery(wire_resistance=wire_resistance, g_max=50.0, **settings)
    ours = linear(RRAMRPUConfig(forward=forward))
    mapping = RRAMRPUConfig(forward=forward).mapping
    layer = nn.Linear(ROWS, COLUMNS, bias=False)
    with torch.no_grad():
        layer.weight.copy_(weights())
    theirs = stock_convert_to_analog(
        nn.Sequential(layer),
        InferenceRPUConfig(forward=forward, mapping=mapping, drift_compensation=None),
    ).eval()
    difference = (ours(x) - theirs(x)).abs()
    assert (difference <= 2e-5).float().mean() > 0.99
    if wire_resistance == 200.0:  # and it is no small thing there
        assert (ours(x) - x @ weights().T).norm() > 0.05 * (x @ weights().T).norm()


def test_gradients_pass_through_ir_drop() -> None:
    """Weight and input gradients against finite differences, in training with a held chip."""
    config = RRAMRPUConfig(forward=periphery(wire_resistance=50.0, g_max=50.0, dac_range=1.0))
    model = linear(config)
    x = inputs()[:3].requires_grad_()
    model(x).square().sum().backward()
    shift = torch.zeros_like(x)
    shift[1, 5] = 1e-2
    with torch.no_grad():
        up, down = model(x + shift).square().sum(), model(x - shift).square().sum()
    assert x.grad is not None
    assert x.grad[1, 5].item() == pytest.approx(((up - down) / 2e-2).item(), rel=1e-2)


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
    """What is left after the row's mean is less than without the reference's part."""
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
        (lambda: CrossbarMapping(max_rows=0), "max_rows is 0; give at least 1"),
        (lambda: CrossbarMapping(max_columns=-1), "max_columns is -1"),
        (lambda: CrossbarMapping(weight_scaling="row"), "weight_scaling is 'row'"),
        (lambda: conductance_converter("single"), "cell is 'single'"),  # type: ignore[arg-type]
        (lambda: conductance_converter(g_min=5.0, g_max=5.0), "g_min is 5.0 and g_max is 5.0"),
        (lambda: conductance_converter(g_min=-1.0), "g_min is -1.0"),
        (lambda: periphery(adc_bits=6, adc_range=-1.0), "adc_range is -1.0"),
        (lambda: periphery(dac_range=0.0), "dac_range is 0.0"),
        (lambda: periphery(wire_resistance=-1.0), "wire_resistance is -1.0"),
        (lambda: periphery(wire_resistance=1.0), "g_max is None; IR drop needs"),
    ],
)
def test_impossible_values_are_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(CnetError, match=message.replace("(", r"\(")):
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
    with pytest.raises(CnetError, match=rf"torch tiles do not compute this: .*{reason}.*C\+\+"):
        linear(RRAMRPUConfig(forward=IOParameters(**setting)))


def test_a_group_that_fits_no_crossbar_is_refused() -> None:
    config = RRAMRPUConfig(mapping=CrossbarMapping(max_rows=16))
    with pytest.raises(CnetError, match=r"max_rows is 16, but each of the 2 groups .* needs 18"):
        RRAMConv2d(4, 4, 3, groups=2, rpu_config=config)
    RRAMConv2d(4, 4, 3, groups=4, rpu_config=config)


def test_an_adc_without_a_range_says_so() -> None:
    model = linear(RRAMRPUConfig(forward=periphery(adc_bits=6, adc_range=None)))
    with pytest.raises(CnetError, match="the ADC has no range yet"):
        model(inputs())
