"""Recurrent classifier of sequences."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.memory import check_memory
from cnet_aihw.runtime.typed import checked
from cnet_aihw.zoo.shapes import check_classes

CELLS = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}


class Recurrent(nn.Module):
    """GRU, LSTM or plain recurrent layers and a linear one on the last step.

    Images are read row by row, from top to bottom; sequences step by step.

    Args:
        input_shape: (C, H, W), or (T, k) for sequences of vectors.
        classes: number of classes, or of numbers to be found.
        cell: "gru", "lstm" or "rnn".
        width: numbers of the state.
        layers: recurrent layers, one above the other.

    Raises:
        CnetError: for another cell or shape.
    """

    @checked
    def __init__(
        self,
        input_shape: Sequence[int] = (1, 28, 28),
        classes: int = 10,
        cell: str = "gru",
        width: int = 128,
        layers: int = 1,
    ) -> None:
        super().__init__()
        check_classes(classes, 1)
        if cell not in CELLS:
            raise bad_value("cell", cell, " or ".join(CELLS))
        shape = tuple(input_shape)
        if len(shape) not in (2, 3) or min(shape) < 1:
            raise bad_value("input_shape", shape, "(C, H, W) of images or (T, k) of sequences")
        for key, size in (("width", width), ("layers", layers)):
            if size < 1:
                raise bad_value(key, size, "a whole number of at least 1")
        step = shape[0] * shape[2] if len(shape) == 3 else shape[1]
        check_memory(4 * 4 * width * (width + step) * layers, "recurrent layers of these sizes")
        self.recurrent = CELLS[cell](step, width, layers, batch_first=True)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, C, H, W] or sequences [B, T, k] -> logits [B, classes]."""
        if x.dim() == 4:
            x = x.transpose(1, 2).flatten(2)  # [B, H, C * W]
        logits: Tensor = self.head(self.recurrent(x)[0][:, -1])
        return logits
