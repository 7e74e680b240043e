"""Generator and compensator against plain torch, and what a variant costs."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cnet_aihw.compensation import PAPER, Compensation, CompensationVariant
from cnet_aihw.compensation.shapes import LayerShape, filters, layer_shape
from cnet_aihw.runtime.errors import CnetError

SHAPE = LayerShape(2, 3, 8)
RESIDUAL = CompensationVariant(form="residual")


def randomized(variant: CompensationVariant, shape: LayerShape = SHAPE) -> Compensation:
    torch.manual_seed(0)
    module = Compensation(shape, 0.5, variant)
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
    module = randomized(CompensationVariant(form="residual", reads="y", activation="relu"))
    x, y = torch.randn(2, 3, 5, 5), torch.randn(2, 8, 5, 5)
    g = torch.relu(F.conv2d(y, module.generator.weight, module.generator.bias))
    expected = y + F.conv2d(g, module.compensator.weight, module.compensator.bias)
    torch.testing.assert_close(module(x, y), expected)


def test_pooling_averages_strided_inputs():
    module = randomized(CompensationVariant(reads="x"), LayerShape(1, 3, 8))
    x, y = torch.randn(2, 3, 12), torch.randn(2, 8, 4)
    assert torch.allclose(module(x, y), module(F.avg_pool1d(x, 3), y))


@pytest.mark.parametrize(
    ("variant", "weights"),
    [
        (PAPER, (3 + 8) * 4 + 4 + (8 + 4) * 8 + 8),
        (CompensationVariant(reads="x"), 3 * 4 + 4 + (8 + 4) * 8 + 8),
        (CompensationVariant(reads="y"), 8 * 4 + 4 + (8 + 4) * 8 + 8),
        (CompensationVariant(kernel_size=3), 9 * (3 + 8) * 4 + 4 + (8 + 4) * 8 + 8),
        (CompensationVariant(form="residual"), (3 + 8) * 4 + 4 + 4 * 8 + 8),
    ],
)
def test_a_variant_has_the_weights_that_its_docstring_says(variant, weights):
    module = Compensation(SHAPE, 0.5, variant)
    assert sum(p.numel() for p in module.parameters()) == weights


def test_activation_makes_the_correction_nonlinear():
    x, y = torch.randn(2, 3, 4, 4), torch.randn(2, 8, 4, 4)
    for activation, linear in (("none", True), ("relu", False), ("tanh", False)):
        module = randomized(CompensationVariant(activation=activation))
        zero = module(torch.zeros_like(x), torch.zeros_like(y))
        doubled = module(2 * x, 2 * y) - zero
        assert torch.allclose(doubled, 2 * (module(x, y) - zero), atol=1e-4) is linear


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("variant", [PAPER, RESIDUAL])
def test_it_computes_in_the_type_of_its_input(dtype, variant):
    module = Compensation(SHAPE, 0.5, variant)
    x, y = torch.randn(1, 3, 4, 4).to(dtype), torch.randn(1, 8, 4, 4).to(dtype)
    assert module(x, y).dtype == dtype
    assert torch.equal(module(x, y), y)
    assert module.generator.weight.dtype == torch.float32


def test_inputs_without_a_batch_are_taken():
    module = randomized(PAPER)
    x, y = torch.randn(1, 3, 4, 4), torch.randn(1, 8, 4, 4)
    torch.testing.assert_close(module(x[0], y[0]), module(x, y)[0])


def test_at_least_one_filter_where_the_ratio_is_not_zero():
    assert [filters(SHAPE, r) for r in (0.0, 0.01, 0.25, 1.0)] == [0, 1, 2, 8]


def test_fields_default_to_the_papers_setting_and_variants_have_their_names():
    assert CompensationVariant() == PAPER
    assert PAPER.label() == "xy-none-k1-full"
    assert CompensationVariant("x", "relu", 3, "residual").label() == "x-relu-k3-residual"


@pytest.mark.parametrize(
    "bad", [{"reads": "z"}, {"activation": "gelu"}, {"kernel_size": 5}, {"form": "half"}]
)
def test_unknown_variants_are_refused(bad):
    with pytest.raises(CnetError, match=f"compensation.{next(iter(bad))} is"):
        CompensationVariant(**bad)


def test_layers_of_another_kind_are_refused():
    with pytest.raises(CnetError, match="Conv3d"):
        layer_shape(nn.Conv3d(1, 1, 1))
