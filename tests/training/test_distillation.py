"""Distillation: what the loss is, whose outputs it aims at, and that a run knows its teacher."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cnet_aihw.evaluation import evaluate_chips
from cnet_aihw.rram import load_snapshot, program, snapshot
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.tasks import Regression
from cnet_aihw.training import Distillation, TrainingSettings, VariationSettings, train

from .conftest import Data, analog_network, digital_network

NOISE = TrainingSettings(
    epochs=3, batch_size=16, lr=0.05, select="last", variation=VariationSettings(enabled=True)
)


@pytest.mark.parametrize("make", [analog_network, digital_network])
def test_the_loss_is_that_of_the_formula(data: Data, make: type[nn.Module]) -> None:
    teacher, x, y = make().eval(), data.train.x[:20], data.train.y[:20]
    wanted, outputs = teacher(x).detach(), torch.randn(20, 3)
    loss = Distillation(teacher, 0.3, 4.0, label_smoothing=0.1)
    if make is analog_network:  # its chips are not the teacher
        program(teacher, 7)
        assert not torch.allclose(teacher(x), wanted)
        assert Distillation(teacher, 0.3, 4.0, label_smoothing=0.1)(outputs, y, x) == loss(
            outputs, y, x
        )
    weights = snapshot(teacher)  # nor is what it becomes
    load_snapshot(teacher, {name: torch.zeros_like(one) for name, one in weights.items()})
    aim, given = torch.softmax(wanted / 4, 1), torch.softmax(outputs / 4, 1)
    apart = 16 * (aim * (aim / given).log()).sum(1).mean()
    own = F.cross_entropy(outputs, y, label_smoothing=0.1)
    torch.testing.assert_close(loss(outputs, y, x), 0.7 * own + 0.3 * apart)


def test_numbers_aim_at_the_teachers_numbers() -> None:
    torch.manual_seed(0)
    teacher, x, y = nn.Linear(4, 1), torch.randn(9, 4), torch.randn(9, 1)
    outputs = torch.randn(9, 1)
    found = Distillation(teacher, 0.25, task=Regression())(outputs, y, x)
    wanted = teacher(x).detach()
    torch.testing.assert_close(
        found, 0.75 * F.mse_loss(outputs, y) + 0.25 * F.mse_loss(outputs, wanted)
    )


def test_a_network_learns_the_outputs_of_its_teacher(data: Data, tmp_path: Path) -> None:
    """Under variation, with nothing but the teacher, also where the targets are wrong."""
    teacher = digital_network()
    train(teacher, data, replace(NOISE, variation=VariationSettings()), tmp_path / "teacher")
    wrong = Data(train=replace(data.train, y=(data.train.y + 1) % 3))
    scores = {}
    for share in (None, 1.0):
        model = analog_network()
        objective = None if share is None else Distillation(teacher, share)
        train(model, wrong, NOISE, tmp_path / str(share), objective=objective)
        scores[share] = evaluate_chips(model, data.val, chips=5, seed=1).mean
    assert scores[None] < 0.2 and scores[1.0] > 0.8


def test_a_run_is_not_resumed_with_another_teacher(data: Data, tmp_path: Path) -> None:
    teacher, first = digital_network(), analog_network()
    train(first, data, NOISE, tmp_path, objective=Distillation(teacher))
    again = analog_network()
    train(again, data, NOISE, tmp_path, objective=Distillation(digital_network()))
    assert all(torch.equal(one, snapshot(first)[name]) for name, one in snapshot(again).items())
    other = {name: tensor + 0.1 for name, tensor in snapshot(teacher).items()}
    load_snapshot(teacher, other)
    for objective in (Distillation(teacher), Distillation(digital_network(), 0.6), None):
        with pytest.raises(CnetError) as caught:
            train(analog_network(), data, NOISE, tmp_path, objective=objective)
        assert caught.value.key == "objective"


@pytest.mark.parametrize(
    ("changes", "key"),
    [({"share": 0.0}, "share"), ({"share": 1.5}, "share"), ({"temperature": 0.0}, "temperature")],
)
def test_impossible_values_are_named(changes: dict[str, float], key: str) -> None:
    with pytest.raises(CnetError) as caught:
        Distillation(nn.Linear(2, 2), **changes)
    assert caught.value.key == key
