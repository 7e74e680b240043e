"""Checks of outputs and targets that tasks share, and their accumulators from torchmetrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.inputs import at_least_float32


class BuiltAtFirstBatch:
    """A metric that is built when the first batch shows how many classes there are.

    Args:
        build: makes the metric from the outputs of a batch.
        change: changes outputs and targets before they are taken in.
    """

    def __init__(
        self,
        build: Callable[[Tensor], Any],
        change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = lambda x, y: (x, y),
    ) -> None:
        self._build, self._change = build, change
        self._metric: Any = None

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Take in one batch."""
        if self._metric is None:
            self._metric = self._build(outputs).to(outputs.device)
        self._metric.update(*self._change(at_least_float32(outputs.detach()), targets))

    def compute(self) -> Tensor | float:
        """Return the score; NaN before the first batch."""
        return torch.tensor(torch.nan) if self._metric is None else self._metric.compute()


def check_outputs(outputs: Any, dims: Sequence[int], shape: str) -> Tensor:
    """Return a network's outputs, which must be a tensor with a number of axes.

    Args:
        outputs: what the network gives.
        dims: numbers of axes that fit.
        shape: these in words, such as "logits of shape (N, classes)".

    Raises:
        CnetError: if they are not.
    """
    if not isinstance(outputs, Tensor) or outputs.dim() not in dims:
        found = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise CnetError(
            f"the network's outputs are {found}; expected {shape}.",
            key="outputs",
            value=found,
            expected=shape,
        )
    return outputs


def check_targets(targets: Tensor, shape: Sequence[int], kind: str, good: bool) -> None:
    """Refuse targets whose shape behind the samples, or whose type, is another one.

    Args:
        targets: targets of some samples, [N, ...].
        shape: the shape behind the samples that is expected.
        kind: the type that is expected, in words, such as "int64".
        good: whether the type is that.

    Raises:
        CnetError: if it is.
    """
    if not good or targets.shape[1:] != torch.Size(shape):
        expected = ("N", *shape)
        fixes = {((), (1,)): "give targets.unsqueeze(1)", ((1,), ()): "give targets.squeeze(1)"}
        fix = fixes.get((tuple(targets.shape[1:]), tuple(shape))) if good else None
        raise CnetError(
            f"the targets are {targets.dtype} of shape {tuple(targets.shape)}; expected {kind} of "
            f"shape ({', '.join(map(str, expected))}){f': {fix}' if fix else ''}.",
            key="targets",
            value=(str(targets.dtype), tuple(targets.shape)),
            expected=expected,
            fix=fix,
        )


def check_numbers(targets: Tensor, classes: int, ignored: int | None = None) -> None:
    """Refuse class numbers outside 0 to ``classes`` - 1, but for the ignored one.

    Raises:
        CnetError: for targets with such a number.
    """
    counted = targets if ignored is None else targets[targets != ignored]
    if not counted.numel():
        return
    low, high = int(counted.min()), int(counted.max())
    if low < 0 or high >= classes:
        raise CnetError(
            f"the targets go from {low} to {high} but the network has {classes} classes; give "
            f"numbers 0 to {classes - 1}, or a network with more classes.",
            key="targets",
            value=(low, high),
            expected=(0, classes - 1),
        )


def check_choice(key: str, value: object, choices: Sequence[str]) -> None:
    """Refuse a name that is not among those there are.

    Raises:
        CnetError: for another one.
    """
    if not isinstance(value, str) or value not in choices:
        raise bad_value(key, value, " or ".join(choices))
