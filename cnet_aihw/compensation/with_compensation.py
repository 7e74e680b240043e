"""The calibration that puts correctors into a plain network, fits them, and takes them out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from torch import nn

from cnet_aihw.compensation.corrector import Corrector, layer_shape
from cnet_aihw.compensation.digital import Digital
from cnet_aihw.compensation.per_chip import FitCost, PerChipFit
from cnet_aihw.compensation.placement import DIGITAL, Placement
from cnet_aihw.compensation.wrapping import (
    compensate,
    compensation_parameters,
    remove_compensation,
)
from cnet_aihw.rram import analog_layers
from cnet_aihw.runtime.fingerprint import text_fingerprint
from cnet_aihw.runtime.typed import checked


class WithCompensation:
    """Measure a plain network as it will be used: with correctors, fitted to the chip (ours).

    A calibration for training, search and evaluation. Inside the block the correctors of a
    placement stand beside their layers and are fitted to the programmed chip; afterwards, also
    after an exception, the network is the same as before, bit for bit: modules, parameters,
    buffers and hooks. Without a chip the correctors are fitted to the nominal network.

    Args:
        placement: layer -> ratio, or ``"digital"``.
        corrector: kind of corrector of the layers with a ratio.
        fit: what fits them to the chip; a placement with digital layers alone needs none of it.
    """

    @checked
    def __init__(self, placement: Placement, corrector: Corrector, fit: PerChipFit) -> None:
        self.placement, self.corrector, self.fit = placement, corrector, fit

    def __call__(self, model: nn.Module) -> AbstractContextManager[None]:
        """Compensate and fit inside a block.

        Raises:
            CnetError: if the placement does not fit the model, or it is compensated already.
        """
        return self._compensated(model)

    def label(self) -> str:
        """Return a short name for tables and records."""
        chosen = [ratio for ratio in self.placement.values() if ratio != 0.0]
        digital = chosen.count(DIGITAL)
        parts = [f"{self.corrector.label()} at {len(chosen) - digital} layers"]
        if digital:
            parts = [*(parts if len(chosen) > digital else []), f"digital at {digital} layers"]
        return ", ".join([*parts, self.fit.label()])

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of placement, corrector and fit."""
        described = sorted(self.corrector.describe().items())
        placed = sorted(self.placement.items())
        return text_fingerprint([str(placed), str(described), self.fit.fingerprint()])

    def cost(self, model: nn.Module) -> int:
        """Return the digital weights of the correctors, and those of digital layers."""
        layers: Any = analog_layers(model)
        weights = 0
        for name, ratio in self.placement.items():
            shape = layer_shape(layers[name])
            if ratio == DIGITAL:
                weights += Digital().cost(shape, 0).weights
            elif ratio != 0.0:
                size = self.corrector.size(shape, ratio)
                weights += self.corrector.cost(shape, size).weights
        return weights

    @property
    def spent(self) -> FitCost | None:
        """Cost of the chip that was fitted last."""
        return self.fit.spent

    @contextmanager
    def _compensated(self, model: nn.Module) -> Iterator[None]:
        compensate(model, self.placement, self.corrector)
        try:
            if compensation_parameters(model):
                with self.fit(model):
                    yield
            else:
                yield
        finally:
            remove_compensation(model)
