"""Correctors against plain torch: outputs, costs, shrinking, descriptions."""

import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from cnet_aihw.compensation import (
    PAPER,
    Affine,
    Corrector,
    Digital,
    GeneratorCompensator,
    LayerShape,
    LowRank,
    Placement,
    Vera,
    compensate,
    compensation_parameters,
    corrector_from,
    layer_shape,
    remove_compensation,
)
from cnet_aihw.compensation.generator import GeneratorCompensatorModule
from cnet_aihw.rram import RRAMRPUConfig, convert_to_analog
from cnet_aihw.runtime.errors import CnetError

from .conftest import CORRECTORS, Stranger

SHAPE = LayerShape(2, 3, 8)
RESIDUAL = GeneratorCompensator(form="residual")


def randomized(
    corrector: GeneratorCompensator, shape: LayerShape = SHAPE
) -> GeneratorCompensatorModule:
    torch.manual_seed(0)
    module = corrector.build(shape, 4)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    return module


def test_paper_form_is_two_pointwise_convolutions():
    """g = generator(x pooled, y); y' = compensator(y, g): written out with torch's functions."""
    module = randomized(PAPER)
    x, y = torch.randn(2, 3, 10, 10), torch.randn(2, 8, 5, 4)
    read = torch.cat([F.adaptive_avg_pool2d(x, (5, 4)), y], 1)
    g = F.conv2d(read, module.generator.weight, module.generator.bias)
    expected = F.conv2d(torch.cat([y, g], 1), module.compensator.weight, module.compensator.bias)
    assert g.shape == (2, 4, 5, 4)
    torch.testing.assert_close(module(x, y), expected)


def test_residual_form_adds_to_the_output():
    module = randomized(GeneratorCompensator(form="residual", reads="y", activation="relu"))
    x, y = torch.randn(2, 3, 5, 5), torch.randn(2, 8, 5, 5)
    g = torch.relu(F.conv2d(y, module.generator.weight, module.generator.bias))
    expected = y + F.conv2d(g, module.compensator.weight, module.compensator.bias)
    torch.testing.assert_close(module(x, y), expected)


def test_pooling_averages_strided_inputs():
    module = randomized(GeneratorCompensator(reads="x"), LayerShape(1, 3, 8))
    x, y = torch.randn(2, 3, 12), torch.randn(2, 8, 4)
    assert torch.allclose(module(x, y), module(F.avg_pool1d(x, 3), y))


@pytest.mark.parametrize(
    ("corrector", "weights"),
    [
        (PAPER, (3 + 8) * 4 + 4 + (8 + 4) * 8 + 8),
        (GeneratorCompensator(reads="x"), 3 * 4 + 4 + (8 + 4) * 8 + 8),
        (GeneratorCompensator(reads="y"), 8 * 4 + 4 + (8 + 4) * 8 + 8),
        (GeneratorCompensator(kernel_size=3), 9 * (3 + 8) * 4 + 4 + (8 + 4) * 8 + 8),
        (GeneratorCompensator(form="residual"), (3 + 8) * 4 + 4 + 4 * 8 + 8),
    ],
)
def test_a_variant_has_the_weights_that_its_docstring_says(corrector, weights):
    module = corrector.build(SHAPE, 4)
    assert sum(p.numel() for p in module.parameters()) == weights


def test_activation_makes_the_correction_nonlinear():
    x, y = torch.randn(2, 3, 4, 4), torch.randn(2, 8, 4, 4)
    for activation, linear in (("none", True), ("relu", False), ("tanh", False)):
        module = randomized(GeneratorCompensator(activation=activation))
        zero = module(torch.zeros_like(x), torch.zeros_like(y))
        doubled = module(2 * x, 2 * y) - zero
        assert torch.allclose(doubled, 2 * (module(x, y) - zero), atol=1e-4) is linear


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("corrector", [PAPER, RESIDUAL])
def test_it_computes_in_the_type_of_its_input(dtype, corrector):
    module = corrector.build(SHAPE, 4)
    x, y = torch.randn(1, 3, 4, 4).to(dtype), torch.randn(1, 8, 4, 4).to(dtype)
    assert module(x, y).dtype == dtype
    assert torch.equal(module(x, y), y)
    assert module.generator.weight.dtype == torch.float32


def test_inputs_without_a_batch_are_taken():
    module = randomized(PAPER)
    x, y = torch.randn(1, 3, 4, 4), torch.randn(1, 8, 4, 4)
    torch.testing.assert_close(module(x[0], y[0]), module(x, y)[0])


def test_at_least_one_filter_where_the_ratio_is_not_zero():
    assert [PAPER.size(SHAPE, r) for r in (0.0, 0.01, 0.25, 1.0)] == [0, 1, 2, 8]


def test_a_corrector_without_a_size_is_placed_with_the_ratio_one():
    assert [Affine().size(SHAPE, r) for r in (0.0, 1.0)] == [0, 0]
    with pytest.raises(CnetError) as error:
        Affine().size(SHAPE, 0.5)
    assert (error.value.key, error.value.value) == ("ratio", 0.5)


def test_fields_default_to_the_papers_setting_and_labels_name_them():
    assert GeneratorCompensator() == PAPER
    assert PAPER.label() == "xy-none-k1-full"
    assert GeneratorCompensator("x", "relu", 3, "residual").label() == "x-relu-k3-residual"
    assert (Affine().label(), Digital().label()) == ("affine", "digital")
    assert Stranger(0.5).label() == "stranger(scale=0.5)"


def test_affine_scales_and_shifts_each_channel():
    module = Affine().build(SHAPE, 0)
    y = torch.randn(2, 8, 5, 4)
    with torch.no_grad():
        module.scale.copy_(torch.randn(8))
        module.offset.copy_(torch.randn(8))
    expected = y * module.scale[None, :, None, None] + module.offset[None, :, None, None]
    torch.testing.assert_close(module(torch.empty(0), y), expected)
    linear = Affine().build(LayerShape(0, 3, 8), 0)
    assert linear(torch.empty(0), torch.ones(2, 7, 8)).shape == (2, 7, 8)


@pytest.mark.parametrize("corrector", CORRECTORS.values(), ids=CORRECTORS)
@pytest.mark.parametrize("dims", [0, 1, 2])
def test_every_corrector_costs_what_it_builds_and_starts_as_the_identity(corrector, dims):
    torch.manual_seed(0)
    shape = LayerShape(dims, 3, 8, (3,) * dims)
    size = corrector.size(shape, 1.0)
    module = corrector.build(shape, size)
    x, y = (torch.randn(2, c, *[4] * dims) for c in (3, 8))
    assert torch.equal(module(x, y), y)
    if corrector.on_crossbar:
        cost = corrector.cost(shape, size)
        assert cost.weights == sum(p.numel() for p in module.parameters())
        with FlopCounterMode(display=False) as counter:
            module(x[:1], y[:1])
        assert cost.macs * 4**dims == counter.get_total_flops() // 2


@pytest.mark.parametrize("corrector", CORRECTORS.values(), ids=CORRECTORS)
def test_a_shrunk_corrector_is_the_smaller_one(corrector):
    """The parameters have the smaller module's shapes, and compute what it computes with them."""
    torch.manual_seed(0)
    large = corrector.build(SHAPE, corrector.size(SHAPE, 1.0))
    small_size = corrector.size(SHAPE, 0.25) if corrector.sized else 0
    small = corrector.build(SHAPE, small_size)
    with torch.no_grad():
        for parameter in large.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    first = corrector.shrink(large, small_size)
    assert {n: p.shape for n, p in small.named_parameters()} == {
        n: p.shape for n, p in first.items()
    }
    small.load_state_dict(first)
    x, y = torch.randn(2, 3, 5, 5), torch.randn(2, 8, 5, 5)
    assert torch.equal(torch.func.functional_call(large, first, (x, y)), small(x, y))


def test_a_low_rank_corrector_of_size_0_shrinks_to_itself():
    module = LowRank().build(SHAPE, 0)
    assert LowRank().shrink(module, 0) == dict(module.named_parameters())


def test_projections_of_vera_are_uniform_as_he_et_al_and_belong_to_the_seed():
    """Bounds sqrt(3 / width), hence variance 1 / width, so that sums keep the size of inputs."""
    shape = LayerShape(0, 300, 500)
    module, other = (Vera(seed).build(shape, 40) for seed in (0, 1))
    for name, matrix, width in (("down", module.down, 300), ("up", module.up.T, 500)):
        assert matrix.shape == (40, width)
        assert 0.99 < float(matrix.abs().max()) * (width / 3.0) ** 0.5 <= 1.0, name
        assert float(matrix.var()) * width == pytest.approx(1.0, abs=0.05), name
    for drawn_elsewhere in (other.down, module.up.T[:, :300] * (500 / 300) ** 0.5):
        assert torch.isclose(module.down, drawn_elsewhere).float().mean() < 0.01


def test_labels_tell_settings_apart():
    labels = [corrector.label() for corrector in (*CORRECTORS.values(), Vera(), Vera(1), Vera(2))]
    assert len(set(labels)) == len(set(CORRECTORS.values()) | {Vera(), Vera(1), Vera(2)})


@pytest.mark.parametrize("corrector", CORRECTORS.values(), ids=CORRECTORS)
def test_a_description_gives_the_corrector_back(corrector):
    described = json.loads(json.dumps(corrector.describe()))
    assert corrector_from(described) == corrector


class NoDataclass(Corrector):
    build = cost = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    "described",
    [
        {},
        {"corrector": "Affine"},
        {"corrector": "no.such.module.Affine"},
        {"corrector": "cnet_aihw.compensation.affine.Nothing"},
        {"corrector": "os.system", "command": "true"},
        {"corrector": "torch.nn.Linear", "in_features": 1, "out_features": 1},
        {"corrector": "cnet_aihw.compensation.affine.Affine", "rank": 3},
    ],
)
def test_a_description_of_anything_else_is_refused(described):
    with pytest.raises(CnetError) as error:
        corrector_from(described)
    assert error.value.key == "corrector"


def test_a_corrector_that_is_not_a_dataclass_cannot_be_described():
    with pytest.raises(CnetError) as error:
        NoDataclass().describe()
    assert error.value.value == "NoDataclass"


@pytest.mark.parametrize(
    "bad", [{"reads": "z"}, {"activation": "gelu"}, {"kernel_size": 5}, {"form": "half"}]
)
def test_unknown_settings_are_refused(bad):
    with pytest.raises(CnetError) as error:
        GeneratorCompensator(**bad)
    ((name, value),) = bad.items()
    assert (error.value.key, error.value.value) == (f"corrector.{name}", value)


@pytest.mark.parametrize("analog", [False, True])
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(3, 5), LayerShape(0, 3, 5)),
        (
            nn.Conv1d(4, 6, 3, groups=2, bias=False),
            LayerShape(1, 4, 6, (3,), 2, False, (1,), (0,), (1,)),
        ),
        (nn.Conv2d(4, 6, (3, 2)), LayerShape(2, 4, 6, (3, 2), 1, True, (1, 1), (0, 0), (1, 1))),
    ],
)
def test_the_shape_of_a_layer_gives_its_weights_and_macs(layer, shape, analog):
    weights = sum(p.numel() for p in layer.parameters())
    if analog:
        layer = convert_to_analog(nn.Sequential(layer))[0]
    assert layer_shape(layer) == shape
    assert shape.weights == weights
    assert shape.macs == weights - 6 * (shape.dims == 2) - 5 * (shape.dims == 0)


def test_learned_scales_of_a_crossbar_are_not_taken_for_a_bias():
    config = RRAMRPUConfig()
    config.mapping.learn_out_scaling = config.mapping.weight_scaling_columnwise = True
    layer = convert_to_analog(nn.Sequential(nn.Conv2d(4, 8, 3, bias=False)), config)[0]
    assert layer_shape(layer).bias is False
    assert layer_shape(layer).weights == 4 * 8 * 9


def test_layers_of_another_kind_are_refused():
    with pytest.raises(CnetError) as error:
        layer_shape(nn.Conv3d(1, 1, 1))
    assert error.value.value == "Conv3d"


def test_layers_kept_in_lists_are_corrected_too_and_come_back() -> None:
    """Also several at once, of which one is used through the list alone."""

    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 3)
            self.order = [self.first, self.second]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self.order:
                x = layer(x)
            return x

    model = convert_to_analog(Listed(), RRAMRPUConfig()).eval()
    layers, x = list(model.order), torch.rand(5, 4)
    before = model(x)
    compensate(model, Placement({"first": 1.0, "second": 1.0}), Affine())
    assert model.order == [model.first, model.second] != layers
    with torch.no_grad():
        for parameter in compensation_parameters(model).values():
            parameter.add_(1.0)
    assert not torch.equal(model(x), before)
    remove_compensation(model)
    assert model.order == layers == [model.first, model.second]
    assert torch.equal(model(x), before)
