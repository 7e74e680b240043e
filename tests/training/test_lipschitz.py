"""The Lipschitz penalty: value, gradient, lambda, what it does to a layer, BatchNorm folded in."""

import itertools
import math
from typing import Any

import pytest
import torch
from aihwkit.inference import ReRamWan2022NoiseModel
from aihwkit.simulator.parameters import MappingParameter
from torch import Tensor, nn

from cnet_aihw.rram import (
    CompositeNoiseModel,
    GaussianProportionalNoiseModel,
    LevelsNoiseModel,
    LogNormalNoiseModel,
    ReadNoiseModel,
    RRAMRPUConfig,
    StuckAtNoiseModel,
    analog_layers,
    clear_chip,
    convert_to_analog,
    nominal_weight,
    program,
    set_variation,
    trainable_parameters,
)
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.training import (
    LipschitzPenalty,
    following_batchnorms,
    lipschitz_lambda,
    spectral_norms,
)
from cnet_aihw.training.lipschitz import _GramDistance, _ProbedDistances

LAYERS = {
    "tall": lambda: nn.Linear(5, 9),
    "large": lambda: nn.Linear(333, 301),
    "wide": lambda: nn.Linear(9, 5),
    "square": lambda: nn.Linear(6, 6),
    "conv": lambda: nn.Conv2d(3, 4, 3),
    "narrow conv": lambda: nn.Conv2d(1, 12, 2),
    "grouped conv": lambda: nn.Conv2d(4, 6, 3, groups=2),
    "depthwise conv": lambda: nn.Conv2d(4, 8, 3, groups=4),
    "conv1d": lambda: nn.Conv1d(3, 4, 3),
}


def blocks(layer: nn.Module, weight: Tensor) -> list[Tensor]:
    """The maps of a layer: its weight matrix, or one for each group."""
    groups = layer.groups if isinstance(layer, nn.Conv1d | nn.Conv2d) else 1
    return list(weight.flatten(1).chunk(groups))


def plain_penalty(layer: nn.Module, weight: Tensor, lambda_: float) -> Tensor:
    """The definition in plain torch."""
    total = weight.new_zeros(())
    for block in blocks(layer, weight):
        small = block if block.shape[0] <= block.shape[1] else block.T
        total = total + (small @ small.T - lambda_**2 * torch.eye(len(small))).square().sum()
    return total


def analog(*layers: nn.Module, omega: float = 0.0) -> nn.Module:
    config = RRAMRPUConfig()
    config.mapping.weight_scaling_omega = omega
    return convert_to_analog(nn.Sequential(*layers), config)


@pytest.mark.parametrize("omega", [0.0, 1.0])
@pytest.mark.parametrize("kind", LAYERS)
def test_value_and_gradient_are_those_of_the_definition(kind: str, omega: float) -> None:
    torch.manual_seed(0)
    digital = LAYERS[kind]()
    model = analog(digital, omega=omega)
    penalty = LipschitzPenalty(model, 0.34)()
    expected = plain_penalty(digital, digital.weight, 0.34)
    assert penalty.item() == pytest.approx(expected.item(), rel=1e-5)
    penalty.backward()
    expected.backward()
    # one optimizer step moves the logical weights as plain torch does
    torch.optim.SGD(trainable_parameters(model), lr=0.01).step()
    torch.optim.SGD(digital.parameters(), lr=0.01).step()
    (layer,) = analog_layers(model).values()
    weight = digital.weight.detach().flatten(1)
    torch.testing.assert_close(nominal_weight(layer).detach(), weight, atol=1e-5, rtol=1e-4)


def kernel_slices(layer: nn.Module, weight: Tensor) -> list[Tensor]:
    """The maps of a layer, one for each group and each position of its kernel."""
    if isinstance(layer, nn.Linear):
        return [weight]
    return [
        group[(slice(None), slice(None), *position)]
        for group in weight.chunk(layer.groups)
        for position in itertools.product(*map(range, weight.shape[2:]))
    ]


@pytest.mark.parametrize("kind", LAYERS)
def test_slices_of_a_kernel_have_a_gram_matrix_each(kind: str) -> None:
    torch.manual_seed(0)
    digital = LAYERS[kind]()
    model = analog(digital)
    penalty = LipschitzPenalty(model, 0.34, gram="slices")()
    expected = torch.zeros(())
    for block in kernel_slices(digital, digital.weight):
        small = block if block.shape[0] <= block.shape[1] else block.T
        expected = expected + (small @ small.T - 0.34**2 * torch.eye(len(small))).square().sum()
    assert penalty.item() == pytest.approx(expected.item(), rel=1e-5)
    penalty.backward()
    expected.backward()
    (layer,) = analog_layers(model).values()
    tile = next(layer.analog_tiles())
    gradient = digital.weight.grad.flatten(1)
    torch.testing.assert_close(tile.tile.weight.grad.view_as(gradient), gradient)


def test_orthogonal_slices_have_no_penalty() -> None:
    """Slices with orthogonal columns of length lambda have no penalty; their matrix has."""
    torch.manual_seed(0)
    digital = nn.Conv2d(4, 6, 3)
    with torch.no_grad():
        for row in range(3):
            for column in range(3):
                left, _, right = torch.linalg.svd(torch.randn(6, 4), full_matrices=False)
                digital.weight[:, :, row, column] = 0.34 * left @ right
    model = analog(digital)
    assert LipschitzPenalty(model, 0.34, gram="slices")().item() == pytest.approx(0.0, abs=1e-10)
    assert LipschitzPenalty(model, 0.34)().item() > 0.01


@pytest.mark.parametrize("shape", [(3, 7), (7, 3), (4, 4), (2, 3, 5), (2, 5, 3)])
def test_gradient_against_finite_differences(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    weight = torch.randn(*shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w: _GramDistance.apply(w, 0.7), weight)


def every_sign(size: int) -> Tensor:
    """All vectors of signs, [size, 2 ** size], over which the estimate is exact."""
    return torch.tensor(list(itertools.product([-1.0, 1.0], repeat=size)), dtype=torch.float64).T


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4), (2, 3, 4), (2, 4, 3)])
def test_probes_of_all_signs_give_value_and_gradient(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    weight = torch.randn(*shape, dtype=torch.float64, requires_grad=True)
    signs = every_sign(min(shape[-2:])).expand(*shape[:-2], -1, -1)
    values, gradients = [], []
    for distance in (
        _GramDistance.apply(weight, 0.7),
        _ProbedDistances.apply(0.7, [signs], weight),
    ):
        values.append(distance.item())
        gradients.append(torch.autograd.grad(3 * distance, weight)[0])
    assert values[0] == pytest.approx(values[1], rel=1e-12)
    torch.testing.assert_close(gradients[0], gradients[1])
    assert torch.autograd.gradcheck(
        lambda w: _ProbedDistances.apply(0.7, [signs[..., :2]], w), weight
    )


def test_probes_estimate_without_bias_and_with_the_known_variance() -> None:
    torch.manual_seed(0)
    model = convert_to_analog(nn.Sequential(nn.Linear(12, 8)), RRAMRPUConfig())
    exact = LipschitzPenalty(model, 0.34)().item()
    estimate = LipschitzPenalty(model, 0.34, probes=1)
    found = torch.tensor([estimate().item() for _ in range(4000)], dtype=torch.float64)
    weight = nominal_weight(model[0]).detach().double()
    excess = weight @ weight.T - 0.34**2 * torch.eye(8, dtype=torch.float64)
    square = excess @ excess
    variance = 2 * (square.square().sum() - square.diagonal().square().sum()).item()
    assert found.var().item() == pytest.approx(variance, rel=0.15)
    assert found.mean().item() == pytest.approx(exact, abs=4 * math.sqrt(variance / 4000))
    many = LipschitzPenalty(model, 0.34, probes=4000)().item()
    assert many == pytest.approx(exact, abs=4 * math.sqrt(variance / 4000))


@pytest.mark.parametrize("kind", LAYERS)
def test_probes_take_every_kind_of_layer(kind: str) -> None:
    torch.manual_seed(0)
    model = convert_to_analog(nn.Sequential(LAYERS[kind]()), RRAMRPUConfig())
    for gram in ("matrix", "slices"):
        exact = LipschitzPenalty(model, 0.34, gram=gram)().item()
        penalty = LipschitzPenalty(model, 0.34, gram=gram, probes=512)()
        assert penalty.item() == pytest.approx(exact, rel=0.3)
        penalty.backward()
        assert all(p.grad is not None for p in trainable_parameters(model) if p.dim() > 1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    half = torch.randn(8, 64).mul(8).to(dtype).requires_grad_()  # float16 overflows above 65504
    exact = half.detach().float().requires_grad_()
    value, expected = _GramDistance.apply(half, 0.34), _GramDistance.apply(exact, 0.34)
    assert value.dtype == torch.float32 and value.item() == expected.item() > 65504
    (value * 1e-3).backward()
    (expected * 1e-3).backward()
    assert half.grad is not None and half.grad.dtype == dtype
    torch.testing.assert_close(half.grad, exact.grad.to(dtype))
    model = analog(nn.Linear(64, 8))
    penalty = LipschitzPenalty(model, 0.34)
    plain = penalty().item()
    with torch.autocast("cpu", torch.bfloat16):
        assert penalty().item() == plain


def test_layers_are_summed_excluded_and_seen_without_variation() -> None:
    torch.manual_seed(0)
    model = analog(nn.Conv2d(1, 4, 3), nn.Linear(5, 6), nn.Linear(6, 3))
    parts = [LipschitzPenalty(analog_part, 0.5)().item() for analog_part in model]
    assert LipschitzPenalty(model, 0.5)().item() == pytest.approx(sum(parts), rel=1e-6)
    some = LipschitzPenalty(model, 0.5, exclude=["0", "2"])
    assert some().item() == pytest.approx(parts[1], rel=1e-6)
    set_variation(model, enabled=True)
    model.train()
    assert LipschitzPenalty(model, 0.5)().item() == pytest.approx(sum(parts), rel=1e-6)
    program(model, 3)
    assert LipschitzPenalty(model, 0.5)().item() == pytest.approx(sum(parts), rel=1e-6)
    clear_chip(model)


def test_mistakes() -> None:
    model = analog(nn.Linear(5, 6), nn.Linear(6, 3))
    with pytest.raises(CnetError) as error:
        LipschitzPenalty(model, -1)
    assert (error.value.key, error.value.value) == ("lambda", -1)
    with pytest.raises(CnetError, match="'7'"):
        LipschitzPenalty(model, 1.0, exclude=["7"])
    with pytest.raises(CnetError) as error:
        LipschitzPenalty(model, 1.0, exclude=["*"])
    assert error.value.key == "lipschitz.exclude"
    with pytest.raises(CnetError, check=lambda e: e.key == "model"):
        LipschitzPenalty(nn.Linear(2, 2), 1.0)
    batchnorm = nn.BatchNorm1d(6, track_running_stats=False)
    with pytest.raises(CnetError) as error:
        LipschitzPenalty(model, 1.0, batchnorms={"0": batchnorm})
    assert (error.value.key, error.value.value) == ("lipschitz.fold_batchnorm", "0")


@pytest.mark.parametrize("kind", [kind for kind in LAYERS if kind != "large"])
def test_a_fitted_layer_reaches_lambda(kind: str) -> None:
    """Under the penalty alone all singular values (of the smaller side) go to lambda."""
    torch.manual_seed(0)
    digital = LAYERS[kind]()
    model = analog(digital)
    penalty = LipschitzPenalty(model, 0.34)
    optimizer = torch.optim.Adam(trainable_parameters(model), lr=0.02)
    for _ in range(400):
        optimizer.zero_grad()
        penalty().backward()
        optimizer.step()
    (layer,) = analog_layers(model).values()
    for block in blocks(digital, nominal_weight(layer).detach()):
        singular_values = torch.linalg.svdvals(block)
        torch.testing.assert_close(
            singular_values, torch.full_like(singular_values, 0.34), atol=5e-3, rtol=0
        )


def test_spectral_norms_are_the_largest_singular_values() -> None:
    torch.manual_seed(0)
    digital = [LAYERS[kind]() for kind in LAYERS]
    norms = spectral_norms(analog(*digital))
    assert list(norms) == [str(i) for i in range(len(LAYERS))]
    for layer, norm in zip(digital, norms.values(), strict=True):
        matrices = blocks(layer, layer.weight.detach())
        assert norm == pytest.approx(
            max(torch.linalg.svdvals(m)[0].item() for m in matrices), rel=1e-5
        )


def test_lambda_of_the_lognormal_is_in_closed_form() -> None:
    assert lipschitz_lambda(LogNormalNoiseModel(0.5)) == pytest.approx(0.340, abs=5e-4)
    sigma = 0.3
    mean = math.exp(sigma**2 / 2)
    std = math.sqrt((math.exp(sigma**2) - 1) * math.exp(sigma**2))
    assert lipschitz_lambda(LogNormalNoiseModel(sigma), k=2) == pytest.approx(
        2 / (mean + 3 * std), rel=1e-12
    )
    assert lipschitz_lambda(LogNormalNoiseModel(0.0)) == 1.0


def test_lambda_from_samples_agrees_with_the_closed_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """Per conductance with g_min = 0 through a converter of its own: the same law, but sampled."""
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)

    class Unknown(LogNormalNoiseModel):
        multiplicative = False

    torch.manual_seed(0)
    weights = {"a": torch.randn(200, 100), "b": 0.01 * torch.randn(50, 100)}
    state = torch.get_rng_state()
    sampled = lipschitz_lambda(Unknown(0.3), weights=weights)
    assert sampled == pytest.approx(lipschitz_lambda(LogNormalNoiseModel(0.3)), rel=0.01)
    assert torch.equal(torch.get_rng_state(), state)
    assert lipschitz_lambda(Unknown(0.3), weights=weights) == sampled
    assert len(seeded) == 1  # by this test itself, above: other devices are left alone
    assert lipschitz_lambda(Unknown(0.3), weights=weights, seed=1) != sampled


def lenet_like_weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {f"{i}/0": nn.Linear(250, rows).weight.detach() for i, rows in enumerate((16, 84, 120))}


@pytest.mark.parametrize(
    "model",
    [
        LogNormalNoiseModel(0.1),
        LogNormalNoiseModel(0.3),
        LogNormalNoiseModel(0.5),
        GaussianProportionalNoiseModel(0.2),
    ],
    ids=str,
)
def test_lambda_of_a_composition_is_sampled_and_agrees_with_the_closed_form(model: Any) -> None:
    composed = CompositeNoiseModel([model])
    sampled = lipschitz_lambda(composed, weights=lenet_like_weights())
    assert sampled == pytest.approx(lipschitz_lambda(model), rel=0.01)


def test_lambda_takes_all_that_a_chip_has() -> None:
    """Levels, faults and read noise each take some of the margin; what is off takes none."""
    weights = lenet_like_weights()
    stages = [LogNormalNoiseModel(0.3), ReadNoiseModel(0.02), LevelsNoiseModel(4)]
    lambdas = [
        lipschitz_lambda(CompositeNoiseModel(stages[: n + 1]), weights=weights) for n in range(3)
    ]
    assert lambdas == sorted(lambdas, reverse=True) and len(set(lambdas)) == 3
    off = CompositeNoiseModel([*stages, StuckAtNoiseModel(0.0, 0.0)])
    assert lipschitz_lambda(off, weights=weights) == lambdas[-1]
    faulty = CompositeNoiseModel([*stages, StuckAtNoiseModel()])
    assert lipschitz_lambda(faulty, weights=weights) < 0.9 * lambdas[-1]


def test_lambda_of_read_noise_has_a_closed_form() -> None:
    """Weights of one size, a pair from 0 to g_max: a reading is off by sqrt(2) sigma of them."""
    weights = {"a": torch.full((300, 300), 0.5) * torch.randn(300, 300).sign()}
    expected = 1 / (1 + 3 * 2**0.5 * 0.05)
    assert lipschitz_lambda(ReadNoiseModel(0.05), weights=weights) == pytest.approx(
        expected, rel=0.01
    )


def test_lambda_of_variation_from_die_to_die_is_sampled_over_dies() -> None:
    model = LogNormalNoiseModel(0.2, sigma_die=0.1, per_conductance=True, g_max=25.0, g_min=1.0)
    sampled = lipschitz_lambda(model, weights=lenet_like_weights(), samples=30)
    without = LogNormalNoiseModel(0.2, per_conductance=True, g_max=25.0, g_min=1.0)
    assert sampled < lipschitz_lambda(without, weights=lenet_like_weights(), samples=30)


def test_lambda_of_a_part_common_to_a_die_does_not_hang_on_a_few_dies() -> None:
    model = LogNormalNoiseModel(0.3, sigma_die=0.3)
    composed = CompositeNoiseModel([model, ReadNoiseModel(1e-3)])
    weights = lenet_like_weights()
    sampled = [lipschitz_lambda(composed, weights=weights, seed=seed) for seed in range(3)]
    assert sampled == pytest.approx([lipschitz_lambda(model)] * 3, rel=0.1)


def test_lambda_of_additive_noise() -> None:
    """Noise of known size that does not depend on the weight: mu = 1, s = rms(noise) / rms(w)."""
    weights = {"a": torch.full((300, 300), 0.5) * torch.randn(300, 300).sign()}

    class Additive(LogNormalNoiseModel):
        multiplicative = False

        def apply_programming_noise(self, weights: Tensor) -> tuple[Tensor, list]:
            return weights + 0.1 * torch.randn_like(weights), [None]

    assert lipschitz_lambda(Additive(), weights=weights) == pytest.approx(1 / 1.6, rel=0.01)
    with pytest.raises(CnetError) as error:
        lipschitz_lambda(ReRamWan2022NoiseModel(g_max=40.0))
    assert error.value.value == "ReRamWan2022NoiseModel"
    with pytest.raises(CnetError) as error:
        lipschitz_lambda(Additive(), weights={"a": torch.zeros(3, 3)})
    assert (error.value.key, error.value.value) == ("lambda", 0.0)


class Branched(nn.Module):
    """Layers with a BatchNorm behind them, with something between, with two, and used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.direct = nn.Conv2d(1, 4, 3, padding=1)
        self.direct_bn = nn.BatchNorm2d(4)
        self.between = nn.Conv2d(4, 4, 3, padding=1)
        self.between_bn = nn.BatchNorm2d(4)
        self.twice = nn.Conv2d(4, 4, 1)
        self.twice_bn = nn.BatchNorm2d(4)
        self.torn = nn.Conv2d(4, 4, 1)
        self.torn_bn = nn.ModuleList([nn.BatchNorm2d(4), nn.BatchNorm2d(4)])
        self.sometimes = nn.Conv2d(4, 4, 1)
        self.sometimes_bn = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.direct_bn(self.direct(x))
        x = self.between_bn(self.between(x).relu())
        x = self.twice_bn(self.twice(x))
        x = self.twice_bn(self.twice(x))
        x = self.torn_bn[0](self.torn(x))
        x = self.torn_bn[1](self.torn(x))
        x = self.sometimes_bn(self.sometimes(x))
        return self.sometimes(x)


def test_following_batchnorms() -> None:
    model = convert_to_analog(Branched(), RRAMRPUConfig())
    model.train()
    found = following_batchnorms(model, torch.randn(2, 1, 5, 5))
    assert found == {"direct": model.direct_bn, "twice": model.twice_bn}
    assert model.training and model.direct_bn.num_batches_tracked == 0
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("inplace", [False, True])
def test_a_batchnorm_behind_an_activation_does_not_follow_the_layer(inplace: bool) -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(inplace=inplace), nn.BatchNorm2d(3),
        nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.ReLU(inplace=inplace),
    )  # fmt: skip
    model = convert_to_analog(network, RRAMRPUConfig())
    assert following_batchnorms(model, torch.randn(2, 1, 5, 5)) == {"3": model[4]}


def test_batchnorm_folded_in_counts_with_its_gain() -> None:
    torch.manual_seed(0)
    model = convert_to_analog(Branched(), RRAMRPUConfig())
    batchnorm = model.direct_bn
    with torch.no_grad():
        batchnorm.weight.uniform_(0.5, 2)
        batchnorm.running_var.uniform_(0.1, 3)
    penalty = LipschitzPenalty(
        model,
        0.34,
        exclude=["between", "twice", "torn", "sometimes"],
        batchnorms=following_batchnorms(model, torch.randn(2, 1, 5, 5)),
    )
    weight = nominal_weight(analog_layers(model)["direct"]).detach().clone().requires_grad_()
    gamma = batchnorm.weight.detach().clone().requires_grad_()
    gain = gamma / (batchnorm.running_var + batchnorm.eps).sqrt()
    expected = plain_penalty(nn.Identity(), torch.diag(gain) @ weight, 0.34)
    value = penalty()
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    value.backward()
    expected.backward()
    torch.testing.assert_close(batchnorm.weight.grad, gamma.grad)
    (parameter,) = [p for p in trainable_parameters(model.direct) if p.shape == weight.shape]
    torch.testing.assert_close(parameter.grad, weight.grad)
    norms = spectral_norms(model, {"direct": batchnorm})
    largest = torch.linalg.svdvals((torch.diag(gain) @ weight).detach())[0].item()
    assert norms["direct"] == pytest.approx(largest, rel=1e-5)


def layers_of_all_kinds(dtype: torch.dtype = torch.float32) -> nn.Module:
    """Linear, grouped and plain convolutions, one layer on several tiles, one with a BatchNorm."""
    config = RRAMRPUConfig(mapping=MappingParameter(max_input_size=18, max_output_size=8))
    modules = [make() for kind, make in LAYERS.items() if kind != "large"]
    modules += [nn.Linear(20, 12), nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)]
    model = convert_to_analog(nn.Sequential(*modules).to(dtype), config)
    with torch.no_grad():
        model[-1].weight.uniform_(0.5, 2)
        model[-1].running_var.uniform_(0.1, 3)
    return model


def gradients_of_a_loss(model: nn.Module, none: bool) -> None:
    """Leave gradients behind as a loss does; or none."""
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.grad = None if none else drawn.to(parameter.dtype)


def both_ways(model: nn.Module, penalty: LipschitzPenalty, weight: float, none: bool) -> list:
    """Value and gradients of autograd and of the method in place, at the same probes."""
    found = []
    for in_place in (False, True):
        gradients_of_a_loss(model, none)
        torch.manual_seed(11)
        if in_place:
            value = penalty.backward(weight)
            assert not value.requires_grad
        else:
            value = penalty()
            (weight * value).backward()
        grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        found.append((value.detach(), {name: grad.clone() for name, grad in grads.items()}))
    return found


def assert_same_both_ways(
    model: nn.Module, penalty: LipschitzPenalty, weight: float = 0.7, none: bool = False
) -> dict[str, Tensor]:
    """Compare them; return the gradients in place."""
    (value, expected), (in_place, found) = both_ways(model, penalty, weight, none)
    torch.testing.assert_close(in_place, value)
    assert in_place > 0
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    return found


@pytest.mark.parametrize("none", [False, True], ids=["added to", "none before"])
@pytest.mark.parametrize("probes", [None, 3])
@pytest.mark.parametrize("gram", ["matrix", "slices"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_in_place_are_those_of_autograd(
    dtype: torch.dtype, gram: str, probes: int | None, none: bool
) -> None:
    torch.manual_seed(0)
    model = layers_of_all_kinds(dtype)
    penalty = LipschitzPenalty(model, 0.34, batchnorms={"9": model[10]}, gram=gram, probes=probes)
    assert sum(len(layer.tiles()) > 1 for layer in penalty.layers.values()) >= 3
    found = assert_same_both_ways(model, penalty, none=none)
    gradients_of_a_loss(model, none=False)
    for name, parameter in model.named_parameters():
        if name.endswith("tile.weight") or name == "10.weight":
            assert found[name].dtype == dtype and not torch.equal(found[name], parameter.grad)
        else:
            assert (name in found) != none


@pytest.mark.parametrize("probes", [None, 2])
def test_a_gradient_in_place_twice_is_that_of_twice_the_weight(probes: int | None) -> None:
    model = analog(nn.Linear(6, 4))
    penalty = LipschitzPenalty(model, 0.34, probes=probes)
    weight = analog_layers(model)["0"].tiles()[0].tile.weight
    found = []
    for weights in ((0.5, 1.5), (2.0,), (0.0, 2.0)):
        weight.grad = torch.ones_like(weight)
        for each in weights:
            torch.manual_seed(0)
            penalty.backward(each)
        found.append(weight.grad)
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(found[2], found[1])


@pytest.mark.parametrize("probes", [None, 2])
def test_frozen_layers_keep_the_gradient_that_they_have(probes: int | None) -> None:
    torch.manual_seed(0)
    model = analog(nn.Linear(6, 4), nn.Linear(4, 5))
    penalty = LipschitzPenalty(model, 0.34, probes=probes)
    frozen = analog_layers(model)["0"].tiles()[0].tile.weight
    assert_same_both_ways(model, penalty)
    frozen.requires_grad_(False)
    found = assert_same_both_ways(model, penalty)
    gradients_of_a_loss(model, none=False)
    (name,) = [name for name, p in model.named_parameters() if p is frozen]
    assert torch.equal(found[name], frozen.grad)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    torch.manual_seed(11)
    value = penalty()
    torch.manual_seed(11)
    torch.testing.assert_close(penalty.backward(0.5), value)


@pytest.mark.parametrize("none", [False, True], ids=["added to", "none before"])
@pytest.mark.parametrize("probes", [None, 2])
def test_layers_that_share_a_weight_add_to_it_twice(probes: int | None, none: bool) -> None:
    torch.manual_seed(0)
    model = analog(nn.Linear(6, 4), nn.Linear(6, 4))
    shared = analog_layers(model)["0"].tiles()[0].tile.weight
    analog_layers(model)["1"].tiles()[0].tile.weight = shared
    penalty = LipschitzPenalty(model, 0.34, probes=probes)
    found = assert_same_both_ways(model, penalty, none=none)
    if probes is None:
        gradients_of_a_loss(model, none)
        before = torch.zeros_like(shared) if none else shared.grad
        shared.grad = None
        LipschitzPenalty(model, 0.34, exclude=["1"]).backward(2 * 0.7)
        torch.testing.assert_close(found["0.analog_module.tile.weight"], before + shared.grad)


@pytest.mark.parametrize("probes", [None, 2])
def test_autocast_around_it_changes_no_bit(probes: int | None) -> None:
    torch.manual_seed(0)
    model = layers_of_all_kinds()
    penalty = LipschitzPenalty(model, 0.34, batchnorms={"9": model[10]}, probes=probes)
    _, (value, plain) = both_ways(model, penalty, 0.7, none=False)
    with torch.autocast("cpu", torch.bfloat16):
        (_, by_autograd), (inside, found) = both_ways(model, penalty, 0.7, none=False)
    assert torch.equal(inside, value)
    for name, grad in plain.items():
        assert torch.equal(found[name], grad), name
        torch.testing.assert_close(by_autograd[name], grad)


def test_gradients_of_half_precision_are_not_added_to_in_place_but_by_autograd() -> None:
    torch.manual_seed(0)
    model = analog(nn.Linear(6, 4), nn.Linear(4, 5)).bfloat16()
    (_, expected), (_, found) = both_ways(model, LipschitzPenalty(model, 0.34), 0.7, none=False)
    for name, grad in expected.items():
        assert torch.equal(found[name], grad)
