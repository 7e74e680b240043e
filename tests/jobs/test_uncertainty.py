"""job=uncertainty: records, statistics and table of predictions on chips; its page."""

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from cnet_aihw.report import write_report
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import read_json, read_records

FEW = ["job=uncertainty", "bayes.samples=[1,3]", "bayes.chips=2", "bayes.fit_samples=3"]
CELLS = [
    *("model=mlp", "data.size=8", "data.limit_train=100", "rram=stochastic_cell", "rram.nu=0.05"),
    *("training=bayes_binary", "training.epochs=1", "compensation=none", "progress=false"),
    "hydra.run.dir=run",
]


def test_sources_of_several_commands_stand_in_one_table(
    cli: Callable, trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnet_aihw.report.page.save_figure", lambda *_: "<svg></svg>")
    ood = "bayes.ood={_target_: cnet_aihw.zoo.digits, size: 8}"
    assert cli(*trained, *FEW, ood, "bayes.baselines=[deterministic,laplace]").code == 0
    folder = Path("run/plain")
    for kind in ("none", "temperature"):
        record = read_json(folder / f"uncertainty-chips-{kind}.json")
        records = read_records(folder / record["records"])
        assert [(r["chip"], r["samples"]) for r in records] == [(0, 1), (0, 3), (1, 1), (1, 3)]
        row = record["rows"][-1]
        expected = sum(r["nll"] for r in records if r["samples"] == 3) / 2
        assert row["mean"]["nll"] == pytest.approx(expected)
        # nearly the same data: by chance
        assert row["mean"]["auroc_entropy"] == pytest.approx(0.5, abs=0.05)
    rows = read_json(Path("run/uncertainties.json"))["rows"]
    assert [(row["method"], row["correction"], row["samples"]) for row in rows] == [
        *(("chips", "none", 1), ("chips", "none", 3)),
        *(("chips", "temperature", 1), ("chips", "temperature", 3)),
        ("deterministic", "none", 1),
        *(("laplace", "none", 1), ("laplace", "none", 3)),
    ]
    page = write_report("run").read_text(encoding="utf-8")
    for title in ("Uncertainty", "Reliability", "Scores over samples"):
        assert title in page
    for table in ("uncertainties", "reliability"):
        assert Path(f"run/report/{table}.csv").exists()


def test_a_table_says_that_correctors_have_no_part_in_it(cli: Callable, trained: list[str]) -> None:
    words = [word for word in trained if word != "compensation=none"]
    for more, said in (["compensation=none"], False), (["compensation=default"], True):
        assert cli(*words, *FEW, *more).code == 0
        assert ("no correctors" in Path("run/uncertainties.txt").read_text()) == said


def test_networks_of_another_run_are_measured(
    cli: Callable, trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnet_aihw.report.page.save_figure", lambda *_: "<svg></svg>")
    outcome = cli(*trained[:-1], *FEW, "source=run", "run=other")
    assert outcome.code == 0, outcome.err
    page = write_report("other").read_text(encoding="utf-8")
    assert "mlp on digits" in page and "Reliability" in page


def test_what_cannot_be_measured_is_refused_before_a_training(
    error_of: Callable[..., CnetError], tiny: list[str]
) -> None:
    steps = "job.steps=[cnet_aihw.jobs.steps.train,cnet_aihw.jobs.steps_uncertainty.uncertainty]"
    words = [*tiny, "model=mlp", "training=plain", steps, "run=run"]
    assert error_of(*words, "task=multi_label").key == "task"
    assert error_of(*words, "bayes.source=readings").key == "bayes.source"
    own = "evaluation.calibration"
    assert error_of(*words, f"{own}=affine").key == own
    assert error_of(*words, "bayes.source=cells").key == "bayes.source"
    assert error_of(*words, "bayes.baselines=[mc_dropout]").key == "model"
    assert (
        error_of(*words, "bayes.ood={_target_: cnet_aihw.zoo.digits, size: 8}").key == "bayes.ood"
    )
    assert not Path("run/plain").exists()


def test_no_forward_takes_more_inputs_than_the_batch_size(
    cli: Callable, trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def seen(model: Any, inputs: Any) -> Any:
        sizes.append(len(inputs))
        return model(inputs)

    monkeypatch.setattr("cnet_aihw.bayes.sampling.checked_call", seen)
    words = ["bayes.baselines=[deterministic,laplace]", "bayes.correction=[none,temperature]"]
    assert cli(*trained, *FEW, *words, "evaluation.batch_size=17", "bayes.chips=1").code == 0
    assert max(sizes) == 17


def test_a_sweep_ends_with_one_table_and_page_of_all_jobs(
    cli: Callable, trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnet_aihw.report.page.save_figure", lambda *_: "<svg></svg>")
    words = [*trained[:-1], *FEW, "source=run", "run=sweep", "bayes.baselines=[]"]
    outcome = cli(*words, "bayes.correction=[none]", "evaluation.seed=1,2", "-m")
    assert outcome.code == 0, outcome.err
    table = read_json(Path("sweep/sweep-uncertainties.json"))
    assert table["varied"] == ["evaluation.seed"] and not Path("sweep/sweep.json").exists()
    assert [row["evaluation.seed"] for row in table["rows"]] == ["1", "1", "2", "2"]
    jobs = dict.fromkeys(row["folder"] for row in table["rows"])
    of_jobs = [row for job in jobs for row in read_json(f"sweep/{job}/uncertainties.json")["rows"]]
    for row, own in zip(table["rows"], of_jobs, strict=True):
        assert {name: row[name] for name in own} == own
    assert "sweep over evaluation.seed" in outcome.out
    for folder in (*(f"sweep/{job}" for job in jobs), "sweep"):
        page = write_report(folder).read_text(encoding="utf-8")
    assert re.findall(r'<a href="([^"]*)/report.html">', page) == [quote(job) for job in jobs]
    with open("sweep/report/uncertainties.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["nll"] for row in rows] == [str(row["nll"]) for row in table["rows"]]


@pytest.mark.slow
def test_a_posterior_is_trained_and_sampled_by_its_cells_over_time(cli: Callable) -> None:
    assert cli(*CELLS, "job=train").code == 0
    words = ["bayes.source=cells", "evaluation.t_inference=[1,86400]", "bayes.baselines=[]"]
    assert cli(*CELLS, *FEW, *words).code == 0
    rows = read_json(Path("run/uncertainties.json"))["rows"]
    assert [(r["correction"], r["t_inference"], r["samples"]) for r in rows] == [
        *(("none", 1.0, 1), ("none", 1.0, 3), ("none", 86400.0, 1), ("none", 86400.0, 3)),
        *(("temperature", 1.0, 3), ("temperature", 86400.0, 3)),
    ]
    assert all(row["mutual_information"] > 0 for row in rows if row["samples"] > 1)
    assert "Scores over time" in Path("run/report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["bayes.source=dice"], "bayes.source"),
        (["bayes.samples=[0]"], "bayes.samples"),
        (["bayes.correction=[bias]"], "bayes.correction"),
        (["bayes.baselines=[oracle]"], "bayes.baselines"),
        (["bayes.source=readings"], "source"),
        (["bayes.source=cells"], "source"),
        (["bayes.ood={_target_: cnet_aihw.zoo.digits}"], "bayes.ood"),
    ],
)
def test_values_that_cannot_be_are_refused(
    words: list[str], key: str, cli: Callable, trained: list[str]
) -> None:
    outcome = cli(*trained, *FEW, *words)
    assert outcome.code != 0
    assert key in outcome.err
    assert not list(Path("run/plain").glob("uncertainty-*"))


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["training=plain", "rram=stochastic_cell"], "training.optimizer"),
        (["training=bayes_binary"], "model"),
    ],
)
def test_cells_and_binary_training_belong_together(
    words: list[str], key: str, cli: Callable
) -> None:
    few = ["model=mlp", "data.size=8", "compensation=none", "job=train", "progress=false"]
    outcome = cli(*few, *words, "training.epochs=1", "hydra.run.dir=run")
    assert outcome.code != 0
    assert key in outcome.err
