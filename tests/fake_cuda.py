"""Networks on a CUDA device that is not there: torch's fake tensors find what mixes devices.

Fake tensors have shapes, types and devices but no content. An operation that mixes devices raises,
as it would on a GPU; so does one that has to wait for the device to know a value (``.item()``,
``bool(tensor)``), unless it is allowed to. Gradients are beyond it: autograd's engine wants a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from unittest import mock

import pytest
import torch
from aihwkit.optim.context import AnalogContext
from aihwkit.simulator.tiles.base import SimulatorTileWrapper
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

CUDA = torch.device("cuda", 0)

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA is not available")
"""Mark of tests that need a GPU."""


@contextmanager
def fake_cuda(*models: nn.Module) -> Iterator[None]:
    """Put models on a fake CUDA device, and compute with fake tensors inside the block.

    The models are of no use afterwards.
    """
    with ExitStack() as stack:
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        for target, value in (
            ("torch.cuda.manual_seed", lambda seed: None),
            ("torch.cuda.device", lambda device: nullcontext()),
            ("torch.random.fork_rng", lambda devices=(): nullcontext()),
            ("cnet_aihw.rram.crossbar.read_noise._generator", lambda device, seed: None),
        ):
            stack.enter_context(mock.patch(target, value))
        stack.enter_context(mock.patch.object(SimulatorTileWrapper, "device", CUDA))
        for model in models:
            move(model)
        yield


def move(model: nn.Module) -> None:
    """Put fake CUDA tensors in place of a model's parameters, buffers and scales."""
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None and not isinstance(parameter, AnalogContext):
                moved = nn.Parameter(on_cuda(parameter), requires_grad=parameter.requires_grad)
                module._parameters[name] = moved
        for name, buffer in list(module._buffers.items()):
            if buffer is not None:
                module._buffers[name] = on_cuda(buffer)
        if isinstance(getattr(module, "scales", None), Tensor):
            module.scales = on_cuda(module.scales)


def on_cuda(tensor: Tensor) -> Tensor:
    """Return a fake CUDA tensor like one on the CPU."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, device=CUDA)
