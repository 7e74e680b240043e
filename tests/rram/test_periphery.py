"""Edges of crossbars: the effect of each knob; closed forms and aihwkit are oracles."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import torch
from aihwkit.nn import AnalogLinear
from aihwkit.nn.conversion import convert_to_analog as stock_convert_to_analog
from aihwkit.simulator.configs import InferenceRPUConfig, TorchInferenceRPUConfig
from aihwkit.simulator.parameters import IOParameters, MappingParameter
from torch import Tensor, nn

from cnet_aihw.rram import (
    CrossbarMapping,
    LogNormalNoiseModel,
    RRAMRPUConfig,
    conductance_converter,
    convert_to_analog,
    effective_weights,
    periphery,
    program,
)
from cnet_aihw.runtime.errors import CnetError

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
    if wire_resistance == 200.0:  # and it is large there
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


@pytest.mark.parametrize(
    ("name", "bound"), [("inp", 0.0), ("inp", -1.0), ("inp", math.inf), ("out", math.inf)]
)
def test_a_range_that_has_no_steps_is_refused_and_without_steps_is_open(
    name: str, bound: float
) -> None:
    """It gave NaN, which was reported as a training that diverged."""
    key = f"{name}_bound"
    with pytest.raises(CnetError) as error:
        linear(RRAMRPUConfig(forward=IOParameters(**{key: bound})))
    assert (error.value.key, error.value.value) == (f"forward.{key}", bound)
    if bound > 0.0:
        open_ = IOParameters(**{key: bound, f"{name}_res": -1.0}, out_noise=0.0)
        assert torch.isfinite(linear(RRAMRPUConfig(forward=open_))(inputs())).all()
