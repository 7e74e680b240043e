"""VGG16 for 32x32 images."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from cnet_aihw.runtime.typed import checked
from cnet_aihw.zoo.shapes import check_classes, image_shape, misfit, scaled_width

_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Channels and number of convolutions of each stage (configuration D)."""


class VGG16(nn.Module):
    """VGG16 (Simonyan and Zisserman 2015, configuration D) for 32x32 images: 16 weight layers.

    Thirteen 3x3 convolutions (``features.conv1`` ...) in five stages that each halve the image,
    then three linear layers (``classifier.fc1`` ...) of 512, 512 and ``classes``, where the
    original for 224x224 has 4096, 4096 and 1000; no dropout. With BatchNorm each convolution is
    followed by one (``features.norm1`` ...) and has no bias of its own. Weights start as He et al.
    2015 (normal, by inputs), biases at 0, from torch's global generator.

    Args:
        input_shape: (C, 32, 32).
        classes: number of classes, or of numbers to be found.
        batch_norm: put a BatchNorm behind each convolution.
        width: factor on all channels and hidden widths, rounded to multiples of 8, at least 8.

    Raises:
        CnetError: another image size, fewer than 2 classes, or ``width`` not above 0.
    """

    @checked
    def __init__(
        self,
        input_shape: Sequence[int] = (3, 32, 32),
        classes: int = 10,
        batch_norm: bool = True,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        fits = "(C, 32, 32), which its five poolings bring to 1x1"
        shape = image_shape("VGG16", input_shape, fits)
        if shape[1:] != (32, 32):
            raise misfit("VGG16", shape, fits)
        check_classes(classes, 1)
        self.features = _features(shape[0], batch_norm, width)
        wide = scaled_width(512, width)
        self.classifier = nn.Sequential()
        self.classifier.add_module("fc1", nn.Linear(wide, wide))
        self.classifier.add_module("relu1", nn.ReLU())
        self.classifier.add_module("fc2", nn.Linear(wide, wide))
        self.classifier.add_module("relu2", nn.ReLU())
        self.classifier.add_module("fc3", nn.Linear(wide, classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, C, 32, 32] -> logits [B, classes]."""
        logits: Tensor = self.classifier(self.features(x).flatten(1))
        return logits


def _features(channels: int, batch_norm: bool, width: float) -> nn.Sequential:
    """Images [B, C, 32, 32] -> [B, 512 * width, 1, 1]."""
    layers = nn.Sequential()
    number = 0
    for stage, (filters, convolutions) in enumerate(_STAGES, start=1):
        out = scaled_width(filters, width)
        for _ in range(convolutions):
            number += 1
            conv = nn.Conv2d(channels, out, 3, padding=1, bias=not batch_norm)
            layers.add_module(f"conv{number}", conv)
            if batch_norm:
                layers.add_module(f"norm{number}", nn.BatchNorm2d(out))
            layers.add_module(f"relu{number}", nn.ReLU())
            channels = out
        layers.add_module(f"pool{stage}", nn.MaxPool2d(2))
    return layers
