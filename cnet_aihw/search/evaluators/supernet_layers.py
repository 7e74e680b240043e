"""A network whose layers share compensation: each training step takes another part of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from cnet_aihw.compensation import (
    DIGITAL,
    CompensatedLayer,
    CompensationVariant,
    Placement,
    compensate,
)
from cnet_aihw.compensation.shapes import filters, layer_shape
from cnet_aihw.compensation.wrapping import replace_module
from cnet_aihw.rram import LayerWrapper
from cnet_aihw.search.problem import TOLERANCE, Choice, PlacementProblem, Plan


class SwitchedLayer(LayerWrapper):
    """An analog layer that can be computed digitally.

    Attributes:
        choice: 0.0 for the crossbar, or ``"digital"``.
    """

    def __init__(self, base_layer: Any) -> None:
        super().__init__(base_layer)
        self.choice: Choice = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """Compute the layer as chosen."""
        if self.choice == DIGITAL:
            return self.base_layer.digital_forward(x)
        return self.base_layer(x)


class SharedLayer(CompensatedLayer):
    """An analog layer with a compensation of which the first filters are used, as chosen.

    Attributes:
        choice: a ratio up to the compensation's, or ``"digital"``.
    """

    def __init__(self, layer: CompensatedLayer) -> None:
        super().__init__(layer.base_layer, layer.compensation, layer.ratio)
        self.choice: Choice = layer.ratio

    def forward(self, x: Tensor) -> Tensor:
        """Compute the layer and correct its output, as chosen."""
        if isinstance(self.choice, str):
            return self.base_layer.digital_forward(x)
        y = self.base_layer(x)
        if self.choice == 0.0:
            return y
        count = filters(layer_shape(self.base_layer), self.choice)
        return functional_call(self.compensation, self.compensation.first_filters(count), (x, y))


def share_compensation(
    model: nn.Module, largest: Placement, variant: CompensationVariant, seed: int
) -> dict[str, SharedLayer | SwitchedLayer]:
    """Wrap layers so that each can be given any choice up to its largest.

    Args:
        model: converted model with nominal weights; changed in place.
        largest: layer -> largest ratio; 0 where only digital may be chosen, if anything.
        variant: how generators and compensators are built.
        seed: as in :func:`cnet_aihw.compensation.compensate`.

    Returns:
        Layer name -> its wrapper.
    """
    compensate(model, largest, variant, seed)
    wrappers: dict[str, SharedLayer | SwitchedLayer] = {}
    for name in largest:
        old = model.get_submodule(name)
        wrappers[name] = (
            SharedLayer(old) if isinstance(old, CompensatedLayer) else SwitchedLayer(old)
        )
        replace_module(model, old, wrappers[name])
    return wrappers


@contextmanager
def choices_drawn(
    model: nn.Module,
    wrappers: dict[str, SharedLayer | SwitchedLayer],
    problem: PlacementProblem,
    within_limit: bool,
) -> Iterator[None]:
    """Give every layer a new choice at each training forward inside the block."""

    def draw(module: nn.Module, inputs: Any) -> None:
        if not module.training:
            return
        for layer, choice in zip(problem.layers, draw_plan(problem, within_limit), strict=True):
            wrappers[layer.name].choice = problem.choices[choice]

    handle = model.register_forward_pre_hook(draw)
    try:
        yield
    finally:
        handle.remove()


def draw_plan(problem: PlacementProblem, within_limit: bool) -> Plan:
    """Draw a plan with some compensation from torch's global generator.

    First how many layers get anything, from one to all with equal chances, then which ones in
    random order; each gets one of its choices above 0 with equal chances, of those that still stay
    within the limit. So single layers, few and many are all seen.

    Args:
        problem: layers, choices, costs and limit; at least one ratio above 0 stays within it.
        within_limit: whether the limit counts.
    """
    while True:
        plan, used = [0] * len(problem.layers), 0.0
        count = 1 + _below(len(plan))
        for layer in torch.randperm(len(plan))[:count].tolist():
            costs = problem.costs[layer]
            fitting = [
                choice
                for choice in range(1, len(costs))
                if not within_limit or used + costs[choice] <= problem.limit + TOLERANCE
            ]
            if fitting:
                plan[layer] = fitting[_below(len(fitting))]
                used += costs[plan[layer]]
        # Digital layers alone leave nothing to fit.
        if any(choice and not isinstance(problem.choices[choice], str) for choice in plan):
            return tuple(plan)


def _below(number: int) -> int:
    return int(torch.randint(number, ()))
