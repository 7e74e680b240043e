"""Runs and sweeps of earlier versions are read under today's names, and have a page."""

import csv
import json
import re
import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from cnet_aihw.report import write_report
from cnet_aihw.report.load import current, read_run
from cnet_aihw.report.tables import Metric

OLD = Path(__file__).parent.parent / "fixtures" / "old_runs"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD, tmp_path / "old"))


def rows_of(folder: Path, name: str) -> list[dict[str, str]]:
    with open(folder / "report" / f"{name}.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_names_of_the_first_format_become_todays() -> None:
    evaluator = {"search": {"evaluator": {"kind": "shared"}}}
    record = {
        "key": "weights=1;data=2",
        "accuracy": 0.5,
        "cross_entropy": 1.5,
        "statistics": [{"accuracies": [0.5]}],
        "config": evaluator,
        "data_fingerprint": "abc",
    }
    found = current(record)
    assert (found["score"], found["fit"]) == (0.5, 1.5)
    assert found["statistics"] == [{"scores": [0.5]}]
    assert "key" not in found
    assert found["provenance"]["data"] == {"fingerprint": "abc"}
    assert found["provenance"]["config"]["search"]["evaluator"]["kind"] == "supernet"
    assert current(found) == found


def test_a_run_of_before_is_read_whole() -> None:
    run = read_run(OLD / "lenet5_mnist")
    assert run.metric == Metric("accuracy", higher_is_better=True)
    assert [training.name for training in run.trainings] == ["plain", "lipschitz"]
    plain, lipschitz = run.trainings
    record = json.loads((OLD / "lenet5_mnist" / "plain" / "chips.json").read_text())
    (statistics,) = plain.measurements[0].record["statistics"]
    assert statistics["scores"] == record["statistics"][0]["accuracies"]
    assert plain.epochs[0]["clean_score"] == 0.9786
    assert plain.settings is not None and plain.settings["epochs"] == 10
    assert lipschitz.searches[0].searcher == "ppo"
    assert all(0 < row["score"] < 1 for row in lipschitz.searches[0].rows)


def test_its_page_has_all_figures(old: Path) -> None:
    page = write_report(old / "lenet5_mnist").read_text()
    figures = set(re.findall(r'id="figure-(.*?)"', page))
    wanted = {"chips", "training", "sensitivity", "placement", "search-lipschitz"}
    assert wanted <= figures
    rows = rows_of(old / "lenet5_mnist", "results")
    assert [row["training"] for row in rows] == ["plain", "lipschitz"]
    assert "lenet5 on mnist" in page


def test_a_compensated_network_of_before_is_shown_beside_the_bare_one(old: Path) -> None:
    write_report(old / "devices")
    rows = rows_of(old / "devices", "results")
    assert [bool(row["compensation"]) for row in rows] == [False, True]
    chips = rows_of(old / "devices", "chips")
    scores = json.loads((OLD / "devices/lipschitz/chips.json").read_text())["statistics"][0]
    assert [float(row["score"]) for row in chips[: scores["chips"]]] == scores["accuracies"]


def test_a_sweep_of_before_has_curves(old: Path) -> None:
    page = write_report(old / "sweep").read_text()
    assert set(re.findall(r'id="figure-(.*?)"', page)) == {"sweep-mean", "sweep-q05"}
    table = json.loads((OLD / "sweep" / "sweep.json").read_text())
    rows = rows_of(old / "sweep", "sweep")
    assert [row["mean"] for row in rows] == [str(row["mean"]) for row in table["rows"]]


def test_links_of_a_renamed_training_lead_to_its_files(old: Path) -> None:
    folder = old / "lenet5_mnist"
    (folder / "lipschitz").rename(folder / "lipschitz #2 (50%)")
    (folder / "table.json").unlink()
    page = write_report(folder).read_text()
    addresses = [unquote(urlsplit(one).path) for one in re.findall(r'<a href="(report/.*?)"', page)]
    assert any("#2 (50%)" in address for address in addresses)
    assert all((folder / address).is_file() for address in addresses)
