"""Several processes train as one does, to rounding."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cnet_aihw.rram import LogNormalNoiseModel, RRAMRPUConfig, convert_to_analog, snapshot
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import read_records
from cnet_aihw.tasks import LanguageModelling
from cnet_aihw.training import (
    LipschitzSettings,
    TrainingParts,
    TrainingSettings,
    VariationSettings,
    train,
)
from cnet_aihw.training.group import Group


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)]
    return convert_to_analog(
        nn.Sequential(*layers), RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.3))
    )


def data() -> Any:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(69, 1, 6, 6, generator=generator), torch.arange(69) % 3
    x += 0.5 * y[:, None, None, None]
    return TrainingParts(train=(x, y), val=(x[:20], y[:20]))


def settings(**changed: Any) -> TrainingSettings:
    """Two epochs of batches of 16, 16, 16, 16 and 5 samples."""
    return TrainingSettings(
        epochs=2,
        batch_size=16,
        validation_chips=2,
        grad_clip=1.0,
        lipschitz=LipschitzSettings(enabled=True, beta=0.01),
        **changed,
    )


def losses(folder: Path) -> list[float]:
    return [record["loss"] for record in read_records(folder / "epochs.jsonl")]


@pytest.mark.slow
def test_two_processes_train_as_one_to_rounding(tmp_path: Path) -> None:
    variation = VariationSettings(enabled=True)
    weights = []
    for processes in (1, 2):
        model, folder = network(), tmp_path / str(processes)
        given = {"settings": settings(variation=variation), "device": "cpu", "progress": False}
        train(model, data(), folder=folder, processes=processes, **given)
        weights.append(snapshot(model))
    assert losses(tmp_path / "2") == pytest.approx(losses(tmp_path / "1"), rel=1e-5)
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("processes", [0, -1, 1.5, 10**6])
def test_impossible_numbers_are_refused(tmp_path: Path, processes: Any) -> None:
    with pytest.raises(CnetError) as error:
        train(network(), data(), settings(), tmp_path / "run", device="cpu", processes=processes)
    assert error.value.key == "processes"
    assert not (tmp_path / "run").exists()


def test_a_parameter_without_gradient_gets_none_from_a_sum(tmp_path: Path) -> None:
    """Otherwise weight decay would take from it, as it does not with one process."""
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
    used.grad = torch.tensor([2.0, 4.0])
    meeting = f"file://{tmp_path}/meeting"
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=0, world_size=1)
    try:
        group = Group(0, 1, torch.device("cpu"))
        row = group.add_up([used, unused], torch.tensor([3.0]), 0.5)
    finally:
        torch.distributed.destroy_process_group()
    assert used.grad.tolist() == [1.0, 2.0]
    assert unused.grad is None
    assert row.tolist() == [1.5]


def test_the_share_of_a_process_counts_the_targets_that_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Group, "_same_random_state", lambda self: None)
    targets = torch.tensor([[0, 1], [-100, 2], [-100, -100], [1, -100]])
    weights = []
    for rank in (0, 1):
        group = Group(rank, 2, torch.device("cpu"))
        _, some, weight = group.share(torch.zeros(4, 2), targets, LanguageModelling().counted)
        assert some.tolist() == targets[2 * rank : 2 * rank + 2].tolist()
        weights.append(float(weight))
    assert weights == [0.75, 0.25]


def test_a_run_resumes_with_as_many_processes_as_it_began_with(tmp_path: Path) -> None:
    given: dict[str, Any] = {"folder": tmp_path / "run", "device": "cpu", "progress": False}
    train(network(), data(), settings(), **given)
    with pytest.raises(CnetError) as error:
        train(network(), data(), settings(), processes=2, **given)
    assert (error.value.key, error.value.value) == ("processes", 2)


def test_a_network_that_cannot_be_sent_is_refused_before_any_process_starts(
    tmp_path: Path,
) -> None:
    """The error of torch, for one, is a RuntimeError."""
    torch.manual_seed(0)
    stem = nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 4, 3))
    model = convert_to_analog(nn.Sequential(stem, nn.Flatten(), nn.Linear(64, 3)), RRAMRPUConfig())
    with pytest.raises(CnetError) as error:
        train(model, data(), settings(), tmp_path / "run", device="cpu", processes=2)
    assert (error.value.key, error.value.fix) == ("model", "processes=1")
    assert "parametriz" in str(error.value)
