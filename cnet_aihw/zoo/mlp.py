"""A plain multi-layer perceptron."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.memory import check_memory
from cnet_aihw.runtime.typed import checked


class MLP(nn.Module):
    """Linear layers ``fc1``, ``fc2``, ... with ReLU between them.

    Weights start as torch's layers do, from torch's global generator.

    Args:
        input_shape: shape of one sample, (k,) or (C, H, W) or any other.
        classes: number of classes, or of outputs.
        hidden: width of each hidden layer; empty gives one linear layer.

    Raises:
        CnetError: a size below 1.
    """

    @checked
    def __init__(
        self,
        input_shape: Sequence[int] = (1, 28, 28),
        classes: int = 10,
        hidden: Sequence[int] = (300, 100),
    ) -> None:
        super().__init__()
        if len(input_shape) == 0 or min(input_shape) < 1:
            raise bad_value("input_shape", tuple(input_shape), "sizes of at least 1")
        if classes < 1:
            raise bad_value("classes", classes, "a whole number of at least 1")
        if any(size < 1 for size in hidden):
            raise CnetError(
                f"hidden={tuple(hidden)} holds a width below 1: give widths of 1 or more.",
                key="hidden",
                value=tuple(hidden),
                expected="widths of 1 or more",
            )
        sizes = [math.prod(input_shape), *hidden, classes]
        check_memory(4 * sum(a * b for a, b in pairwise(sizes)), "an MLP of these widths")
        self.layers = nn.Sequential()
        for number, (wide, out) in enumerate(pairwise(sizes), start=1):
            if number > 1:
                self.layers.add_module(f"relu{number - 1}", nn.ReLU())
            self.layers.add_module(f"fc{number}", nn.Linear(wide, out))

    def forward(self, x: Tensor) -> Tensor:
        """Samples [B, ...] -> logits [B, classes]."""
        logits: Tensor = self.layers(x.flatten(1))
        return logits
