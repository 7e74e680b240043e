"""Transformers: blocks, a vision transformer and a causal language model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.memory import check_memory
from cnet_aihw.runtime.typed import checked
from cnet_aihw.zoo.shapes import check_classes, image_shape, misfit


class Attention(nn.Module):
    """Self-attention with projections of their own: ``q``, ``k``, ``v`` and ``o``.

    Args:
        width: numbers of a token.
        heads: heads, which divide the width.
        causal: whether a token sees only itself and what is before it.
    """

    def __init__(self, width: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.q, self.k = nn.Linear(width, width), nn.Linear(width, width)
        self.v, self.o = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [B, T, width] -> [B, T, width]."""
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.q, self.k, self.v)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        out: Tensor = self.o(mixed.transpose(1, 2).flatten(2))
        return out


class Block(nn.Module):
    """Attention and two linear layers (``fc1``, GELU, ``fc2``), each behind a LayerNorm and added.

    Args:
        width, heads, causal: as in :class:`Attention`.
        hidden: width between the linear layers.
    """

    def __init__(self, width: int, heads: int, hidden: int, causal: bool = False) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, causal)
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [B, T, width] -> [B, T, width]."""
        x = x + self.attention(self.norm1(x))
        out: Tensor = x + self.fc2(F.gelu(self.fc1(self.norm2(x))))
        return out


class ViT(nn.Module):
    """Vision transformer: patches as tokens, learned positions, the mean of all tokens to the head.

    Source: Dosovitskiy et al. 2021; the mean in place of a class token as in Beyer et al. 2022,
    "Better plain ViT baselines". First weights of linear layers are normal with a standard
    deviation of 0.02, from torch's global generator.

    Args:
        input_shape: (C, H, W), H and W multiples of ``patch``.
        classes: number of classes, or of numbers to be found.
        patch: side of a patch in pixels.
        width: numbers of a token.
        depth: blocks.
        heads: heads, which divide ``width``.
        hidden: width between the linear layers of a block; None: twice ``width``.

    Raises:
        CnetError: for sizes that do not fit.
    """

    @checked
    def __init__(
        self,
        input_shape: Sequence[int] = (3, 32, 32),
        classes: int = 10,
        patch: int = 4,
        width: int = 128,
        depth: int = 6,
        heads: int = 4,
        hidden: int | None = None,
    ) -> None:
        super().__init__()
        channels, high, wide = image_shape("ViT", input_shape, "(C, H, W)")
        check_classes(classes, 1)
        hidden = check_sizes(width, depth, heads, hidden)
        if patch < 1 or high % patch or wide % patch:
            fits = f"(C, H, W) with H and W multiples of patch={patch}"
            raise misfit("ViT", (channels, high, wide), fits)
        tokens = (high // patch) * (wide // patch)
        self.patches = nn.Conv2d(channels, width, patch, stride=patch)
        self.positions = nn.Parameter(0.02 * torch.randn(1, tokens, width))
        self.blocks = nn.Sequential(*(Block(width, heads, hidden) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)
        self.apply(first_weights)

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, C, H, W] -> logits [B, classes]."""
        x = self.patches(x).flatten(2).transpose(1, 2) + self.positions  # [B, T, width]
        logits: Tensor = self.head(self.norm(self.blocks(x)).mean(1))
        return logits


class LanguageModel(nn.Module):
    """Causal transformer over tokens, in the form of GPT-2 (LayerNorm first, learned positions).

    First weights of linear layers and embeddings are normal with a standard deviation of 0.02, from
    torch's global generator. The head is not tied to the embedding, so that it is a crossbar of its
    own.

    Args:
        input_shape: (T,), tokens of a sequence: the longest it takes.
        classes: number of tokens of the vocabulary.
        width: numbers of a token.
        depth: blocks.
        heads: heads, which divide ``width``.
        hidden: width between the linear layers of a block; None: twice ``width``.

    Raises:
        CnetError: for sizes that do not fit.
    """

    @checked
    def __init__(
        self,
        input_shape: Sequence[int] = (128,),
        classes: int = 256,
        width: int = 192,
        depth: int = 4,
        heads: int = 6,
        hidden: int | None = None,
    ) -> None:
        super().__init__()
        check_classes(classes)
        hidden = check_sizes(width, depth, heads, hidden)
        if len(input_shape) != 1 or input_shape[0] < 1:
            raise bad_value("input_shape", tuple(input_shape), "(T,), the tokens of a sequence")
        self.context = input_shape[0]
        check_memory(4 * width * (2 * classes + self.context), "embeddings of this width")
        self.tokens = nn.Embedding(classes, width)
        self.positions = nn.Embedding(self.context, width)
        self.blocks = nn.Sequential(*(Block(width, heads, hidden, True) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes, bias=False)
        self.apply(first_weights)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [B, T] (int64), T at most the context -> logits [B, T, classes].

        Raises:
            CnetError: for a longer sequence.
        """
        if x.shape[1] > self.context:
            raise bad_value("x", tuple(x.shape), f"sequences of at most {self.context} tokens")
        x = self.tokens(x) + self.positions.weight[: x.shape[1]]
        logits: Tensor = self.head(self.norm(self.blocks(x)))
        return logits


def check_sizes(width: int, depth: int, heads: int, hidden: int | None) -> int:
    """Return the width between the linear layers of a block, of sizes that fit each other.

    Raises:
        CnetError: for a size below 1, or heads that do not divide the width.
    """
    sizes = {"width": width, "depth": depth, "heads": heads, "hidden": hidden or 2 * width}
    for key, size in sizes.items():
        if size < 1:
            raise bad_value(key, size, "a whole number of at least 1")
    if width % heads:
        raise bad_value("heads", heads, f"a divisor of width={width}")
    check_memory(4 * depth * width * (4 * width + 2 * sizes["hidden"]), "blocks of these sizes")
    return sizes["hidden"]


def first_weights(module: nn.Module) -> None:
    """Draw first weights of linear layers and embeddings: normal, 0.02; biases zero."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
