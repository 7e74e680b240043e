"""The page of a sweep: every result of every job as a row, curves over what was swept."""

import csv
import json
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import pytest

from cnet_aihw.report import write_report
from cnet_aihw.runtime.records import read_records


def rows_of(folder: Path, name: str = "sweep") -> list[dict[str, str]]:
    with open(folder / "report" / f"{name}.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_every_result_of_every_job_is_a_row(finished_sweep: Path) -> None:
    rows = rows_of(finished_sweep)
    sigmas = [row["rram.sigma"] for row in rows]
    assert sigmas == ["0.1", "0.5"]
    for row in rows:
        folder = finished_sweep / row["folder"] / row["training"]
        (statistics,) = json.loads((folder / "chips.json").read_text())["statistics"]
        for name in ("clean", "mean", "std", "q05"):
            assert row[name] == str(statistics[name])
        page = (finished_sweep / "report.html").read_text()
        assert f">{100 * statistics['mean']:.2f}<" in page


def test_the_page_has_curves_and_leads_to_the_pages_of_the_jobs(finished_sweep: Path) -> None:
    page = (finished_sweep / "report.html").read_text()
    figures = re.findall(r'<figure id="figure-(.*?)"', page)
    assert figures == ["sweep-mean", "sweep-q05"]
    for name in figures:
        assert (finished_sweep / "report" / f"{name}.png").is_file()
        assert (finished_sweep / "report" / f"{name}.svg").is_file()
    jobs = re.findall(r'<a href="([^"]*report\.html)"', page)
    assert len(jobs) == 2
    assert all((finished_sweep / unquote(job)).is_file() for job in jobs)
    assert not re.search(r"https?://|<script ", page)
    assert "rram.sigma=0.5, plain<" in page


@pytest.fixture
def searched(tmp_path: Path, finished: Path, plain_figures: None) -> Path:
    """A sweep over searchers' seeds, put together of the traces of one run."""
    rows = []
    for seed in ("0", "1"):
        job = tmp_path / "sweep" / f"search.seed={seed},a b"
        for training in ("plain", "lipschitz"):
            (trace,) = (finished / training / "search").iterdir()
            shutil.copytree(trace, job / training / "search" / trace.name)
            (job / training / "search.json").write_text("{}")
            described = json.loads((trace / "search.json").read_text())
            described["search"]["seed"] = int(seed)
            path = job / training / "search" / trace.name / "search.json"
            path.write_text(json.dumps(described))
            row = {**described["result"], "training": training, "search": "random"}
            rows.append({**row, "search.seed": seed, "folder": job.name, "placement": "none"})
    record = {"varied": ["search.seed"], "rows": rows}
    (tmp_path / "sweep" / "sweep-searches.json").write_text(json.dumps(record))
    return tmp_path / "sweep"


@pytest.mark.parametrize("varied", ["search.seed", "search="])
def test_searches_for_one_network_are_shown_together(
    searched: Path, finished: Path, varied: str
) -> None:
    table = searched / "sweep-searches.json"
    table.write_text(table.read_text().replace('"search.seed"', f'"{varied}"'))
    write_report(searched)
    page = (searched / "report.html").read_text()
    names = [f"{kind}-{name}" for name in ("plain", "lipschitz") for kind in ("search", "pareto")]
    assert re.findall(r'<figure id="figure-(.*?)"', page) == names
    (trace,) = finished.glob("plain/search/*/search.jsonl")
    rewards = [str(record["reward"]) for record in read_records(trace)]
    rows = rows_of(searched, "search-plain")
    assert [row["reward"] for row in rows] == rewards * 2
    assert [row["seed"] for row in rows] == ["0"] * len(rewards) + ["1"] * len(rewards)
    assert len(rows_of(searched, "searches")) == 4
