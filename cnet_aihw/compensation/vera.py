"""VeRA: fixed random projections that all layers share, and two fitted vectors per layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from cnet_aihw.compensation.closed_form import rows_of
from cnet_aihw.compensation.corrector import Corrector, CorrectorCost, LayerShape
from cnet_aihw.compensation.modules import pooled
from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.runtime.typed import check_fields


@dataclass(frozen=True)
class Vera(Corrector):
    r"""Correct a layer's output by a random low-rank map with two fitted vectors.

    .. math:: y' = y + b \odot B (d \odot A x)

    A [m, in] and B [C, m] are drawn once from a seed, the same for all layers (each takes the first
    rows that it needs), and are not stored; d [m] and b [C] are fitted. x is averaged to the
    positions of y.

    Source: Kopiczko, Blankevoort and Asano, *VeRA: vector-based random matrix adaptation*, ICLR
    2024; on analog chips: arXiv 2603.26016.

    Raises:
        CnetError: if the seed is not a whole number of at least 0.
    """

    seed: int = 0
    """Seed of the projections."""

    def __post_init__(self) -> None:
        check_fields(self)
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise bad_value("corrector.seed", self.seed, "a whole number of at least 0")

    def label(self) -> str:
        """Return a short name, with the seed if it is not 0."""
        return "vera" + (f"({self.seed})" if self.seed else "")

    def build(self, shape: LayerShape, size: int) -> VeraModule:
        """Return the module, as the identity: b is 0."""
        return VeraModule(self, shape, size)

    def cost(self, shape: LayerShape, size: int) -> CorrectorCost:
        """Return m + C weights, and m (in + C) MACs per position."""
        x, y = shape.channels
        return CorrectorCost(size + y, size * (x + y))

    def shrink(self, module: nn.Module, size: int) -> dict[str, Tensor]:
        """Return d and the projections of the first filters."""
        parameters: dict[str, Tensor] = dict(module.named_parameters())
        buffers: dict[str, Tensor] = dict(module.named_buffers())
        return {
            "d": parameters["d"][:size],
            "b": parameters["b"],
            "down": buffers["down"][:size],
            "up": buffers["up"][:, :size],
        }


class VeraModule(nn.Module):
    """Projections and vectors of one layer.

    Args:
        corrector: settings.
        shape: shape of the layer.
        size: number of filters m, at least 1.
    """

    down: Tensor
    up: Tensor

    def __init__(self, corrector: Vera, shape: LayerShape, size: int) -> None:
        super().__init__()
        self.dims = shape.dims
        x, y = shape.channels
        self.d = nn.Parameter(torch.full((size,), 0.1))
        self.b = nn.Parameter(torch.zeros(y))
        # columns first, so that a smaller size has the same first filters
        self.register_buffer("down", _shared(corrector.seed, "down", size, x), persistent=False)
        self.register_buffer("up", _shared(corrector.seed, "up", size, y).T, persistent=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the corrected output, in the shape and type of y."""
        read = pooled(x, y, self.dims)
        rows = rows_of(read, self.dims).to(self.down.dtype)  # [positions, in]
        added = ((rows @ self.down.T) * self.d) @ self.up.T * self.b  # [positions, C]
        if self.dims == 0:
            return y + added.view_as(y).to(y.dtype)
        moved = added.view(*y.movedim(-1 - self.dims, -1).shape).movedim(-1, -1 - self.dims)
        return y + moved.to(y.dtype)


def _shared(seed: int, name: str, size: int, width: int) -> Tensor:
    """Return the first values of a shared random matrix, [size, width], uniform as in He et al."""
    rows = [
        np.random.default_rng(derive_seed(seed, name, number)).uniform(-1.0, 1.0, width)
        for number in range(size)
    ]
    return torch.from_numpy(np.stack(rows)).float() * (3.0 / width) ** 0.5
