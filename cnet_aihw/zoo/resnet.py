"""ResNet-20 for small images."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from cnet_aihw.runtime.typed import checked
from cnet_aihw.zoo.shapes import check_classes, image_shape, misfit, scaled_width


class ResNet20(nn.Module):
    """ResNet-20 (He et al. 2016, section 4.2): 19 convolutions and one linear layer.

    Three stages of three blocks with 16, 32 and 64 channels. Shortcuts are option A of the paper:
    where the shape changes, every second pixel and zeros for the new channels, without weights.
    Weights of convolutions start as He et al. 2015 (normal, by outputs), from torch's global
    generator.

    Args:
        input_shape: (C, H, W), H and W of at least 8.
        classes: number of classes, or of numbers to be found.
        width: factor on all channels, rounded to multiples of 8, at least 8.

    Raises:
        CnetError: smaller images, fewer than 2 classes, or ``width`` not above 0.
    """

    @checked
    def __init__(
        self,
        input_shape: Sequence[int] = (3, 32, 32),
        classes: int = 10,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        fits = "(C, H, W) with H and W of at least 8"
        shape = image_shape("ResNet20", input_shape, fits)
        if min(shape[1:]) < 8:
            raise misfit("ResNet20", shape, fits)
        check_classes(classes, 1)
        first, second, third = (scaled_width(channels, width) for channels in (16, 32, 64))
        self.conv1 = nn.Conv2d(shape[0], first, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        self.stage1 = _stage(first, first, stride=1)
        self.stage2 = _stage(first, second, stride=2)
        self.stage3 = _stage(second, third, stride=2)
        self.fc = nn.Linear(third, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, C, H, W] -> logits [B, classes]."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.stage3(self.stage2(self.stage1(x)))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with BatchNorm beside a shortcut without weights (option A).

    Args:
        channels: channels in.
        out: channels out, at least ``channels``.
        stride: step of the first convolution.
    """

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.stride = stride
        self.new_channels = out - channels

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, H, W] -> [B, out, H / stride, W / stride], both rounded up."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        before = self.new_channels // 2
        shortcut = F.pad(
            x[:, :, :: self.stride, :: self.stride],
            (0, 0, 0, 0, before, self.new_channels - before),
        )
        return F.relu(y + shortcut)


def _stage(channels: int, out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        BasicBlock(channels, out, stride), BasicBlock(out, out, 1), BasicBlock(out, out, 1)
    )
