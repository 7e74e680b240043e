"""Every job ends with its page, and `job=report` makes it again without touching the run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

Cli = Callable[..., Any]
WORDS = [
    *("model=mlp", "data.size=8", "data.limit_train=100", "training=plain", "compensation=none"),
    *("training.epochs=1", "training.validation_chips=2", "training.batch_size=32"),
    *("evaluation.chips=2", "progress=false"),
]
ODD = "it's 100 % mine, a=b"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_ends_with_its_page_and_job_report_remakes_it(cli: Cli) -> None:
    outcome = cli(*WORDS, f"run={ODD}")
    assert outcome.code == 0, outcome.err
    folder = Path(ODD)
    last = outcome.out.splitlines()[-1]
    assert last == f"report: {(folder / 'report.html').resolve()}"
    before = contents(folder)
    (folder / "report.html").unlink()
    outcome = cli("job=report", f"run={ODD}")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == f"{last}\n"
    assert contents(folder) == before  # the page with the same bytes, the run as it was


def test_a_training_alone_has_a_page(cli: Cli) -> None:
    outcome = cli(*WORDS, "job=train", "run=run")
    assert outcome.code == 0, outcome.err
    assert "plain: no chips are measured yet" in Path("run/report.html").read_text()


def test_a_folder_without_a_run_is_told_in_one_line(cli: Cli) -> None:
    Path("mine").mkdir()
    outcome = cli("job=report", "run=mine")
    assert outcome.code == 2
    assert outcome.err.startswith("cnet-aihw: error: ")
    assert f"{Path('mine').resolve()} is not the folder of a run" in outcome.err
    assert outcome.err.count("\n") == 1
    assert list(Path("mine").iterdir()) == []


def test_a_sweep_ends_with_its_page(cli: Cli) -> None:
    subfolder = "hydra.sweep.subdir=${hydra.job.num}"
    outcome = cli("-m", "rram.sigma=0.1,0.5", *WORDS, subfolder, "run=sweep")
    assert outcome.code == 0, outcome.err
    last = outcome.out.splitlines()[-1]
    assert last == f"report: {Path('sweep/report.html').resolve()}"
    page = Path("sweep/report.html").read_bytes()
    assert b"Sweep over rram.sigma" in page
    tables = {path: path.read_bytes() for path in Path("sweep").glob("sweep.*")}
    for path in (*tables, Path("sweep/report.html")):
        path.unlink()  # as where the sweep was stopped before its end
    assert cli("job=report", "run=sweep").out.splitlines()[-1] == last
    assert Path("sweep/report.html").read_bytes() == page
    assert {path: path.read_bytes() for path in tables} == tables
    # a job that was extended alone is taken up
    more = ("evaluation.chips=3", "job=evaluate", "run=sweep/1")
    assert cli(*WORDS[:-2], "rram.sigma=0.5", *more).code == 0
    outcome = cli("job=report", "run=sweep")
    assert outcome.code == 0, outcome.err
    rows = json.loads(Path("sweep/sweep.json").read_text())["rows"]
    assert [row["chips"] for row in rows] == [2, 3]
