"""Losses of networks in double precision are taken in double precision."""

import pytest
import torch

from cnet_aihw.tasks import (
    Classification,
    LanguageModelling,
    MultiLabel,
    Regression,
    Segmentation,
    Task,
)

GENERATOR = torch.Generator().manual_seed(0)


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)


CASES: list[tuple[Task, torch.Tensor, torch.Tensor]] = [
    (Classification(0.1), numbers(4, 3), torch.tensor([0, 2, 1, 1])),
    (Regression(), numbers(4, 2), numbers(4, 2)),
    (MultiLabel(), numbers(4, 3), (numbers(4, 3) > 0).double()),
    (LanguageModelling(), numbers(2, 5, 3), torch.arange(10).view(2, 5) % 3),
    (Segmentation(), numbers(2, 3, 4, 4), torch.arange(32).view(2, 4, 4) % 3),
]


@pytest.mark.parametrize(("task", "outputs", "targets"), CASES, ids=lambda value: "")
def test_a_loss_keeps_double_precision(task, outputs, targets):
    outputs = outputs.clone().requires_grad_()
    loss = task.loss(outputs, targets)
    assert loss.dtype == torch.float64
    assert torch.autograd.gradcheck(lambda x: task.loss(x, targets), outputs, eps=1e-6, atol=1e-8)


@pytest.mark.parametrize(("task", "outputs", "targets"), CASES, ids=lambda value: "")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_loss_is_in_single_precision_for_narrower_outputs(task, outputs, targets, dtype):
    given = outputs.to(dtype)
    loss = task.loss(given, targets)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(task.loss(given.double(), targets)), rel=1e-5)
