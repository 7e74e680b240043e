"""Attention with a crossbar for each of its four projections."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from cnet_aihw.rram.crossbar.unfolded import UnfoldedModule, joined_parameter, linear_of
from cnet_aihw.runtime.errors import CnetError

_SETTINGS = ("embed_dim", "num_heads", "kdim", "vdim", "dropout", "batch_first", "head_dim")


class CrossbarMultiheadAttention(UnfoldedModule):
    """``torch.nn.MultiheadAttention`` with layers ``q_proj``, ``k_proj``, ``v_proj``, ``out_proj``.

    What lies between them is digital: torch's ``scaled_dot_product_attention``, or where its
    weights are asked for, their products and softmax. Made by :meth:`from_digital`.
    """

    in_proj_bias = None
    """Says to torch's transformers that they cannot take their fast path."""

    _qkv_same_embed_dim = False

    embed_dim: int
    num_heads: int
    kdim: int
    vdim: int
    dropout: float
    batch_first: bool
    head_dim: int
    add_zero_attn: bool
    q_proj: Any
    k_proj: Any
    v_proj: Any
    out_proj: Any
    bias_k: Tensor | None
    bias_v: Tensor | None

    def __init__(self, module: nn.MultiheadAttention) -> None:
        super().__init__()
        for name in (*_SETTINGS, "add_zero_attn"):
            setattr(self, name, getattr(module, name))
        if module._qkv_same_embed_dim:
            assert module.in_proj_weight is not None
            whole: list[Tensor] = [module.in_proj_weight] * 3
            weights = list(module.in_proj_weight.detach().chunk(3))
        else:
            whole = [module.q_proj_weight, module.k_proj_weight, module.v_proj_weight]
            weights = whole
        bias = module.in_proj_bias
        biases = [None] * 3 if bias is None else list(bias.detach().chunk(3))
        for name, weight, part, source in zip("qkv", weights, biases, whole, strict=True):
            trained = source.requires_grad, bias is not None and bias.requires_grad
            self.add_module(f"{name}_proj", linear_of(weight, part, trained=trained))
        self.out_proj = module.out_proj
        for name in ("bias_k", "bias_v"):
            self.register_parameter(name, getattr(module, name))

    @classmethod
    def from_digital(
        cls, module: Any, rpu_config: Any = None, tile_module_class: type | None = None
    ) -> CrossbarMultiheadAttention:
        """Return the module made of plain layers; it has the output projection itself."""
        return cls(module)

    def folded(self) -> nn.Module:
        """Return torch's module with the present weights of the layers."""
        projections: list[Any] = [self.q_proj, self.k_proj, self.v_proj]
        digital: Any = nn.MultiheadAttention(
            self.embed_dim, self.num_heads, self.dropout, projections[0].bias is not None,
            self.bias_k is not None, self.add_zero_attn, self.kdim, self.vdim,
            self.batch_first, device="meta",
        )  # fmt: skip
        if digital._qkv_same_embed_dim:
            digital.in_proj_weight = joined_parameter([layer.weight for layer in projections])
        else:
            for name, layer in zip("qkv", projections, strict=True):
                setattr(digital, f"{name}_proj_weight", layer.weight)
        if digital.in_proj_bias is not None:
            digital.in_proj_bias = joined_parameter([layer.bias for layer in projections])
        digital.bias_k, digital.bias_v = self.bias_k, self.bias_v
        old: Any = self.out_proj
        shape = (old.in_features, old.out_features, old.bias is not None)
        out = NonDynamicallyQuantizableLinear(*shape, device="meta")
        out.weight = old.weight
        if old.bias is not None:
            out.bias = old.bias
        digital.out_proj = out
        return digital

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return outputs and, where asked for, weights; arguments and shapes as torch has them.

        Raises:
            CnetError: for ``is_causal`` without ``attn_mask``, and for masks of another type or
                shape.
        """
        if is_causal and attn_mask is None:
            raise CnetError(
                "is_causal is a hint that attn_mask is causal, so that it needs attn_mask; give "
                "it, such as torch.nn.Transformer.generate_square_subsequent_mask(length).",
                key="attn_mask",
                expected="a causal mask",
            )
        batched = query.dim() == 3
        if not batched:
            query, key, value = (x.unsqueeze(0) for x in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        samples, length = query.shape[:2]
        hint = is_causal and key_padding_mask is None and not need_weights
        q, k, v = self.q_proj(query), self.k_proj(key), self.v_proj(value)
        masks = [
            None if hint else self._mask(attn_mask, samples, (length, k.shape[1]), q.dtype),
            self._padding(key_padding_mask, (samples, k.shape[1]), q.dtype),
        ]
        if self.bias_k is not None and self.bias_v is not None:
            k, v = (
                torch.cat([x, more.expand(samples, 1, -1).to(x.dtype)], 1)
                for x, more in ((k, self.bias_k), (v, self.bias_v))
            )
        if self.add_zero_attn:
            k, v = (F.pad(x, (0, 0, 0, 1)) for x in (k, v))
        given = [mask for mask in masks if mask is not None]
        added = k.shape[1] - (given[0].shape[-1] if given else k.shape[1])
        mask = sum(F.pad(one, (0, added)) for one in given) if given else None
        q, k, v = (x.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for x in (q, k, v))
        context, weights = self._attend(q, k, v, mask, need_weights, hint)
        out = self.out_proj(context.transpose(1, 2).flatten(2))
        if weights is not None and average_attn_weights:
            weights = weights.mean(1)
        if not batched:
            return out.squeeze(0), None if weights is None else weights.squeeze(0)
        return (out if self.batch_first else out.transpose(0, 1)), weights

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Any, need_weights: bool, causal: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Return what the heads gather, [N, heads, L, d], and the weights if asked for."""
        dropout = self.dropout if self.training else 0.0
        if not need_weights:
            found = F.scaled_dot_product_attention(q, k, v, mask, dropout, causal)
            return found, None
        scores = (q * math.sqrt(1.0 / self.head_dim)) @ k.transpose(-2, -1)
        weights = torch.softmax(scores if mask is None else scores + mask, -1)
        if dropout > 0.0:
            weights = F.dropout(weights, dropout)
        return weights @ v, weights

    def _mask(
        self, mask: Tensor | None, samples: int, shape: tuple[int, int], dtype: torch.dtype
    ) -> Tensor | None:
        """Return the mask to add to scores, [1 or N, 1 or heads, L, S]."""
        if mask is None:
            return None
        if mask.dim() == 2 and mask.shape == shape:
            return _additive("attn_mask", mask, dtype)[None, None]
        if mask.dim() == 3 and mask.shape == (samples * self.num_heads, *shape):
            return _additive("attn_mask", mask, dtype).unflatten(0, (samples, -1))
        expected = f"{shape}, or {(samples * self.num_heads, *shape)}"
        raise CnetError(
            f"attn_mask has shape {tuple(mask.shape)}; expected {expected}.",
            key="attn_mask",
            value=tuple(mask.shape),
            expected=expected,
        )

    def _padding(
        self, mask: Tensor | None, shape: tuple[int, int], dtype: torch.dtype
    ) -> Tensor | None:
        """Return the mask of keys that are only padding, [N, 1, 1, S]."""
        if mask is None:
            return None
        if mask.shape != shape:
            raise CnetError(
                f"key_padding_mask has shape {tuple(mask.shape)}; expected {shape}.",
                key="key_padding_mask",
                value=tuple(mask.shape),
                expected=shape,
            )
        return _additive("key_padding_mask", mask, dtype)[:, None, None]

    def extra_repr(self) -> str:
        """Name the number of heads, and what is not as by default."""
        text = f"num_heads={self.num_heads}"
        given = {name: getattr(self, name) for name in ("dropout", "batch_first", "add_zero_attn")}
        return text + "".join(f", {name}={value}" for name, value in given.items() if value)


def _additive(name: str, mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a mask as numbers to add to scores: minus infinity where a boolean one is True."""
    if mask.dtype == torch.bool:
        zeros = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
        return zeros.masked_fill_(mask, float("-inf"))
    if not mask.is_floating_point():
        raise CnetError(
            f"{name} holds {mask.dtype}; expected boolean or floating numbers.",
            key=name,
            value=mask.dtype,
            expected="boolean or floating numbers",
        )
    return mask.to(dtype)
