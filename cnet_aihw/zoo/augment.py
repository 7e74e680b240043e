"""Random crop and flip of a whole batch at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.typed import checked


class CropFlip:
    """Pad, crop at a random place and flip left to right with probability 1/2, each image its own.

    The border is filled with what a black pixel (0 before normalisation) became, as when images are
    cropped before they are normalised. (Krizhevsky's CIFAR augmentation as in He et al. 2016, 4.2.)

    Args:
        fill: normalised value of black, one number for each channel [C].
        crop: width of the border in pixels; 0 does not crop.
        flip: whether to flip.

    Raises:
        CnetError: ``crop`` below 0, or nothing to do (``crop`` 0 and ``flip`` False).
    """

    @checked
    def __init__(self, fill: Sequence[float], crop: int = 4, flip: bool = True) -> None:
        if crop < 0:
            raise CnetError(
                f"crop={crop} is below 0: give a border in pixels, or 0 for none.",
                key="crop",
                value=crop,
                expected="a border in pixels, or 0 for none",
            )
        if crop == 0 and not flip:
            raise CnetError(
                "augment=true with crop=0 and flip=false changes nothing: set augment=false.",
                key="augment",
                value=True,
                expected="augment=false",
            )
        self.fill = torch.tensor(tuple(fill), dtype=torch.float32)
        self.crop = crop
        self.flip = flip

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Change a batch.

        Args:
            x: images [B, C, H, W], left as they are.
            generator: source of the draws, on any device.

        Returns:
            New images [B, C, H, W] on the device of ``x``.
        """
        if self.crop:
            x = self._cropped(x, generator)
        if self.flip:
            draws = torch.rand(len(x), generator=generator, device=generator.device)
            x = torch.where((draws < 0.5).to(x.device)[:, None, None, None], x.flip(-1), x)
        return x

    def _cropped(self, x: Tensor, generator: torch.Generator) -> Tensor:
        images, _, height, width = x.shape
        border = self.crop
        padded = self.fill.to(x)[None, :, None, None].repeat(
            images, 1, height + 2 * border, width + 2 * border
        )
        padded[:, :, border : border + height, border : border + width] = x
        places = torch.randint(
            2 * border + 1, (2, images), generator=generator, device=generator.device
        ).to(x.device)
        # [B, C, 2*border+1, 2*border+1, H, W], a view: every crop of every image
        crops = padded.unfold(2, height, 1).unfold(3, width, 1)
        return crops[torch.arange(images, device=x.device), :, places[0], places[1]]
