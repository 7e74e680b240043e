"""A job of a regression: numbers in, numbers out, errors in its tables."""

import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cnet_aihw.evaluation import evaluate_chips
from cnet_aihw.rram import LogNormalNoiseModel, RRAMRPUConfig, convert_to_analog, load_snapshot
from cnet_aihw.runtime.parts import TensorPart
from cnet_aihw.runtime.records import read_records
from cnet_aihw.tasks import Regression
from cnet_aihw.training import load_checkpoint
from cnet_aihw.zoo import MLP, Dataset

Cli = Callable[..., Any]
OWN = "cnet_aihw_test_sums"


def sums(samples: int = 96) -> Dataset:
    """Vectors of 8 numbers, whose sums of halves are to be found."""
    x = torch.randn(samples + 64, 1, 1, 8, generator=torch.Generator().manual_seed(0))
    y = x.reshape(-1, 2, 4).sum(dim=2)
    parts = zip(x.split([samples, 32, 32]), y.split([samples, 32, 32]), strict=True)
    train, val, test = (TensorPart(*part) for part in parts)
    return Dataset("sums", train, val, test, 2, (1, 1, 8), None, "sums-0")  # type: ignore[arg-type]


@pytest.fixture
def words(tiny: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A regression on a data set and a network of the user's own."""
    module = types.ModuleType(OWN)
    vars(module)["sums"] = sums
    monkeypatch.setitem(sys.modules, OWN, module)
    return [
        *("task=regression", "task.unit=V", "data=custom", f"data._target_={OWN}.sums"),
        *("model=mlp", "model.hidden=[16]", *tiny, "training.epochs=8", "training.lr=0.05"),
        *("training.compare=[plain,noise]", "rram.sigma=0.2", "evaluation.threshold=2.0"),
        "hydra.run.dir=run",
    ]


def test_a_regression_is_trained_and_measured(
    cli: Cli, words: list[str], returned: list[float | None]
) -> None:
    outcome = cli(*words)
    assert outcome.code == 0, outcome.err
    trained = json.loads(Path("run/noise/result.json").read_text())
    assert returned == [-trained["chip_score"]]  # sweepers maximise
    table = json.loads(Path("run/table.json").read_text())
    assert (table["metric"], table["higher_is_better"]) == ("RMSE", False)
    plain, noise = table["rows"]

    # the numbers are those of the library alone, in the units of the targets
    data = sums()
    model = convert_to_analog(
        MLP((1, 1, 8), 2, hidden=(16,)), RRAMRPUConfig(noise_model=LogNormalNoiseModel(0.2))
    )
    load_snapshot(model, load_checkpoint("run/noise/best.safetensors").model)
    chips = evaluate_chips(model, data.test, task=Regression("V"), chips=2, seed=0)
    assert (noise["clean"], noise["mean"], noise["q05"]) == (chips.clean, chips.mean, chips.q05)
    spread = data.test.y.std().item()
    assert plain["clean"] < 0.8 * spread  # it has learned
    for row in (plain, noise):
        assert row["mean"] <= row["q05"] <= row["max"]  # the bad tail
        assert row["recovery"] == pytest.approx(plain["clean"] / row["mean"])
        records = read_records(f"run/{row['training']}/chips.jsonl")
        assert row["yield"] == sum(record["score"] <= 2.0 for record in records) / 2
    text = Path("run/table.txt").read_text()
    assert "clean %" not in text and "mean %" not in text
    assert text.splitlines()[0].endswith("  score: RMSE in V, better where it is lower")
    assert " V clean" in outcome.out

    # the one of the smaller error is selected
    steps = "job.steps=[cnet_aihw.jobs.steps_select.select]"
    chosen = ["select.calibrations=[none]", "select.chips=2", "select.samples=32"]
    outcome = cli(*words, "job=select", steps, *chosen)
    assert outcome.code == 0, outcome.err
    found = json.loads(Path("run/select.json").read_text())
    means = {row["training"]: row["mean"] for row in found["rows"]}
    assert len(set(means.values())) == 2
    assert found["chosen"]["training"] == min(means, key=lambda name: means[name])


def test_the_search_of_a_regression_is_checked_before_its_training(
    cli: Cli, words: list[str], only: Callable[[Callable[[Any], Any]], str]
) -> None:
    """Where lower is better a search needs the clean score, which training only brings."""
    built: list[Any] = []
    asked = [
        "compensation=paper",
        "compensation.limit=0.5",
        "compensation.limit_macs=null",
        "search=random",
    ]
    outcome = cli(*words, *asked, only(lambda job: built.append(job.networks)))
    assert outcome.code == 0, outcome.err
    assert set(built[0]) == {"plain", "noise"}


def test_a_sweep_over_metrics_keeps_the_direction_of_each(cli: Cli, words: list[str]) -> None:
    other = ("hydra.run.dir", "evaluation.threshold", "training.compare")
    given = [word for word in words if not word.startswith(other)]
    outcome = cli("-m", *given, "training=plain,noise", "task.metric=RMSE,R2", "run=sweep")
    assert outcome.code == 0, outcome.err
    sweep = json.loads(Path("sweep/sweep.json").read_text())
    assert (sweep["metric"], sweep["higher_is_better"]) == ("scores", True)
    assert [row["metric"] for row in sweep["rows"]] == ["RMSE", "R2"] * 2
    plain = {row["metric"]: row["clean"] for row in sweep["rows"] if row["training"] == "plain"}
    for row in sweep["rows"]:
        mean, reference = row["mean"], plain[row["metric"]]
        wanted = reference / mean if row["metric"] == "RMSE" else mean / reference
        assert row["recovery"] == pytest.approx(wanted)
    assert "worst 5 %" in (table := Path("sweep/sweep.txt").read_text())
    assert table.count("worst") == 1  # a worst chip is the lowest of one, the highest of the other
    page = Path("sweep/report.html").read_text()
    assert "highest mean" not in page and "<svg" not in page
