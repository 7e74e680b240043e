"""Learning rates against torch's own schedulers, optimizers against torch's defaults."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from cnet_aihw.training import TrainingSettings, learning_rate, make_optimizer


def torch_rates(scheduler_of: type, steps: int, **arguments: object) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    scheduler = scheduler_of(optimizer, **arguments)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def rates(settings: TrainingSettings, steps_per_epoch: int) -> list[float]:
    return [
        learning_rate(settings, step, steps_per_epoch)
        for step in range(settings.epochs * steps_per_epoch)
    ]


def test_cosine_is_torchs() -> None:
    settings = TrainingSettings(epochs=4, lr=0.3, schedule="cosine")
    expected = torch_rates(torch.optim.lr_scheduler.CosineAnnealingLR, 28, T_max=28)
    assert rates(settings, 7) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("epochs", [1, 2, 5])
def test_onecycle_is_torchs(epochs: int) -> None:
    settings = TrainingSettings(epochs=epochs, lr=0.3, schedule="onecycle")
    expected = torch_rates(
        torch.optim.lr_scheduler.OneCycleLR,
        epochs * 10,
        max_lr=0.3,
        total_steps=epochs * 10,
        cycle_momentum=False,
    )
    # the cosine starts and ends a whole step inside; torch counts the same way
    assert rates(settings, 10)[: epochs * 10 - 1] == pytest.approx(expected[:-1], rel=1e-9)


@pytest.mark.parametrize("total", [1, 2, 3])
@pytest.mark.parametrize("schedule", ["cosine", "onecycle", "constant"])
def test_the_shortest_runs_have_rates(schedule: str, total: int) -> None:
    settings = TrainingSettings(epochs=total, lr=0.3, schedule=schedule)
    assert all(0 < rate <= 0.3 for rate in rates(settings, 1))


def test_warmup_rises_linearly_then_the_schedule_begins() -> None:
    settings = TrainingSettings(epochs=3, lr=0.3, schedule="constant", warmup_epochs=1.0)
    assert rates(settings, 4) == pytest.approx([0.06, 0.12, 0.18, 0.24] + [0.3] * 8)
    settings.schedule = "cosine"
    plain = rates(TrainingSettings(epochs=2, lr=0.3, schedule="cosine"), 4)
    assert rates(settings, 4)[4:] == pytest.approx(plain)


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_optimizer_steps_are_torchs(kind: str) -> None:
    torch.manual_seed(0)
    start, gradients = torch.randn(5), torch.randn(3, 5)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    settings = TrainingSettings(optimizer=kind, lr=0.1, momentum=0.8, weight_decay=0.01)
    reference = {
        "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.8, weight_decay=0.01),
        "adam": lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.01),
        "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.01),
    }[kind]([theirs])
    optimizer = make_optimizer(settings, [ours])
    for gradient in gradients:
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        optimizer.step()
        reference.step()
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_parameters_may_get_their_first_gradient_in_any_step(kind: str) -> None:
    def stepped(chosen: list[int], optimizer_of: Callable[..., torch.optim.Optimizer]) -> Tensor:
        parameters = [nn.Parameter(torch.full((3,), float(n))) for n in range(3)]
        optimizer = optimizer_of(parameters)
        for step in range(6):
            for number, parameter in enumerate(parameters):
                called = number <= step and (step + number) % 3 and number in chosen
                parameter.grad = torch.full((3,), step + 1.0) if called else None
            optimizer.step()
        return torch.stack([p.detach() for p in parameters])

    settings = TrainingSettings(optimizer=kind, lr=0.1, momentum=0.8, weight_decay=0.01)
    found = stepped([0, 1, 2], lambda p: make_optimizer(settings, p))
    for number in range(3):
        alone = stepped([number], lambda p, n=number: make_optimizer(settings, [p[n]]))
        assert torch.equal(found[number], alone[number])
    if kind == "sgd":
        theirs = {"lr": 0.1, "momentum": 0.8, "weight_decay": 0.01, "foreach": False}
        torch.testing.assert_close(
            found, stepped([0, 1, 2], lambda p: torch.optim.SGD(p, **theirs))
        )
