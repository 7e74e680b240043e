"""U-Net, for a class for each pixel."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.memory import check_memory
from cnet_aihw.runtime.typed import checked
from cnet_aihw.zoo.shapes import check_classes, image_shape, misfit


class DoubleConv(nn.Module):
    """Two 3x3 convolutions, each with BatchNorm and ReLU, size kept."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after)
        self.conv2, self.norm2 = nn.Conv2d(after, after, 3, padding=1), nn.BatchNorm2d(after)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, before, H, W] -> [B, after, H, W]."""
        x = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(x)))


class UNet(nn.Module):
    """U-Net with transposed convolutions on the way up.

    Source: Ronneberger et al. 2015, with padding and BatchNorm.

    Args:
        input_shape: (C, H, W), H and W multiples of 2 to the power of ``depth``.
        classes: number of classes.
        width: channels of the first maps; they double on each way down.
        depth: ways down.

    Raises:
        CnetError: for sizes that do not fit.
    """

    @checked
    def __init__(
        self,
        input_shape: Sequence[int] = (1, 48, 48),
        classes: int = 11,
        width: int = 16,
        depth: int = 2,
    ) -> None:
        super().__init__()
        channels, high, wide = image_shape("UNet", input_shape, "(C, H, W)")
        check_classes(classes)
        for key, size in (("width", width), ("depth", depth)):
            if not 1 <= size <= 4096:
                raise bad_value(key, size, "a whole number of at least 1, at most 4096")
        if depth > 10 or high % 2**depth or wide % 2**depth:
            fits = f"(C, H, W) with H and W multiples of 2^depth, depth={depth}"
            raise misfit("UNet", (channels, high, wide), fits)
        sizes = [width * 2**level for level in range(depth + 1)]
        check_memory(4 * 9 * 4 * sizes[-1] ** 2, "a U-Net of this width and depth")
        self.down = nn.ModuleList(
            DoubleConv(before, after) for before, after in pairwise([channels, *sizes])
        )
        steps = [(large, small) for small, large in reversed(list(pairwise(sizes)))]
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in steps)
        self.join = nn.ModuleList(DoubleConv(a, b) for a, b in steps)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, C, H, W] -> logits [B, classes, H, W]."""
        kept: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            kept.append(x)
        for up, join in zip(self.up, self.join, strict=True):
            kept.pop()
            x = join(torch.cat([kept[-1], up(x)], 1))
        logits: Tensor = self.head(x)
        return logits
