"""The contract of correctors."""

from __future__ import annotations

import json

import torch
from torch import nn

from cnet_aihw.compensation import (
    Corrector,
    Placement,
    compensate,
    compensation_cost,
    compensation_parameters,
    corrector_from,
    network_cost,
    remove_compensation,
)
from cnet_aihw.compensation.corrector import layer_shape
from cnet_aihw.rram import RRAMRPUConfig, convert_to_analog, snapshot
from cnet_aihw.testing.promises import promise

LAYERS = {
    "linear": (lambda: nn.Linear(12, 10), (4, 12)),
    "tokens": (lambda: nn.Linear(12, 10), (4, 5, 12)),
    "conv1d": (lambda: nn.Conv1d(4, 10, 3), (4, 4, 9)),
    "conv2d": (lambda: nn.Conv2d(4, 10, 3, stride=2, padding=1), (4, 4, 9, 9)),
    "grouped": (lambda: nn.Conv2d(4, 8, 3, groups=2), (4, 4, 7, 7)),
}


def check_corrector(corrector: Corrector) -> None:
    """Check that a corrector works beside all kinds of layers, and costs what it says.

    Args:
        corrector: the corrector.

    Raises:
        AssertionError: names the promise that is not kept.
    """
    described = corrector.describe()
    promise(json.loads(json.dumps(described)) == described, corrector, "describe() is plain values")
    promise(corrector_from(described) == corrector, corrector, "describe() rebuilds it")
    promise(bool(corrector.label()), corrector, "label() is a short text")
    for name, (build, shape) in LAYERS.items():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layer, x = build(), torch.randn(shape)
        for size in (corrector.smallest, 2, 4) if corrector.sized else (None,):
            _check_beside(corrector, layer, x, name, size)


def _check_beside(
    corrector: Corrector, beside: nn.Module, x: torch.Tensor, name: str, size: int | None
) -> None:
    model = convert_to_analog(nn.Sequential(beside), RRAMRPUConfig()).eval()
    cost = network_cost(model, x[:1])
    (layer,) = cost.layers
    placement = Placement({layer: 1.0 if size is None else f"size {size}"})
    before, state = model(x), snapshot(model)
    weights = sum(p.numel() for p in model.parameters())
    compensate(model, placement, corrector)
    where = f"beside {name}" + ("" if size is None else f" with {size} filters")
    promise(torch.equal(model(x), before), corrector, f"changes no output at first, {where}")
    claimed = sum(compensation_cost(cost, placement, corrector).weights.values())
    if corrector.on_crossbar:
        added = sum(p.numel() for p in model.parameters()) - weights
        promise(
            claimed == added,
            corrector,
            f"cost() names the weights that build() adds ({claimed} and {added}), {where}",
        )
        promise(bool(compensation_parameters(model)), corrector, f"has something to fit, {where}")
        model(x).square().sum().backward()
        grads = [p.grad for p in compensation_parameters(model).values()]
        promise(
            any(g is not None and bool(g.abs().sum() > 0) for g in grads),
            corrector,
            f"has gradients, {where}",
        )
    remove_compensation(model)
    after = snapshot(model)
    promise(torch.equal(model(x), before), corrector, f"can be taken out, {where}")
    promise(all(torch.equal(state[n], after[n]) for n in state), corrector, f"keeps W, {where}")
    if corrector.sized and corrector.on_crossbar and size is not None and size > 1:
        shape = layer_shape(beside)
        module = corrector.build(shape, size)
        smaller = corrector.build(shape, max(corrector.smallest, 1))
        views = corrector.shrink(module, max(corrector.smallest, 1))
        promise(
            all(views[n].shape == v.shape for n, v in smaller.named_parameters() if n in views)
            and dict(smaller.named_parameters()).keys() <= views.keys(),
            corrector,
            f"shrink() gives the parameters of the smaller one, {where}",
        )
