"""Layers of a supernet: each training step takes another part of the correctors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from cnet_aihw.compensation import (
    DIGITAL,
    CompensatedLayer,
    Corrector,
    Placement,
    compensate,
    layer_shape,
)
from cnet_aihw.compensation.wrapping import replace_modules
from cnet_aihw.rram import LayerWrapper, find_module
from cnet_aihw.search.problem import Choice, Encoding, PlacementProblem


class SwitchedLayer(LayerWrapper):
    """Analog layer that can be computed digitally.

    Attributes:
        choice: 0.0 for the crossbar, or ``"digital"``.
    """

    def __init__(self, base_layer: Any) -> None:
        super().__init__(base_layer)
        self.choice: Choice = 0.0

    def forward(self, x: Tensor, output_size: Any = None) -> Tensor:
        """Compute the layer as chosen."""
        compute = self.digital_output if self.choice == DIGITAL else self.base_output
        return compute(x, output_size)


class SupernetLayer(CompensatedLayer):
    """Analog layer with the largest corrector, of which any smaller one can be chosen.

    Attributes:
        choice: a ratio or size up to that of the largest corrector, or ``"digital"``.
    """

    def __init__(self, layer: CompensatedLayer) -> None:
        super().__init__(layer.base_layer, layer.corrector, layer.corrector_module, layer.ratio)
        self.choice: Choice = layer.ratio

    @property
    def on_crossbar(self) -> bool:
        """Whether the layer computes on a crossbar, for some choices at least."""
        return True

    def forward(self, x: Tensor, output_size: Any = None) -> Tensor:
        """Compute the layer and correct its output, as chosen."""
        if self.choice == DIGITAL:
            return self.digital_output(x, output_size)
        y = self.base_output(x, output_size)
        if self.choice == 0.0 or not self.enabled:
            return y
        size = self.corrector.size(layer_shape(self.base_layer), self.choice)
        parameters = self.corrector.shrink(self.corrector_module, size)
        corrected: Tensor = functional_call(self.corrector_module, parameters, (x, y))
        return corrected


SupernetLayers = Mapping[str, SupernetLayer | SwitchedLayer]
"""Layer name -> its wrapper."""


def build_supernet(
    model: nn.Module, largest: Placement, corrector: Corrector, seed: int
) -> SupernetLayers:
    """Wrap layers so that each can be given any choice up to its largest.

    Args:
        model: converted model; changed in place.
        largest: layer -> largest ratio; 0 if only digital may be chosen, if anything.
        corrector: kind of corrector.
        seed: as in :func:`cnet_aihw.compensation.compensate`.

    Returns:
        Layer name -> its wrapper.
    """
    compensate(model, largest, corrector, seed)
    layers = {name: find_module(model, name) for name in largest}
    wrappers: dict[str, SupernetLayer | SwitchedLayer] = {
        name: SupernetLayer(old) if isinstance(old, CompensatedLayer) else SwitchedLayer(old)
        for name, old in layers.items()
    }
    replace_modules(model, {layers[name]: wrapper for name, wrapper in wrappers.items()})
    return wrappers


@contextmanager
def choices_drawn(
    model: nn.Module,
    wrappers: SupernetLayers,
    problem: PlacementProblem,
    within_limit: bool,
) -> Iterator[None]:
    """Give every layer a new choice at each training forward inside the block."""

    def draw(module: nn.Module, inputs: Any) -> None:
        if not module.training:
            return
        for layer, choice in zip(problem.layers, draw_encoding(problem, within_limit), strict=True):
            wrappers[layer.name].choice = problem.choices[choice]

    handle = model.register_forward_pre_hook(draw)
    try:
        yield
    finally:
        handle.remove()


def draw_encoding(problem: PlacementProblem, within_limit: bool) -> Encoding:
    """Draw an encoding with some compensation from torch's global generator.

    First the number of layers that get anything, from one to all with equal chances, then which
    ones in random order; each gets one of its choices above 0 with equal chances, of those that
    still stay within the limit. So single layers, few and many are all seen.

    Args:
        problem: layers, choices, costs and limits; at least one ratio above 0 stays within them.
        within_limit: whether the limits count.
    """
    while True:
        encoding = [0] * len(problem.layers)
        count = 1 + _below(len(encoding))
        for layer in torch.randperm(len(encoding))[:count].tolist():
            fits = problem.within(encoding, layer)
            fitting = [c for c in range(1, len(fits)) if not within_limit or fits[c]]
            if fitting:
                encoding[layer] = fitting[_below(len(fitting))]
        # Digital layers alone leave nothing to fit.
        if any(choice and problem.choices[choice] != DIGITAL for choice in encoding):
            return tuple(encoding)


def _below(number: int) -> int:
    return int(torch.randint(number, ()))
