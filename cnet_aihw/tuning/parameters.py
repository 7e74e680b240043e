"""Parts of a network that are tuned, by kind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from cnet_aihw.compensation import compensation_parameters
from cnet_aihw.rram import trainable_parameters
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.tuning.chip import rram_layers


def trained_names(model: nn.Module) -> list[str]:
    """Return the names of the parameters that may be tuned; those that are frozen stay so."""
    chosen = {id(parameter) for parameter in trainable_parameters(model)}
    return [name for name, parameter in model.named_parameters() if id(parameter) in chosen]


class TunedParts:
    """The parameters of a network by kind; those that are frozen stay so.

    Scales that a tile has learned for its outputs belong to the weights that are written. Ranges of
    its inputs are those of the chip's converters, and stay as they are.

    Args:
        model: a network of RRAM layers, perhaps with correctors.
        tune: a word of ``TuningSettings.tune``.

    Attributes:
        weights: layer -> weights on crossbars that may be tuned.
        digital: all others that may be tuned.

    Raises:
        CnetError: where there is nothing to tune.
    """

    def __init__(self, model: nn.Module, tune: str) -> None:
        self.model = model
        self.weights: dict[str, list[nn.Parameter]] = {
            name: [
                parameter
                for tile in layer.tiles()
                for parameter in (tile.tile.weight, tile.out_scaling_alpha)
                if parameter is not None and parameter.requires_grad
            ]
            for name, layer in rram_layers(model).items()
        }
        on_crossbars = {id(p) for found in self.weights.values() for p in found}
        tiles = [tile for layer in rram_layers(model).values() for tile in layer.tiles()]
        on_crossbars |= {id(tile.input_range) for tile in tiles}
        correctors = {id(p) for p in compensation_parameters(model).values()}
        others = [p for p in trainable_parameters(model) if id(p) not in on_crossbars]
        if tune == "correctors":
            self.digital = [p for p in others if id(p) in correctors]
        elif tune == "digital":
            self.digital = [p for p in others if id(p) not in correctors]
        else:
            self.digital = others
        if tune in ("digital", "correctors"):
            self.weights = {name: [] for name in self.weights}
        if not self.digital and not any(self.weights.values()):
            fix = "call compensate(model, placement, LowRank()) first"
            raise CnetError(
                f"the network has nothing to tune with tune={tune}"
                + (f"; {fix}." if tune == "correctors" else "; give another tune."),
                key="tune",
                value=tune,
                expected="parameters that require a gradient",
                fix=fix if tune == "correctors" else "give another tune",
            )

    def all(self) -> list[nn.Parameter]:
        """Return all of them."""
        return [*(p for found in self.weights.values() for p in found), *self.digital]

    @contextmanager
    def alone(self, parameters: list[nn.Parameter]) -> Iterator[None]:
        """Let only these require gradients inside the block."""
        chosen = {id(p) for p in parameters}
        frozen = [p for p in trainable_parameters(self.model) if id(p) not in chosen]
        for parameter in frozen:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in frozen:
                parameter.requires_grad_(True)
            for parameter in (*frozen, *parameters):
                parameter.grad = None
