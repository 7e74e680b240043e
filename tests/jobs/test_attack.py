"""job=attack: records, statistics and table of attacks on trained networks; its page."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cnet_aihw.attacks import statistics_of
from cnet_aihw.report import write_report
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import read_json, read_records

FEW = [
    *("job=attack", "attack.samples=20", "attack.chips=2", "attack.eps=[0,'8/255']"),
    *("attack.method.steps=3", "attack.threat=[nominal,other_chip,this_chip]"),
]


def test_attacks_of_several_commands_stand_in_one_table(
    cli: Callable, trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("art", reason="the extra `attacks` is not installed")
    monkeypatch.setattr("cnet_aihw.report.page.save_figure", lambda *_: "<svg></svg>")
    assert cli(*trained, *FEW).code == 0
    assert cli(*trained, *FEW, "attack=apgd").code == 0
    folder = Path("run/plain")
    for name in ("pgd", "apgd"):
        record = read_json(folder / f"attack-{name}-inf.json")
        found = statistics_of(record)
        assert [(one.threat, one.eps) for one in found.successes] == [
            (threat, eps)
            for threat in ("nominal", "other_chip", "this_chip")
            for eps in (0.0, 8 / 255)
        ]
        assert {**record, **found.as_record()} == record
        pairs = [r for r in read_records(folder / record["records"]) if "threat" in r]
        assert len(pairs) == 2 * (2 + 2 + 2)
    rows = read_json(Path("run/attacks.json"))["rows"]
    assert [row["attack"] for row in rows] == ["apgd"] * 6 + ["pgd"] * 6
    assert all(row["mean"] == 0.0 for row in rows if row["eps"] == 0.0)
    page = write_report("run").read_text(encoding="utf-8")
    assert "Success of attacks" in page
    assert "From chip to chip" in page
    for table in ("attacks", "attack-matrix"):
        assert Path(f"run/report/{table}.csv").exists()


def test_other_values_than_those_of_earlier_attacks_are_refused_by_their_names(
    cli: Callable, trained: list[str], error_of: Callable[..., CnetError]
) -> None:
    pytest.importorskip("art", reason="the extra `attacks` is not installed")
    assert cli(*trained, *FEW).code == 0
    for word, key in (
        ("attack.samples=19", "attack.samples"),
        ("attack.seed=1", "attack.seed"),
        ("evaluation.seed=1", "evaluation.seed"),
        ("attack.method.steps=4", "attack.method.steps"),
    ):
        error = error_of(*trained, *FEW, word)
        assert error.key is not None and error.key.removeprefix("config.") == key, error
        assert "attack-pgd-inf" in str(error)


def test_networks_of_another_run_are_attacked(
    cli: Callable, trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("art", reason="the extra `attacks` is not installed")
    monkeypatch.setattr("cnet_aihw.report.page.save_figure", lambda *_: "<svg></svg>")
    outcome = cli(*trained[:-1], *FEW, "source=run", "run=attacked")
    assert outcome.code == 0, outcome.err
    page = write_report("attacked").read_text(encoding="utf-8")
    for word in ("mlp on digits", "lognormal", "Success of attacks", "source=run"):
        assert word in page


@pytest.mark.slow
def test_a_network_is_attacked_without_and_with_correctors_of_each_chip(cli: Callable) -> None:
    pytest.importorskip("art", reason="the extra `attacks` is not installed")
    words = [
        *("model=mlp", "data.size=8", "data.limit_train=100", "training=plain", "search=none"),
        *("training.epochs=1", "training.validation_chips=2", "evaluation.chips=2"),
        *("progress=false", "hydra.run.dir=run"),
    ]
    assert cli(*words).code == 0
    assert cli(*words, *FEW).code == 0
    rows = read_json(Path("run/attacks.json"))["rows"]
    bare, fitted = rows[:6], rows[6:]
    assert {row["compensation"] for row in bare} == {None}
    assert len({row["compensation"] for row in fitted}) == 1
    assert fitted[0]["compensation"] is not None
    assert [r["clean"] for r in bare] != [r["clean"] for r in fitted]


def test_impossible_attacks_are_refused(
    wrong: Callable[..., CnetError], error_of: Callable[..., CnetError], trained: list[str]
) -> None:
    assert wrong("attack.eps=[-1]").key == "attack.eps"
    assert wrong("attack.threat=[mine]").key == "attack.threat"
    assert error_of(*trained, "job=attack", "attack.method=null").key == "attack.method"


def test_what_cannot_be_attacked_is_refused_before_a_training(
    error_of: Callable[..., CnetError], tiny: list[str]
) -> None:
    pytest.importorskip("art", reason="the extra `attacks` is not installed")
    steps = "job.steps=[cnet_aihw.jobs.steps.train,cnet_aihw.jobs.steps_attack.attack]"
    words = [*tiny, "model=mlp", "training=plain", steps, "run=run"]
    error = error_of(*words, "attack.eps=[8]")
    assert (error.key, error.value) == ("attack.eps", 8.0)
    assert error_of(*words, "task=multi_label").key == "task"
    assert error_of(*words, "data=table", "data.path=wine").key == "data"
    assert not Path("run/plain").exists()
