"""Networks put together at random: what conversion and chips promise holds for each of them."""

from __future__ import annotations

import copy
import random
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cnet_aihw.compensation import network_cost
from cnet_aihw.rram import (
    LogNormalNoiseModel,
    RRAMRPUConfig,
    analog_layers,
    clear_chip,
    convert_to_analog,
    convert_to_digital,
    effective_weights,
    program,
)
from cnet_aihw.rram.called import called_layers

WIDTH = 4
NAMES = ["module", "_orig_mod", "tile", "base_layer", "fc", "layers", "x", "head_0"]
HOLDERS = ["children", "list", "tuple", "dict", "partials", "methods", "closures"]
X = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    """Children that are called one after the other through a holder of some kind."""

    def __init__(self, children: list[nn.Module], names: list[str], holder: str) -> None:
        super().__init__()
        for name, child in zip(names, children, strict=True):
            self.add_module(name, child)
        self.names, self.holder = names, holder
        steps = [child.forward if holder == "methods" else child for child in children]
        if holder == "partials":
            steps = [partial(child) for child in children]
        if holder == "closures":
            steps = [lambda x, child=child: child(x) for child in children]
        kinds: dict[str, Any] = {"tuple": tuple, "dict": lambda s: dict(enumerate(s))}
        self.steps = [] if holder == "children" else kinds.get(holder, list)(steps)

    def forward(self, x: Tensor) -> Tensor:
        steps = self.steps or [getattr(self, name) for name in self.names]
        for number in range(len(steps)):
            x = torch.tanh(steps[number](x))
        return x


class Pointwise(nn.Module):
    """A convolution on a row of one channel a feature."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.conv = nn.Conv1d(WIDTH, WIDTH, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.unsqueeze(-1)).squeeze(-1)


class Twice(nn.Linear):
    """A subclass, which stays digital."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Maker:
    """Makes a network, and counts by hand what it costs."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.made: list[tuple[nn.Module, int]] = []  # layers, and MACs of one call
        self.weights = 0
        self.closures = False

    def network(self) -> tuple[nn.Module, int]:
        """Return a network with at least one layer for a crossbar, and its MACs."""
        block, macs = self.block(3)
        last, one = self.layer(plain=True)
        return Block([block, last], ["body", "last"], "children"), macs + one

    def block(self, depth: int) -> tuple[nn.Module, int]:
        rng = self.rng
        count = rng.randint(1, 3)
        parts = [
            self.block(depth - 1) if depth and rng.random() < 0.4 else self.layer()
            for _ in range(count)
        ]
        children = [child for child, _ in parts]
        macs = sum(cost for _, cost in parts)
        if rng.random() < 0.3:
            return nn.Sequential(*children), macs
        holder = rng.choice(HOLDERS)
        self.closures |= holder == "closures"
        block: nn.Module = Block(children, rng.sample(NAMES, count), holder)
        if rng.random() < 0.2:
            block = nn.DataParallel(block)
        return block, macs

    def layer(self, plain: bool = False) -> tuple[nn.Module, int]:
        rng = self.rng
        if self.made and not plain and rng.random() < 0.25:
            return rng.choice(self.made)  # shared
        bias = rng.random() < 0.5
        self.weights += WIDTH * WIDTH + bias * WIDTH
        kind = "linear" if plain else rng.choice(["linear", "linear", "conv", "subclass"])
        layer: nn.Module = nn.Linear(WIDTH, WIDTH, bias)
        if kind == "conv":
            layer = Pointwise(bias)
        elif kind == "subclass":
            layer = Twice(WIDTH, WIDTH, bias)
        if rng.random() < 0.3:
            layer.register_forward_hook(lambda _, __, y: 0.5 * y)
        self.made.append((layer, WIDTH * WIDTH))
        return self.made[-1]


def convert(net: nn.Module, sigma: float, inplace: bool) -> nn.Module:
    config = RRAMRPUConfig(noise_model=LogNormalNoiseModel(sigma))
    return convert_to_analog(net, config, inplace=inplace)


def check(rng: random.Random) -> None:
    torch.manual_seed(rng.randrange(2**31))
    maker = Maker(rng)
    net, macs = maker.network()
    net.eval()
    with torch.no_grad():
        wanted = net(X)
        inplace = maker.closures or rng.random() < 0.5
        model = convert(net, 0.5, inplace)
        layers = list(analog_layers(model))
        assert len(layers) == len(model.conversion_report.analog)
        costs = network_cost(model, X)
        assert (costs.macs, costs.weights) == (macs, maker.weights)
        with called_layers(model) as called:
            assert torch.equal(model(X), wanted)
        assert called == set(layers)
        nominal = effective_weights(model)
        program(model, 1)
        chip = model(X)
        assert not any(torch.equal(w, nominal[n]) for n, w in effective_weights(model).items())
        for name in layers:
            program(model, 1, layers=[name])
            assert not torch.equal(model(X), wanted)
        program(model, 2)
        program(model, 1)
        assert torch.equal(model(X), chip)
        clear_chip(model)
        assert torch.equal(model(X), wanted)
        program(model, 1, LogNormalNoiseModel(0.0))
        assert torch.equal(model(X), wanted)
        clear_chip(model)
        if not maker.closures:
            twin = copy.deepcopy(model)
            program(twin, 1)
            assert torch.equal(twin(X), chip)
        digital = convert_to_digital(model, inplace=maker.closures)
        assert torch.equal(digital(X), wanted)


@given(st.randoms(use_true_random=False))
@settings(max_examples=15, deadline=None, derandomize=True, database=None)
@pytest.mark.filterwarnings("ignore:only .* of the weights")
def test_promises_hold_for_any_network(rng):
    check(rng)


@pytest.mark.slow
@given(st.integers(0, 2**31))
@settings(max_examples=200, deadline=None, database=None)
@pytest.mark.filterwarnings("ignore:only .* of the weights")
def test_promises_hold_for_many_networks(seed):
    check(random.Random(seed))
