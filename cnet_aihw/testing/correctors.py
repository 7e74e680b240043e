"""The contract of correctors."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cnet_aihw.compensation import (
    Corrector,
    LayerShape,
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
from cnet_aihw.testing.promises import check_copies, promise, promised

LAYERS = {
    "linear": (lambda: nn.Linear(12, 10), (4, 12)),
    "tokens": (lambda: nn.Linear(12, 10), (4, 5, 12)),
    "conv1d": (lambda: nn.Conv1d(4, 10, 3), (4, 4, 9)),
    "conv2d": (lambda: nn.Conv2d(4, 10, 3, stride=2, padding=1), (4, 4, 9, 9)),
    "grouped": (lambda: nn.Conv2d(4, 8, 3, groups=2), (4, 4, 7, 7)),
}

_CONVERTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Classes that a conversion puts on crossbars."""


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
    check_copies(corrector, lambda one: (one.label(), one.describe()))
    _check_labels(corrector)
    for name, (build, shape) in LAYERS.items():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layer, x = build(), torch.randn(shape)
        for size in (corrector.smallest, 2, 4) if corrector.sized else (None,):
            _check_beside(corrector, layer, x, name, size)


def _check_labels(corrector: Any) -> None:
    """Check that the label tells numbers among the settings apart."""
    for field in fields(corrector):
        value = getattr(corrector, field.name)
        if field.init and isinstance(value, int | float):
            with suppress(ValueError, TypeError):  # it takes no such number
                other = replace(corrector, **{field.name: type(value)(not value or value + 1)})
                promise(
                    other == corrector or other.label() != corrector.label(),
                    corrector,
                    f"label() is another one for another {field.name}",
                )


def _check_beside(
    corrector: Corrector, beside: nn.Module, x: Tensor, name: str, size: int | None
) -> None:
    model = convert_to_analog(nn.Sequential(beside), RRAMRPUConfig()).eval()
    cost = network_cost(model, x[:1])
    (layer,) = cost.layers
    placement = Placement({layer: 1.0 if size is None else f"size {size}"})
    before, state = model(x), snapshot(model)
    weights = sum(p.numel() for p in model.parameters())
    where = f"beside {name}" + ("" if size is None else f" with {size} filters")
    shape, m = layer_shape(beside), size or 0
    if corrector.on_crossbar:
        _check_module(corrector, shape, m, x, before.detach(), where)
    compensate(model, placement, corrector)
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
    if corrector.on_crossbar and corrector.sized and m > 1:
        _check_smaller(corrector, shape, m, x, before.detach(), where)


def _check_module(
    corrector: Corrector, shape: LayerShape, size: int, x: Tensor, y: Tensor, where: str
) -> None:
    """Check what the module does once it is fitted, here to random numbers."""
    module = _fitted(corrector, shape, size)
    plain = [type(part).__name__ for part in module.modules() if type(part) in _CONVERTED]
    promise(
        not plain,
        corrector,
        f"its layers are those of cnet_aihw.compensation.modules, as {', '.join(plain)} would be "
        f"put on crossbars, {where}",
    )
    given = x.clone(), y.clone()
    with torch.no_grad(), promised(corrector, f"corrects an output, {where}"):
        found, again, one = module(*given), module(*given), module(x[:1], y[:1])
    promise(
        torch.equal(given[0], x) and torch.equal(given[1], y),
        corrector,
        f"leaves the layer's input and output as they are, {where}",
    )
    promise(
        found.shape == y.shape and found.dtype == y.dtype,
        corrector,
        f"gives the output in its shape and type ({y.dtype} {tuple(y.shape)}), {where}",
    )
    promise(torch.equal(found, again), corrector, f"gives the same output again, {where}")
    promise(
        torch.allclose(found[:1], one, atol=1e-5),
        corrector,
        f"corrects each sample by itself, whatever else is in the batch, {where}",
    )
    promise(not torch.equal(found, y), corrector, f"corrects, once it is fitted, {where}")
    loss = module(x, y).square().sum()
    trained = {n: p for n, p in module.named_parameters() if p.requires_grad}
    grads = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
    idle = [n for n, g in zip(trained, grads, strict=True) if g is None]
    promise(not idle, corrector, f"uses all its weights, not so {', '.join(idle)}, {where}")
    channels = shape.out_channels
    positions = y[0].numel() // channels
    claimed = corrector.cost(shape, size).macs * positions
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(x[:1], y[:1])
    counted = counter.get_total_flops() // 2
    promise(
        claimed == counted,
        corrector,
        f"cost() names the MACs of the module's matrix products and convolutions ({claimed} and "
        f"{counted} a sample), {where}",
    )


def _check_smaller(
    corrector: Corrector, shape: LayerShape, size: int, x: Tensor, y: Tensor, where: str
) -> None:
    """Check the parameters of a smaller module within a larger one."""
    m = max(corrector.smallest, 1)
    module, smaller = _fitted(corrector, shape, size), corrector.build(shape, m).eval()
    views = corrector.shrink(module, m)
    wanted = dict(smaller.named_parameters())
    promise(
        wanted.keys() <= views.keys() and all(views[n].shape == p.shape for n, p in wanted.items()),
        corrector,
        f"shrink() gives the parameters of the smaller one, {where}",
    )
    held = {p.untyped_storage().data_ptr() for p in module.parameters()}
    promise(
        all(views[n].untyped_storage().data_ptr() in held for n in wanted),
        corrector,
        f"shrink() gives views of the larger one's parameters, not copies, {where}",
    )
    with torch.no_grad(), promised(corrector, f"computes with what shrink() gives, {where}"):
        for name, parameter in wanted.items():
            parameter.copy_(views[name])
        cut = torch.func.functional_call(module, views, (x, y))
        promise(
            torch.allclose(cut, smaller(x, y), atol=1e-5),
            corrector,
            f"shrink() gives what a smaller one with these numbers computes, {where}",
        )


def _fitted(corrector: Corrector, shape: LayerShape, size: int) -> nn.Module:
    module = corrector.build(shape, size).eval()
    generator = torch.Generator().manual_seed(6)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return module
