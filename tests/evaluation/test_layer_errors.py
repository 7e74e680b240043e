"""Growth of the error through the layers: against plain torch and closed forms."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnet_aihw.evaluation import AllChipsFailed, error_growth
from cnet_aihw.rram import (
    LayerWrapper,
    LogNormalNoiseModel,
    RRAMRPUConfig,
    convert_to_analog,
    effective_weights,
    programmed,
    snapshot,
)
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.random_state import derive_seed


def network(sigma: float, *layers: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    inside = layers or (nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Linear(8, 3))
    config = RRAMRPUConfig(noise_model=LogNormalNoiseModel(sigma))
    return convert_to_analog(nn.Sequential(*inside), config)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(20, 6, generator=torch.Generator().manual_seed(1))


def test_it_is_the_error_that_plain_torch_finds(x: Tensor) -> None:
    model = network(0.5)
    before, state = snapshot(model), torch.get_rng_state()
    first, last = error_growth(model, x, chips=3, seed=7)
    biases = {name: model.get_submodule(name).get_weights()[1] for name in ("0", "2")}

    def outputs() -> list[Tensor]:
        weights = effective_weights(model)
        hidden = F.linear(x, weights["0"], biases["0"])
        return [hidden, F.linear(hidden.relu(), weights["2"], biases["2"])]

    clean, wanted = outputs(), []
    for chip in range(3):
        with programmed(model, derive_seed(7, chip)):
            wanted.append(
                [
                    ((noisy - y).norm() / y.norm()).item()
                    for noisy, y in zip(outputs(), clean, strict=True)
                ]
            )
    for index, found in enumerate((first, last)):
        errors = [chip[index] for chip in wanted]
        assert found.mean == pytest.approx(sum(errors) / 3, rel=1e-4)
        assert (found.low, found.high) == pytest.approx((min(errors), max(errors)), rel=1e-4)
        assert (found.index, found.chips, found.samples) == (index, 3, 20)
    assert [first.layer, last.layer] == ["0", "2"]
    # and no trace is left
    assert all(torch.equal(before[name], tensor) for name, tensor in snapshot(model).items())
    assert torch.equal(torch.get_rng_state(), state)


def test_without_variation_there_is_none(x: Tensor) -> None:
    assert [(e.mean, e.high) for e in error_growth(network(0.0), x, chips=2)] == [(0.0, 0.0)] * 2


class Twice(LayerWrapper):
    """Doubles what its layer gives."""

    enabled = True

    def forward(self, x: Tensor) -> Tensor:
        return (2.0 if self.enabled else 1.0) * self.base_layer(x)


@contextmanager
def as_it_was(model: nn.Module) -> Iterator[None]:
    model[0].enabled = False
    yield
    model[0].enabled = True


def test_what_stands_beside_a_layer_counts_against_the_network_without_it(x: Tensor) -> None:
    model = network(0.0)
    model[0] = Twice(model[0])
    assert [e.mean for e in error_growth(model, x)] == [0.0, 0.0]
    errors = error_growth(model, x, reference=as_it_was)
    assert errors[0].layer == "0"
    assert errors[0].mean == pytest.approx(1.0)  # |2 y - y| / |y|
    assert errors[1].mean > 0.0


class Odd(nn.Module):
    """A layer called twice, one that is never called, one that gives zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.never, self.twice = nn.Linear(6, 6), nn.Linear(6, 6)
        self.zeros = nn.Linear(6, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.zeros(torch.zeros_like(self.twice(self.twice(x))))


def test_a_layer_without_outputs_to_compare_has_no_row(x: Tensor) -> None:
    model = network(0.5, Odd()).eval().requires_grad_(False)
    (only,) = error_growth(model, x, chips=1)
    assert only.layer == "0.twice"
    with programmed(model, derive_seed(0, 0)):
        first = model[0].twice(x)
        noisy = torch.cat([first, model[0].twice(first)])
    first = model[0].twice(x)
    clean = torch.cat([first, model[0].twice(first)])
    assert only.mean == pytest.approx(((noisy - clean).norm() / clean.norm()).item(), rel=1e-5)


@pytest.mark.parametrize(("chips", "inputs", "key"), [(0, 20, "chips"), (1, 0, "inputs")])
def test_nothing_to_measure_is_an_error(x: Tensor, chips: int, inputs: int, key: str) -> None:
    with pytest.raises(CnetError) as error:
        error_growth(network(0.5), x[:inputs], chips=chips)
    assert (error.value.key, error.value.value) == (key, 0)


class InfiniteChip(LogNormalNoiseModel):
    """Chip 0 has weights that are not finite."""

    def sample_factor(self, weights: Tensor) -> Tensor:
        factor = super().sample_factor(weights)
        if not hasattr(self, "_drawn"):
            self._drawn = True
            factor *= float("inf")
        return factor


def test_chips_without_finite_outputs_are_left_out(x: Tensor) -> None:
    expected = error_growth(network(0.5), x, chips=3)
    found = error_growth(network(0.5), x, chips=3, noise_model=InfiniteChip(0.5))
    assert [(e.chips, e.failed) for e in found] == [(2, 1), (2, 1)]
    assert all(e.mean <= full.high for e, full in zip(found, expected, strict=True))
    with pytest.raises(AllChipsFailed):
        error_growth(network(200.0), x, chips=2)


def test_inputs_may_be_keywords(x: Tensor) -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 4), nn.Linear(6, 4)

        def forward(self, first: Tensor, second: Tensor) -> Tensor:
            return self.a(first) + self.b(second)

    torch.manual_seed(0)
    model = convert_to_analog(Sum(), RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.5)))
    by_name = error_growth(model, {"first": x, "second": 2 * x}, chips=2)
    assert [e.layer for e in by_name] == ["a", "b"]
    assert error_growth(model, (x, 2 * x), chips=2) == by_name


class Again(nn.Module):
    """Calls its layer once more where outputs are small, which they are not on every chip."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.layer, self.limit = nn.Linear(4, 4, bias=False), limit

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        return self.layer(x) if x.abs().mean() < self.limit else x


@pytest.mark.parametrize("clean_calls", [1, 2])
def test_calls_that_only_one_of_both_makes_are_left_out(clean_calls: int) -> None:
    torch.manual_seed(0)
    x, net = torch.randn(6, 4), Again(0.0)
    level = net.layer(x).abs().mean().item()
    net.limit = level * (0.999 if clean_calls == 1 else 1.001)
    model = convert_to_analog(net, RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.4)))
    (row,) = error_growth(model, x, chips=8)
    errors, chip_calls = [], set()
    for chip in range(8):
        with programmed(model, derive_seed(0, chip)), torch.no_grad():
            weight = effective_weights(model)["layer"]
        wanted, found = x @ net.layer.weight.T, x @ weight.T
        both = [(wanted, found)]
        chip_calls.add(2 if found.abs().mean() < net.limit else 1)
        if clean_calls == 2 and found.abs().mean() < net.limit:
            both.append((wanted @ net.layer.weight.T, found @ weight.T))
        apart, norm = (sum(t.square().sum() for t in ts) for ts in
                       ([f - w for w, f in both], [w for w, _ in both]))  # fmt: skip
        errors.append(float((apart / norm).sqrt()))
    assert chip_calls == {1, 2}
    assert (row.low, row.high) == pytest.approx((min(errors), max(errors)), rel=1e-4)


class Routed(nn.Module):
    """Samples of which a layer says so go through another one, where there are any."""

    def __init__(self, offset: float) -> None:
        super().__init__()
        self.gate, self.expert, self.offset = nn.Linear(6, 6), nn.Linear(6, 6), offset

    def forward(self, x: Tensor) -> Tensor:
        y = self.gate(x)
        chosen = y.sum(1) > self.offset
        if chosen.any():
            y[chosen] = self.expert(y[chosen])
        return y


@pytest.mark.parametrize("called", ["some samples", "two samples", "on chips alone"])
def test_layers_that_are_given_other_samples_on_chips_have_no_row(called: str, x: Tensor) -> None:
    torch.manual_seed(0)
    net = Routed(0.0).eval()
    sums = net.gate(x).sum(1).sort(descending=True).values
    net.offset = {"some samples": 0.0, "two samples": float(sums[:2].mean())}.get(
        called, float(sums[0]) + 1e-3
    )
    model = convert_to_analog(net, RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.5)))
    (row,) = error_growth(model, x, chips=6)
    errors, bias = [], net.gate.bias
    wanted = net.gate(x)
    for chip in range(6):
        with programmed(model, derive_seed(0, chip)), torch.no_grad():
            found = F.linear(x, effective_weights(model)["gate"], bias)
        errors.append(float((found - wanted).norm() / wanted.norm()))
    assert row.layer == "gate" and row.chips == 6
    assert (row.low, row.high) == pytest.approx((min(errors), max(errors)), rel=1e-4)
