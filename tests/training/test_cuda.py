"""Training on CUDA: a killed run ends as one that was not, and the model comes back."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cnet_aihw.rram import snapshot
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.training import (
    LipschitzSettings,
    TrainingSettings,
    VariationSettings,
    load_checkpoint,
    train,
)
from cnet_aihw.training.checkpoint import all_finite

from .conftest import Data, analog_network

sys.path.insert(0, str(Path(__file__).parent.parent))
from fake_cuda import cuda

SETTINGS = TrainingSettings(
    epochs=2,
    batch_size=16,
    checkpoint_seconds=0.0,
    validation_chips=2,
    lipschitz=LipschitzSettings(enabled=True, beta=0.01),
    variation=VariationSettings(enabled=True),
)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_one_look_finds_any_number_that_is_not_finite(
    bad: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the tensor that holds it, the device is waited for once."""
    tensors = {
        "a": torch.full((3, 2), 3e38),
        "b": torch.ones(2, dtype=torch.float64),
        "counter": torch.tensor(2),
        "none": torch.empty(0),
        "half": torch.ones(2, dtype=torch.bfloat16),
    }
    looks: list[Tensor] = []
    real = Tensor.__bool__
    monkeypatch.setattr(Tensor, "__bool__", lambda t: looks.append(t) or real(t))
    assert all_finite(tensors)
    assert len(looks) == 1
    for name in ("a", "b", "half"):
        changed = tensors[name].clone()
        changed[-1] = bad
        assert not all_finite({**tensors, name: changed})


class Killed(BaseException):
    """Stands for a kill in the middle of a step."""


@pytest.mark.cuda
@cuda
@pytest.mark.parametrize("steps_per_chip", [0, 3])
def test_kills_change_nothing_on_the_device(tmp_path: Path, steps_per_chip: int) -> None:
    settings = replace(SETTINGS, variation=VariationSettings(True, steps_per_chip))
    outcomes = []
    for name, every in (("whole", 1000), ("killed", 3)):
        kills, done = 0, False
        while not done:
            left = every

            def augment(x: Tensor, generator: torch.Generator) -> Tensor:
                nonlocal left
                left -= 1
                if left < 0:
                    raise Killed
                assert x.device.type == "cuda" and generator.device.type == "cpu"
                return x + 0.01 * torch.randn(x.shape, generator=generator).to(x.device)

            try:
                data = Data(augment=augment)
                train(analog_network(), data, settings, tmp_path / name, device="cuda")
                done = True
            except Killed:
                kills += 1
        assert (kills > 0) is (name == "killed")
        outcomes.append(load_checkpoint(tmp_path / name / "best.safetensors").model)
    assert all(torch.equal(tensor, outcomes[1][name]) for name, tensor in outcomes[0].items())


@pytest.mark.cuda
@cuda
def test_the_model_comes_back_and_the_device_is_part_of_the_run(tmp_path: Path) -> None:
    model: nn.Module = analog_network()
    result = train(model, Data(), SETTINGS, tmp_path, device="cuda", progress=False)
    assert {p.device.type for p in model.parameters()} == {"cpu"}
    best = load_checkpoint(tmp_path / "best.safetensors").model
    assert all(torch.equal(t, best[name]) for name, t in snapshot(model).items())
    assert result.clean_score > 0.5
    with pytest.raises(CnetError) as error:
        train(analog_network(), Data(), SETTINGS, tmp_path, device="cpu", progress=False)
    assert error.value.key == "device"
