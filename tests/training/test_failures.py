"""A training that cannot go well says so, and leaves nothing bad behind."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from aihwkit.inference import ReRamWan2022NoiseModel
from aihwkit.nn.conversion import convert_to_analog as aihwkit_convert_to_analog
from aihwkit.simulator.configs import TorchInferenceRPUConfig
from torch import Tensor, nn

from cnet_aihw.rram import (
    LogNormalNoiseModel,
    snapshot,
    trainable_parameters,
)
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import read_records
from cnet_aihw.tasks import Classification
from cnet_aihw.training import (
    LipschitzPenalty,
    LipschitzSettings,
    TrainingDiverged,
    TrainingSettings,
    VariationSettings,
    load_checkpoint,
    train,
)

from .conftest import Data, analog_network, blobs, digital_network

PLAIN = TrainingSettings(epochs=3, batch_size=16, lr=0.05)
BOTH = replace(
    PLAIN,
    lipschitz=LipschitzSettings(enabled=True, beta=0.01),
    variation=VariationSettings(enabled=True),
)


def test_labels_outside_the_networks_classes_are_said_before_anything_is_written(
    tmp_path: Path,
) -> None:
    part = blobs(60, 2)
    data = Data(val=replace(part, y=part.y + 1))
    with pytest.raises(CnetError) as error:
        train(analog_network(), data, PLAIN, tmp_path / "run")
    assert (error.value.key, error.value.value) == ("targets", (1, 3))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("part", ["cross_entropy", "penalty"])
def test_divergence_names_step_and_part_and_keeps_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    calls = []

    def augment(x: Tensor, generator: torch.Generator) -> Tensor:
        calls.append(x)
        return x * math.nan if part == "cross_entropy" and len(calls) == 8 else x

    if part == "penalty":
        original = LipschitzPenalty.backward

        def broken(self: LipschitzPenalty, weight: float = 1.0) -> Tensor:
            return original(self, weight) * (math.inf if len(calls) == 8 else 1.0)

        monkeypatch.setattr(LipschitzPenalty, "backward", broken)
    model = analog_network()
    settings = replace(BOTH, checkpoint_seconds=0.0)
    with pytest.raises(TrainingDiverged) as error:
        train(model, Data(augment=augment), settings, tmp_path)
    assert error.value.key == part and not math.isfinite(error.value.value)
    assert "step 2 of epoch 1" in str(error.value)
    checkpoint = load_checkpoint(tmp_path / "checkpoint.safetensors")
    assert (checkpoint.meta["state"]["epoch"], checkpoint.meta["state"]["step"]) == (1, 2)
    for name, tensor in snapshot(model).items():
        assert torch.isfinite(tensor).all()
        assert torch.equal(tensor, checkpoint.model[name])
    assert len(read_records(tmp_path / "epochs.jsonl")) == 1


def test_weights_that_are_not_finite_are_never_kept(data: Data, tmp_path: Path) -> None:
    """A gradient can be NaN under a finite loss."""

    def objective(logits: Tensor, y: Tensor, x: Tensor) -> Tensor:
        return (logits * 0).abs().sqrt().sum()  # 0, with a gradient of 0 * inf

    with pytest.raises(TrainingDiverged) as error:
        train(
            analog_network(),
            data,
            replace(PLAIN, checkpoint_seconds=0.0),
            tmp_path,
            objective=objective,
        )
    assert error.value.key == "weights"
    tensors = load_checkpoint(tmp_path / "checkpoint.safetensors").model
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())


def frozen(model: nn.Module) -> nn.Module:
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model


def stock_network() -> nn.Module:
    return aihwkit_convert_to_analog(digital_network(), TorchInferenceRPUConfig())


@pytest.mark.parametrize(
    ("make", "settings", "key"),
    [
        (digital_network, BOTH, "training.variation.enabled"),
        (
            digital_network,
            replace(PLAIN, lipschitz=LipschitzSettings(enabled=True)),
            "training.lipschitz.enabled",
        ),
        (
            stock_network,
            PLAIN,
            "0",
        ),
        (
            lambda: analog_network(noise_model=LogNormalNoiseModel(0.5, sigma_die=0.1)),
            BOTH,
            None,
        ),
        (
            lambda: analog_network(noise_model=ReRamWan2022NoiseModel(g_max=40.0)),
            replace(PLAIN, variation=VariationSettings(enabled=True, gradient="reparametrized")),
            None,
        ),
        (lambda: frozen(analog_network()), PLAIN, "model"),
        (analog_network, replace(PLAIN, optimizer="sdg"), "training.optimizer"),
        (
            analog_network,
            replace(BOTH, lipschitz=LipschitzSettings(enabled=True, exclude=["feature"])),
            "lipschitz.exclude",
        ),
    ],
)
def test_mistakes_leave_no_folder_behind(
    data: Data, tmp_path: Path, make: Callable, settings: TrainingSettings, key: str | None
) -> None:
    with pytest.raises(CnetError) as error:
        train(make(), data, settings, tmp_path / "run")
    assert key is None or error.value.key == key
    assert not (tmp_path / "run").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(CnetError) as error:
        train(analog_network(), data, PLAIN, tmp_path / "file")
    assert error.value.key == "folder"


@pytest.mark.parametrize("kind", ["mask", "observer"])
def test_buffers_that_are_infinite_do_not_count_as_diverged(tmp_path: Path, kind: str) -> None:
    model = analog_network()
    model.register_buffer(kind, torch.full((3,), -math.inf))
    assert train(model, Data(), replace(PLAIN, epochs=1), tmp_path).epochs == 1
    assert load_checkpoint(tmp_path / "best.safetensors").model[kind].isinf().all()


@pytest.mark.parametrize("make", [digital_network, analog_network])
def test_weights_that_are_infinite_before_the_training_are_named(
    tmp_path: Path, make: Callable[[], nn.Module]
) -> None:
    model = make()
    with torch.no_grad():
        trainable_parameters(model)[0].view(-1)[0] = math.inf
    with pytest.raises(CnetError, check=lambda e: e.key in ("0.weight", "0.bias")):
        train(model, Data(), PLAIN, tmp_path / "run")
    assert not (tmp_path / "run").exists()


class Auxiliary(nn.Module):
    """A network with a second output in training mode, as GoogLeNet."""

    def __init__(self) -> None:
        super().__init__()
        self.network = digital_network()

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        y = self.network(x)
        return (y, y) if self.training else y


def test_outputs_in_training_mode_are_checked_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(CnetError, check=lambda e: e.key == "outputs" and e.value == "tuple"):
        train(Auxiliary(), Data(), PLAIN, tmp_path / "run")
    assert not (tmp_path / "run").exists()


class Cut(nn.Module):
    """Outputs without a gradient, in one of three ways."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.network, self.way = analog_network(), way

    def forward(self, x: Tensor) -> Tensor:
        with torch.set_grad_enabled(self.way != "no_grad" and torch.is_grad_enabled()):
            y: Tensor = self.network(x)
        return {"detach": y.detach(), "no_grad": y, "whole": y.round().long()}[self.way]


@pytest.mark.parametrize("way", ["detach", "no_grad", "whole"])
def test_outputs_without_a_gradient_are_refused_at_the_first_step(way: str, tmp_path: Path) -> None:
    with pytest.raises(CnetError, check=lambda e: e.key == "loss"):
        train(Cut(way), Data(), PLAIN, tmp_path / "run")


class CutLoss(Classification):
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().loss(outputs, targets).detach()


def test_a_loss_without_a_gradient_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CnetError, check=lambda e: e.key == "loss"):
        train(analog_network(), Data(), PLAIN, tmp_path / "run", task=CutLoss())


def test_batchnorm_on_batches_of_one_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    model = nn.Sequential(digital_network(), nn.BatchNorm1d(3))
    alone = replace(PLAIN, batch_size=1, epochs=1)
    with pytest.raises(CnetError, check=lambda e: e.key == "training.batch_size"):
        train(model, Data(), alone, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    frozen = replace(alone, freeze_batchnorm=True, lr=1e-4)
    assert train(model, Data(), frozen, tmp_path / "run").epochs == 1
