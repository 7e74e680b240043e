"""Jobs that calibrate each chip before it is measured."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from cnet_aihw.evaluation import AffineCorrection, BatchNormReestimation, evaluate_chips
from cnet_aihw.rram import LogNormalNoiseModel, RRAMRPUConfig, convert_to_analog, load_snapshot
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.training import load_checkpoint
from cnet_aihw.zoo import MLP, VGG16, arrays, digits

Cli = Callable[..., Any]
KINDS = {"batchnorm": BatchNormReestimation, "affine": AffineCorrection}


def read(path: str) -> Any:
    return json.loads(Path(path).read_text())


def weights_of(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.slow
def test_each_chip_is_calibrated_as_by_the_library(
    cli: Cli, tiny: list[str], images: Callable[..., Path]
) -> None:
    data = ["data=arrays", f"data.path={images(32, 3)}", "data.val_size=0.2"]
    words = [*data, "model=vgg16", "model.width=0.125", *tiny, "training=plain"]
    outcome = cli(*words, "hydra.run.dir=none")
    assert outcome.code == 0, outcome.err
    found = arrays(images(32, 3), val_size=0.2)
    model = convert_to_analog(
        VGG16(found.input_shape, found.classes, width=0.125),
        RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.5)),
    )
    load_snapshot(model, load_checkpoint("none/plain/best.safetensors").model)
    for name, kind in KINDS.items():
        asked = [f"evaluation.calibration={name}", "evaluation.calibration_samples=20"]
        outcome = cli(*words, "job=evaluate", "source=none", *asked, f"hydra.run.dir={name}")
        assert outcome.code == 0, outcome.err
        (row,) = read(f"{name}/table.json")["rows"]
        calibration = kind(found.train.x[:20])
        chips = evaluate_chips(model, found.test, chips=2, seed=0, calibration=calibration)
        assert (row["mean"], row["std"]) == (chips.mean, chips.std)
        assert row["calibration"] == calibration.label()
        assert calibration.label() in outcome.out
        weights = weights_of(VGG16(width=0.125, classes=3))
        cost = calibration.cost(model)
        assert (row["overhead_weights"] or 0.0) == pytest.approx(cost / weights)
        assert (cost > 0) == (name == "affine")


def test_compensated_networks_are_calibrated_too(cli: Cli, tiny: list[str]) -> None:
    words = [*tiny, "data.limit_train=64", "training=plain", "evaluation.calibration=affine"]
    words += ["model=mlp", "data.size=8", "compensation.shared.validation_chips=2"]
    placed = ["compensation=paper", "compensation.placement={layers.fc1: 0.1}"]
    outcome = cli(*words, *placed, "compensation.shared.epochs=1", "hydra.run.dir=run")
    assert outcome.code == 0, outcome.err
    plain, compensated = read("run/table.json")["rows"]
    data = digits(size=8, limit_train=64)
    assert plain["calibration"] == compensated["calibration"] == "affine correction (64 inputs)"
    network = MLP(data.input_shape, data.classes, hidden=(256, 128))
    affine = 2 * (256 + 128 + 10) / weights_of(network)
    assert plain["overhead_weights"] == pytest.approx(affine)
    described = read("run/plain/compensation.json")
    expected = affine + described["overhead_weights"]
    assert compensated["overhead_weights"] == pytest.approx(expected)


def test_batchnorm_is_missed_before_the_training(
    tiny: list[str], error_of: Callable[..., CnetError]
) -> None:
    error = error_of(*tiny, "evaluation.calibration=batchnorm", "hydra.run.dir=run")
    assert (error.key, error.value) == ("evaluation.calibration", "batchnorm")
    assert not list(Path("run").rglob("*.safetensors"))


def test_other_measurements_in_a_folder_are_not_mixed(cli: Cli, trained: list[str]) -> None:
    before = Path("run/plain/chips.jsonl").read_bytes()
    outcome = cli(*trained, "job=evaluate", "evaluation.calibration=affine")
    assert outcome.code == 2
    assert "chips.jsonl" in outcome.err
    assert outcome.err.count("\n") == 1
    assert Path("run/plain/chips.jsonl").read_bytes() == before
