"""LeNet-5, the small network of the paper."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from cnet_aihw.runtime.typed import checked
from cnet_aihw.zoo.shapes import check_classes, image_shape, misfit


class LeNet5(nn.Module):
    """LeNet-5: two 5x5 convolutions (6, 16) and three linear layers (120, 84, classes).

    28x28 images are padded by 2 in the first convolution, so that all else is as for 32x32.

    Departures from LeCun et al. 1998 (Fig. 2), as usual today: ReLU for the scaled tanh, max
    pooling for trainable subsampling, every second-layer filter sees all six maps, a linear output
    for the radial basis functions. Weights start as torch's layers do, from torch's global
    generator.

    Args:
        input_shape: (C, 28, 28) or (C, 32, 32).
        classes: number of classes, or of numbers to be found.

    Raises:
        CnetError: another image size, or fewer than 2 classes.
    """

    @checked
    def __init__(self, input_shape: Sequence[int] = (1, 28, 28), classes: int = 10) -> None:
        super().__init__()
        fits = "(C, 28, 28) or (C, 32, 32)"
        channels, height, width = image_shape("LeNet5", input_shape, fits)
        if height != width or height not in (28, 32):
            raise misfit("LeNet5", (channels, height, width), fits)
        check_classes(classes, 1)
        self.conv1 = nn.Conv2d(channels, 6, 5, padding=(32 - height) // 2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, C, H, W] -> logits [B, classes]."""
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)  # [B, 6, 14, 14]
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)  # [B, 16, 5, 5]
        x = F.relu(self.fc1(x.flatten(1)))
        x = F.relu(self.fc2(x))
        logits: Tensor = self.fc3(x)
        return logits
