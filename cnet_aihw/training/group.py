"""The processes of one training, which add up the gradients of their shares of each batch.

Plain torch.distributed: Fabric and accelerate bring launchers, wrappers of modules and checkpoints,
and all that is needed here is one sum a step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cnet_aihw.rram import snapshot
from cnet_aihw.runtime.inputs import Inputs, select
from cnet_aihw.training.checkpoint import optimizer_tensors
from cnet_aihw.training.step import share_of
from cnet_aihw.training.variation import held_chip


class Group:
    """The processes of one training; the first one also validates, writes and decides.

    Args:
        rank: number of this process.
        size: number of processes.
        device: device of this process.
    """

    def __init__(self, rank: int, size: int, device: torch.device) -> None:
        self.rank, self.size, self.device = rank, size, device
        self._begun = False

    def share(
        self, inputs: Inputs, targets: Tensor, counted: Callable[[Tensor], Tensor | int] = len
    ) -> tuple[Inputs, Tensor, Tensor | float]:
        """Return this process's part of a batch, and its weight in the mean over the batch.

        Random draws begin from the same state in all processes, so that all see the same chip. A
        batch with less than two samples for each is computed by all.

        Args:
            inputs: inputs of the batch.
            targets: its targets.
            counted: of how many of some targets the loss is the mean.
        """
        self._same_random_state()
        samples = len(targets)
        if samples < 2 * self.size:
            return inputs, targets, 1.0 / self.size
        begin, end = (samples * rank // self.size for rank in (self.rank, self.rank + 1))
        chosen = slice(begin, end)
        return select(inputs, chosen), targets[chosen], share_of(targets[chosen], targets, counted)

    def add_up(
        self, parameters: Sequence[nn.Parameter], row: Tensor, weight: Tensor | float
    ) -> Tensor:
        """Put the mean gradient over the batch into the parameters; return the mean of ``row``.

        A parameter that no process has a gradient of keeps none, so that it does not decay.
        """
        grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        flat = torch.cat([grad.reshape(-1) for grad in grads]) * weight
        has_grad = flat.new_tensor([float(p.grad is not None) for p in parameters])
        flat, row = torch.cat([flat, has_grad]), row * weight
        dist.all_reduce(flat)
        dist.all_reduce(row)
        *pieces, has_grad = flat.split([*(grad.numel() for grad in grads), len(grads)])
        for number, (parameter, grad) in enumerate(zip(parameters, grads, strict=True)):
            if parameter.grad is not None or bool(has_grad[number]):
                parameter.grad = pieces[number].view_as(grad).to(grad.dtype)
        return row

    def begin_epoch(
        self, epoch: int, step: int, model: nn.Module, optimizer: torch.optim.Optimizer
    ) -> None:
        """Say to the other processes where training resumes, the first time with all its state."""
        state = None
        if not self._begun:
            tensors = snapshot(model), optimizer_tensors(optimizer), held_chip(model)
            state = [{name: t.cpu() for name, t in found.items()} for found in tensors]
        self._begun = True
        dist.broadcast_object_list([epoch, step, state], src=0, device=self._meeting)

    def next_epoch(self) -> tuple[int, int, list[dict[str, Tensor]] | None]:
        """Return epoch, step and state (of model, optimizer and held chip) from the first one."""
        news: list[Any] = [None, None, None]
        dist.broadcast_object_list(news, src=0, device=self._meeting)
        return news[0], news[1], news[2]

    def _same_random_state(self) -> None:
        state = torch.get_rng_state().to(self._meeting)
        dist.broadcast(state, 0)
        torch.set_rng_state(state.cpu())
        if self.device.type == "cuda":
            state = torch.cuda.get_rng_state(self.device).to(self._meeting)
            dist.broadcast(state, 0)
            torch.cuda.set_rng_state(state.cpu(), self.device)

    @property
    def _meeting(self) -> torch.device:
        return self.device if self.device.type == "cuda" else torch.device("cpu")
