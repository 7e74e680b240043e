"""Evaluation on CUDA: on a fake device, what mixes or waits for devices; on a GPU, the numbers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cnet_aihw.evaluation import (
    AffineCorrection,
    BatchNormReestimation,
    ChipCalibration,
    error_growth,
    evaluate_chips,
    measure,
    scan_layers,
)
from cnet_aihw.evaluation.metrics import pass_over
from cnet_aihw.rram import LogNormalNoiseModel, RRAMRPUConfig, convert_to_analog, snapshot
from cnet_aihw.runtime.device_parts import PlacedPart
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.parts import TensorPart
from cnet_aihw.tasks import Classification, Regression, Task

sys.path.insert(0, str(Path(__file__).parent.parent))
from fake_cuda import CUDA, cuda, fake_cuda

X = torch.randn(60, 1, 6, 6, generator=torch.Generator().manual_seed(1))
Y = torch.arange(60) % 3


def network() -> nn.Module:
    torch.manual_seed(0)
    digital = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    )
    return convert_to_analog(digital, RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.5))).eval()


class Reached(Exception):
    """The device is waited for."""


@pytest.mark.parametrize("task", [Classification(), Regression()])
def test_a_pass_waits_for_the_device_at_its_end_alone(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batch after batch goes to the device, and the first number asked for is the whole loss."""
    model, batches = network(), []
    y = Y if isinstance(task, Classification) else torch.randn(60, 3)
    with fake_cuda(model):
        model.register_forward_hook(lambda module, inputs, output: batches.append(output.device))

        def waiting(self: Tensor) -> float:
            raise Reached

        monkeypatch.setattr(Tensor, "__float__", waiting)
        with pytest.raises(Reached):
            pass_over(model, PlacedPart(TensorPart(X, y), CUDA, True), 20, task)
    assert batches == [CUDA] * 3


@pytest.mark.parametrize("calibration", [BatchNormReestimation(X, 20), AffineCorrection(X)])
def test_a_calibration_never_waits_for_the_device(
    calibration: ChipCalibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network()
    monkeypatch.setattr("cnet_aihw.evaluation.calibration.device_of", lambda model: CUDA)
    with fake_cuda(model), torch.no_grad(), calibration(model):
        assert model(torch.empty(4, 1, 6, 6, device=CUDA)).device == CUDA


@pytest.mark.cuda
@cuda
def test_scores_are_those_of_the_cpu_and_nothing_stays_on_the_device(tmp_path: Path) -> None:
    model = network()
    before = snapshot(model)
    for calibration in (None, BatchNormReestimation(X, 20), AffineCorrection(X)):
        arguments = {"chips": 4, "batch_size": 20, "calibration": calibration}
        expected = evaluate_chips(model, (X, Y), device="cpu", **arguments)
        found = evaluate_chips(model, (X, Y), device="cuda", **arguments)
        again = evaluate_chips(model, (X, Y), device="cuda", **arguments)
        assert found == again
        assert found.scores == pytest.approx(expected.scores, abs=1 / 60 + 1e-9)
    assert all(torch.equal(t, before[name]) for name, t in snapshot(model).items())
    assert all(p.device.type == "cpu" for p in model.parameters())


@pytest.mark.cuda
@cuda
def test_losses_are_exact_to_float32_without_tf32(tmp_path: Path) -> None:
    model = network()
    expected = measure(model, (X, Y))[0]
    path = tmp_path / "chips.jsonl"
    result = evaluate_chips(
        model, (X, Y), chips=1, noise_model=LogNormalNoiseModel(0.0), device="cuda", records=path
    )
    assert '"loss": ' in path.read_text() and result.failed == 0
    loss = float(path.read_text().split('"loss": ')[1].split(",")[0])
    assert loss == pytest.approx(expected, rel=1e-6)
    with pytest.raises(CnetError) as error:  # and another device's records are not mixed in
        evaluate_chips(
            model, (X, Y), chips=2, noise_model=LogNormalNoiseModel(0.0), device="cpu", records=path
        )
    assert error.value.key == "device"


@pytest.mark.cuda
@cuda
def test_scan_and_growth_of_the_error_run_on_the_device() -> None:
    model = network()
    scan = scan_layers(model, (X, Y), chips=2, batch_size=20, device="cuda")
    chips = evaluate_chips(model, (X, Y), chips=2, batch_size=20, device="cuda")
    assert scan.rows[0].scores == chips.scores
    on_cpu = error_growth(model, X, chips=2, device="cpu")
    for found, expected in zip(error_growth(model, X, chips=2, device="cuda"), on_cpu, strict=True):
        assert found.mean == pytest.approx(expected.mean, rel=1e-3)
