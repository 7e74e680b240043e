"""job=tune: records, statistics and table of tuned networks; its page."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cnet_aihw.report import write_report
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import read_json, read_records
from cnet_aihw.tuning.statistics import tuning_statistics_of

from .conftest import MLP8

FEW = [
    *("job=tune", "tuning.samples=64", "tuning.chips=2", "tuning.others=1", "tuning.epochs=1"),
    "tuning.validation_samples=50",
]


def test_ways_of_several_commands_stand_in_one_table(
    cli: Callable, trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnet_aihw.report.page.save_figure", lambda *_: "<svg></svg>")
    assert cli(*trained, *FEW).code == 0
    assert cli(*trained, *FEW, "tuning=physics_aware", "tuning.rewrite_sigma=0.1").code == 0
    folder = Path("run/plain")
    ways = {
        "tuning-progressive-model": ("progressive", 0.0, 1),
        "tuning-all-model-rewrite0.1": ("all", 0.1, 2),
    }
    chips = {r["chip"]: r["seed"] for r in read_records(folder / "chips.jsonl")}
    for name, (tune, fresh, writes) in ways.items():
        record = read_json(folder / f"{name}.json")
        found = tuning_statistics_of(record)
        assert (found.tune, found.rewrite_sigma, found.writes_most) == (tune, fresh, writes)
        assert {**record, **found.as_record()} == record
        records = read_records(folder / record["records"])
        assert [r["chip"] for r in records] == [0, 1]
        assert all(chips.get(r["chip"], r["seed"]) == r["seed"] for r in records)
        assert found.score == pytest.approx(sum(r["score"] for r in records) / 2)
    rows = read_json(Path("run/tunings.json"))["rows"]
    assert [(row["tune"], row["rewrite_sigma"]) for row in rows] == [
        ("all", 0.1),
        ("progressive", 0.0),
    ]
    page = write_report("run").read_text(encoding="utf-8")
    for title in ("Tuning on chips", "Score and cost of tuning", "Course of the tuning"):
        assert title in page
    for table in ("tunings", "tuning-course"):
        assert Path(f"run/report/{table}.csv").exists()


def test_the_time_that_is_not_looked_at_is_said(cli: Callable, tiny: list[str]) -> None:
    """Tuning and attacks see chips at the first of several times alone."""
    drift = ["rram=pcm", "evaluation.t_inference=[60,3600]", "hydra.run.dir=run", "training=plain"]
    words = [*MLP8, *drift]
    assert cli(*words, "job=train").code == 0
    few = ["attack.method.steps=1", "attack.samples=4", "attack.chips=1", "attack.threat=[nominal]"]
    for more in ([*FEW, "tuning=digital"], ["job=attack", "attack.eps=[0.1]", *few]):
        assert cli(*words, *more).code == 0
    for name in ("tunings", "attacks"):
        note = Path(f"run/{name}.txt").read_text().splitlines()
        assert any("60 s" in line and "evaluation.t_inference" in line for line in note)
    (record,) = read_records(Path("run/plain/tuning-digital-model/chips.jsonl"))[:1]
    assert cli(*words, "job=evaluate").code == 0
    same = [r for r in read_records(Path("run/plain/chips.jsonl")) if r["t_inference"] == 60]
    assert record["before"] == pytest.approx(same[0]["score"])


def test_networks_of_another_run_are_tuned(
    cli: Callable, tiny: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnet_aihw.report.page.save_figure", lambda *_: "<svg></svg>")
    words = [
        *("data=table", "data.path=diabetes", "data.target=number", "task=regression"),
        *("model=mlp", "training=plain", "training.epochs=1", "training.validation_chips=2"),
        *("compensation=none", "evaluation.chips=2", "progress=false"),
    ]
    assert cli(*words, "job=train", "run=run").code == 0
    outcome = cli(*words, *FEW, "source=run", "run=tuned")
    assert outcome.code == 0, outcome.err
    page = write_report("tuned").read_text(encoding="utf-8")
    assert "mlp on table" in page and "RMSE" in page and "accuracy" not in page


@pytest.mark.slow
def test_correctors_are_fitted_to_each_chip_and_tuned_there(cli: Callable) -> None:
    words = [
        *("model=mlp", "data.size=8", "data.limit_train=100", "training=plain", "search=none"),
        *("training.epochs=1", "training.validation_chips=2", "evaluation.chips=2"),
        *("progress=false", "hydra.run.dir=run"),
    ]
    assert cli(*words).code == 0
    assert cli(*words, *FEW, "tuning=correctors").code == 0
    (row,) = read_json(Path("run/tunings.json"))["rows"]
    assert row["compensation"] is not None
    assert row["overhead"] > 0.0
    assert (row["writes_most"], row["tuned_per_chip"]) == (1, None)
    means = read_json(Path("run/plain/chips-compensated.json"))["statistics"][0]
    assert row["per_chip"] == pytest.approx(means["mean"])


def test_impossible_tunings_are_refused(
    wrong: Callable[..., CnetError], error_of: Callable[..., CnetError], trained: list[str]
) -> None:
    assert wrong("tuning.tune=some").key == "tuning.tune"
    assert wrong("tuning.rewrite_sigma=-1").key == "tuning.rewrite_sigma"
    error = error_of(*trained, *FEW, "tuning=correctors")
    assert error.key == "tuning.tune"
    assert str(error).startswith("tuning.tune is correctors")
    error = error_of(*trained, *FEW, "tuning=physics_aware", "tuning.max_writes=1")
    assert error.key == "tuning.max_writes"
    assert "tuning.max_writes is 1" in str(error)
    assert error.fix is not None and "tuning.tune=progressive" in error.fix
    table = ["data=table", "data.path=diabetes", "data.target=number", "task=regression"]
    words = [*table, "model=mlp", "training=plain", "compensation=none", "progress=false"]
    steps = "job.steps=[cnet_aihw.jobs.steps.train,cnet_aihw.jobs.steps_tune.tune]"
    error = error_of(*words, *FEW, steps, "tuning=random_target", "hydra.run.dir=before")
    assert error.key == "tuning.backward"
    assert not Path("before/plain").exists()
