"""Selection on validation chips, training from plain weights, and the experiment that uses both."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cnet_aihw.evaluation import evaluate_chips, make_calibration
from cnet_aihw.rram import LogNormalNoiseModel, RRAMRPUConfig, convert_to_analog, load_snapshot
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import read_records
from cnet_aihw.training import load_checkpoint
from cnet_aihw.zoo import MLP, digits

Cli = Callable[..., Any]


@pytest.fixture
def small(tiny: list[str]) -> list[str]:
    """A selection of seconds among two trainings of a small network."""
    return [
        *tiny,
        *("model=mlp", "data.size=8", "data.limit_train=200", "training.lr=0.05"),
        *("training.compare=[plain,noise_from_plain]", "training.epochs=2", "run=run"),
        *("select.chips=2", "select.samples=100", "evaluation.calibration_samples=50"),
    ]


def read(path: str) -> Any:
    return json.loads(Path(path).read_text())


def test_a_training_starts_from_the_best_plain_weights(cli: Cli, small: list[str]) -> None:
    words = [*small, "training.optimizer=sgd", "training.momentum=0", "training.weight_decay=0"]
    words = [word for word in words if "training.lr=" not in word]
    assert cli(*words, "training.lr=1e-30", "job=train").code == 0
    plain, noise = (
        load_checkpoint(f"run/{name}/best.safetensors").model
        for name in ("plain", "noise_from_plain")
    )
    assert all(torch.equal(plain[name], noise[name]) for name in plain)
    assert read("run/noise_from_plain/run.json") != read("run/plain/run.json")
    outcome = cli(*small, "training.compare=[noise_from_plain,plain]", "run=other", "job=train")
    assert outcome.code == 2
    assert not list(Path("other").glob("*/run.json"))


def test_a_training_can_have_the_plain_network_as_its_teacher(cli: Cli, small: list[str]) -> None:
    words = [*small, "training.compare=[plain,noise_from_plain,noise_distilled]", "job=train"]
    assert cli(*words).code == 0
    weights = {
        name: load_checkpoint(f"run/{name}/best.safetensors").model
        for name in ("plain", "noise_from_plain", "noise_distilled")
    }
    distilled = weights.pop("noise_distilled")
    for other in weights.values():
        assert not all(torch.equal(tensor, other[name]) for name, tensor in distilled.items())
    made = read("run/noise_distilled/run.json")["provenance"]
    assert "Distillation" in made["objective"] and "'share': 0.5" in made["objective"]
    assert read("run/noise_from_plain/run.json")["provenance"]["objective"] is None
    result = read("run/noise_distilled/result.json")
    assert cli(*words).code == 0 and read("run/noise_distilled/result.json") == result
    outcome = cli(*words, "training.distillation.share=0.9")
    assert outcome.code == 2 and "objective" in outcome.err


def test_the_best_on_validation_chips_is_measured_on_the_test_part(
    cli: Cli, small: list[str], error_of: Callable[..., CnetError]
) -> None:
    assert cli(*small, "job=train").code == 0
    outcome = cli(*small, "job=select")
    assert outcome.code == 0, outcome.err
    found = read("run/select.json")
    rows, chosen = found["rows"], found["chosen"]
    assert [(row["training"], row["calibration_kind"]) for row in rows] == [
        *(("plain", "none"), ("plain", "affine")),
        *(("noise_from_plain", "none"), ("noise_from_plain", "affine")),
    ]
    assert all(row["allowed"] and row["chips"] == 2 for row in rows)
    assert chosen == max(rows, key=lambda row: row["mean"])

    # the value is that of the library alone, on the validation part
    data = digits(size=8, limit_train=200)
    network = MLP(data.input_shape, data.classes, hidden=(256, 128))
    model = convert_to_analog(network, RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.5)))
    weights = load_checkpoint(f"run/{chosen['training']}/best.safetensors").model
    load_snapshot(model, weights)
    calibration = make_calibration(chosen["calibration_kind"], data.train, 50)
    part = data.val.first(100)
    chips = evaluate_chips(model, part, chips=2, seed=3000, calibration=calibration)
    assert chips.mean == chosen["mean"]

    # the table has the chosen one, and the plain one, on the test part
    test = evaluate_chips(model, data.test, chips=2, seed=0, calibration=calibration)
    table = read("run/table.json")["rows"]
    assert table[-1]["mean"] == test.mean
    assert table[-1]["calibration"] == chosen["calibration"]
    assert [row["training"] for row in table] == ["plain", chosen["training"]]
    assert table[-1]["recovery"] == pytest.approx(test.mean / table[0]["clean"])
    (records,) = Path("run").glob("*/chips-selected-*.jsonl")
    seeds = {record["seed"] for record in read_records(records)}
    assert not seeds & {r["seed"] for r in read_records("run/plain/select-plain-none.jsonl")}

    # a limit leaves out what costs more; the same chips may not choose and judge
    assert cli(*small, "job=select", "select.limit=1e-6").code == 0
    again = read("run/select.json")
    assert [row["allowed"] for row in again["rows"]] == [True, False, True, False]
    assert again["chosen"]["calibration"] is None
    words = ["training.compare=[plain]", "select.limit=1e-6"]
    assert cli(*small, "job=select", *words).code == 0
    assert [row["training"] for row in read("run/table.json")["rows"]] == ["plain"]  # once
    assert error_of(*small, "job=select", "select.seed=0").key == "select.seed"


@pytest.mark.slow
def test_the_best_network_is_one_command(cli: Cli, tiny: list[str]) -> None:
    words = [word for word in tiny if word != "compensation=none"]
    words += ["model=mlp", "data.size=8", "data.limit_train=150", "training.lr=0.1", "run=run"]
    words += ["compensation.scan.chips=1", "compensation.scan.samples=50", "select.chips=1"]
    words += [
        "select.samples=50",
        "compensation.per_chip.samples=50",
    ]
    words += ["training.compare=[plain,noise_from_plain]", "select.calibrations=[none,affine]"]
    outcome = cli("experiment=best", *words)
    assert outcome.code == 0, outcome.err
    found = read("run/select.json")
    kinds = {(row["training"], row["compensation"]) for row in found["rows"]}
    names = ("plain", "noise_from_plain")
    assert kinds == {(name, label) for name in names for label in (None, "low rank of xy")}
    chosen = found["chosen"]
    (row,) = [r for r in read("run/table.json")["rows"] if r["training"] == chosen["training"]][-1:]
    assert row["compensation"] == chosen["compensation"]
    assert row["overhead_weights"] == (chosen["overhead_weights"] or None)
    assert "chips-selected.json" in {path.name for path in Path("run").glob("*/chips*.json")}
