"""Attention in which positive random features take the place of the softmax (Performer)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import check_count
from cnet_aihw.zoo.random_features import random_projection
from cnet_aihw.zoo.transformer import Attention

_LEAST = 1e-30
"""Least sum of weights; a query whose weights all vanish gets zeros."""


class PerformerAttention(Attention):
    """Self-attention by positive features of the softmax kernel, FAVOR+.

    Source: Choromanski et al. 2021, *Rethinking Attention with Performers*. Queries and keys of all
    heads pass one fixed random ``projection``, a linear layer as the others, so that conversion
    puts it on a crossbar. Features are exponentials of its outputs of both signs; factors that
    cancel in the normalisation keep them from overflowing. Causal attention costs the square of the
    length here, as the products of all pairs are masked.

    Args:
        width: numbers of a token.
        heads: heads, which divide the width.
        causal: whether a token sees only itself and what is before it.
        features: kind of projection: "rff", "orf" or "sorf".
        rows: rows of the projection; None: four times the width of a head.
        seed: seed of the projection.

    Raises:
        CnetError: for heads that do not divide the width, another kind, or sizes below 1.
    """

    @checked
    def __init__(
        self,
        width: int,
        heads: int,
        causal: bool = False,
        features: str = "orf",
        rows: int | None = None,
        seed: int = 0,
    ) -> None:
        check_count("width", width)
        check_count("heads", heads)
        if width % heads:
            raise bad_value("heads", heads, f"a divisor of the width {width}")
        super().__init__(width, heads, causal)
        size = width // heads
        weight = random_projection(features, size, 4 * size if rows is None else rows, seed)
        self.projection = nn.Linear(size, len(weight), bias=False)
        self.projection.weight = nn.Parameter(weight, requires_grad=False)

    @classmethod
    def from_digital(
        cls, module: Any, rpu_config: Any = None, tile_module_class: type | None = None
    ) -> PerformerAttention:
        """Return the module for a trained :class:`~cnet_aihw.zoo.transformer.Attention`.

        It has copies of its layers, and approximates what it computes: a converter for
        ``convert_to_analog(..., converters={"Attention": PerformerAttention})``.

        Args:
            module: the attention.
            rpu_config: not used.
            tile_module_class: not used.
        """
        made = cls(module.q.in_features, module.heads, module.causal).to(module.q.weight)
        made.load_state_dict({**made.state_dict(), **module.state_dict()})
        for name, parameter in module.named_parameters():
            made.get_parameter(name).requires_grad_(parameter.requires_grad)
        return made.train(module.training)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [B, T, width] -> [B, T, width]."""
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.q, self.k, self.v)
        )  # each [B, heads, T, size]
        left, right = self._features(q, (-1,)), self._features(k, (-2, -1))
        if self.causal:
            weights = torch.tril(left @ right.transpose(-2, -1))
            mixed = (weights @ v) / weights.sum(-1, keepdim=True).clamp_min(_LEAST)
        else:
            sums = right.sum(-2).unsqueeze(-1)  # [B, heads, features, 1]
            mixed = (left @ (right.transpose(-2, -1) @ v)) / (left @ sums).clamp_min(_LEAST)
        out: Tensor = self.o(mixed.transpose(1, 2).flatten(2))
        return out

    def _features(self, x: Tensor, largest_over: tuple[int, ...]) -> Tensor:
        """Return features [B, heads, T, 2 * rows], up to a factor that cancels.

        Args:
            x: queries or keys.
            largest_over: dimensions with one factor: of each query, or of all keys of a head.
        """
        x = x / math.sqrt(math.sqrt(x.shape[-1]))
        projected = self.projection(x)
        half = x.square().sum(-1, keepdim=True) / 2.0
        exponents = torch.cat([projected - half, -projected - half], -1)
        return torch.exp(exponents - exponents.amax(largest_over, keepdim=True).detach())
