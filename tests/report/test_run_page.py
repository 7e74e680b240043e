"""The page of a run: it shows what the records say, needs nothing else, and is always the same."""

import csv
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from cnet_aihw.report import write_report
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import read_records

Copy = Callable[[Path], Path]
FIGURES = {
    *(
        "chips",
        "error-growth",
        "before-after",
        "training",
        "spectral-norms",
        "sensitivity",
        "placement",
        "fit",
    ),
    *(f"{figure}-{name}" for figure in ("search", "pareto") for name in ("plain", "lipschitz")),
}


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with open(folder / "report" / f"{name}.csv", newline="") as file:
        return list(csv.DictReader(file))


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def page_of(folder: Path) -> str:
    return (folder / "report.html").read_text()


def same(value: str, record: Any) -> bool:
    """Whether a cell says exactly what a record says."""
    return value == ("" if record is None else str(record))


def test_the_results_are_those_of_the_records(finished: Path) -> None:
    rows = table(finished, "results")
    assert len(rows) == 4
    of_the_job = {
        (row["training"], row["compensation"] or ""): row
        for row in read(finished / "table.json")["rows"]
    }
    for row in rows:
        end = "-compensated" if row["compensation"] else ""
        folder = finished / row["training"]
        (statistics,) = read(folder / f"chips{end}.json")["statistics"]
        for name in ("clean", "mean", "std", "q05", "min", "yield", "threshold", "chips", "seed"):
            assert same(row[name], statistics[name]), name
        in_table = of_the_job[row["training"], row["compensation"]]
        for name in ("recovery", "overhead_weights", "overhead_macs"):
            assert same(row[name], in_table[name]), name
        assert same(row["training_seconds"], read(folder / "result.json")["seconds"])
        seconds = [chip["seconds"] for chip in read_records(folder / f"chips{end}.jsonl")]
        assert float(row["chips_seconds"]) == math.fsum(seconds)
        assert row["command"] == read(finished / "table.json")["command"]
        shown = f">{100 * statistics['mean']:.2f}<"
        assert shown in page_of(finished)


def test_the_numbers_on_top_are_those_of_the_highest_mean(finished: Path) -> None:
    best = max(read(finished / "table.json")["rows"], key=lambda row: row["mean"])
    numbers = re.findall(r"<dd>(.*?)</dd>", page_of(finished))
    assert numbers[0] == f"{100 * best['mean']:.2f}\N{NO-BREAK SPACE}%"
    assert numbers[1] == f"{100 * best['q05']:.2f}\N{NO-BREAK SPACE}%"


def test_what_an_earlier_job_measured_is_not_the_highest_of_the_table(
    finished: Path, copy: Copy
) -> None:
    folder = copy(finished)
    path = folder / "plain" / "chips-compensated.json"
    record = read(path)
    record["statistics"][0]["mean"] = 1.0
    path.write_text(json.dumps(record))
    tabled = read(folder / "table.json")
    gone = [
        r for r in tabled["rows"] if (r["training"], r["compensation"] is None) == ("plain", False)
    ]
    tabled["rows"] = [row for row in tabled["rows"] if row not in gone]
    (folder / "table.json").write_text(json.dumps(tabled))
    write_report(folder)
    assert len(gone) == 1 and len(table(folder, "results")) == 3
    numbers = re.findall(r"<dd>(.*?)</dd>", page_of(folder))
    best = max(row["mean"] for row in tabled["rows"])
    assert numbers[0].startswith(f"{100 * best:.2f}")


def test_a_training_that_the_table_lacks_is_not_the_highest_of_it(
    finished: Path, copy: Copy
) -> None:
    folder = copy(finished)
    path = folder / "plain" / "chips.json"
    record = read(path)
    record["provenance"]["noise_model"] = "another device"
    record["statistics"][0]["mean"] = 1.0
    path.write_text(json.dumps(record))
    tabled = read(folder / "table.json")
    tabled["rows"] = [row for row in tabled["rows"] if row["training"] != "plain"]
    (folder / "table.json").write_text(json.dumps(tabled))
    write_report(folder)
    page = page_of(folder)
    best = max(row["mean"] for row in tabled["rows"])
    assert re.findall(r"<dd>(.*?)</dd>", page)[0].startswith(f"{100 * best:.2f}")
    assert "plain network on the same chips" not in page
    assert re.search(r"chips: .* and another device", page)  # which is in the table of results


def test_the_calibration_is_that_of_the_measurement(finished: Path, copy: Copy) -> None:
    folder = copy(finished)
    path = folder / "plain" / "chips.json"
    label = "affine correction (50 images)"
    path.write_text(json.dumps({**read(path), "calibration": {"label": label}}))
    found = read(folder / "table.json")  # of an evaluation that was done again since
    for row in found["rows"]:
        row["calibration"] = "BatchNorm of each chip"
    (folder / "table.json").write_text(json.dumps(found))
    write_report(folder)
    labels = {
        (r["training"], r["compensation"]): r["calibration"] for r in table(folder, "results")
    }
    assert labels.pop(("plain", "")) == label
    assert set(labels.values()) == {""}


def test_a_calibration_alone_adds_weights(finished: Path, copy: Copy) -> None:
    folder = copy(finished)
    found = read(folder / "table.json")
    for row in found["rows"]:
        row |= {"calibration": "affine", "overhead_weights": 0.0076, "overhead_macs": None}
    (folder / "table.json").write_text(json.dumps(found))
    for path in folder.glob("*/chips*.json"):
        path.write_text(json.dumps({**read(path), "calibration": {"label": "affine"}}))
    write_report(folder)
    page = page_of(folder)
    assert "0.76\N{NO-BREAK SPACE}%" in page
    assert re.search(r", affine, the best of the table", page)
    assert "of MACs" not in page


def test_each_figure_has_the_values_of_its_records(finished: Path) -> None:
    chips = table(finished, "chips")
    for training in ("plain", "lipschitz"):
        folder = finished / training
        for label, end in (("", ""), ("xy-none-k1-residual", "-compensated")):
            network = {"training": training, "compensation": label}
            found = [float(r["score"]) for r in chips if network.items() <= r.items()]
            lines = read_records(folder / f"chips{end}.jsonl")
            assert found == [line["score"] for line in lines]
            growth = [r for r in table(finished, "error-growth") if network.items() <= r.items()]
            recorded = read(folder / f"chips{end}.json")["error_growth"]
            assert len(growth) == len(recorded) == 3
            for row, record in zip(growth, recorded, strict=True):
                assert all(same(row[name], record[name]) for name in record)
        epochs = [r for r in table(finished, "epochs") if r["training"] == training]
        for row, record in zip(epochs, read_records(folder / "epochs.jsonl"), strict=True):
            assert all(same(row[name], record[name]) for name in row if name != "training")
        scans = [r for r in table(finished, "sensitivity") if r["training"] == training]
        for row, record in zip(scans, read(folder / "scan.json")["rows"], strict=True):
            assert all(same(row[name], record[name]) for name in ("mode", "layer", "mean", "chips"))
        compensation = read(folder / "compensation.json")
        placed = [r for r in table(finished, "placement") if r["training"] == training]
        weights = {r["layer"]: int(r["weights"]) for r in placed if float(r["ratio"])}
        assert weights == compensation["weights"]
        (trace,) = folder.glob("search/*/search.jsonl")
        evaluations = table(finished, f"search-{training}")
        for row, record in zip(evaluations, read_records(trace), strict=True):
            assert all(same(row[name], record[name]) for name in ("reward", "overhead_weights"))
            assert same(row["best_reward"], record["best_reward"])


def test_spectral_norms_are_those_of_the_weights_kept(finished: Path) -> None:
    for row in table(finished, "spectral-norms"):
        weights = load_file(finished / row["training"] / "best.safetensors")
        (matrix,) = (
            tensor
            for name, tensor in weights.items()
            if row["layer"] in name and name.endswith("weight")
        )
        norm = np.linalg.svd(matrix.astype(np.float64), compute_uv=False).max()
        assert float(row["spectral_norm"]) == pytest.approx(norm, rel=1e-5)
        lambda_ = read(finished / row["training"] / "result.json")["lambda_"]
        assert same(row["lambda"], lambda_)
        assert (lambda_ is None) == (row["training"] == "plain")


def test_every_figure_is_on_the_page_and_in_files(finished: Path) -> None:
    page = page_of(finished)
    assert set(re.findall(r'<figure id="figure-(.*?)"', page)) == FIGURES
    assert page.count("<svg") == len(FIGURES)
    for name in FIGURES:
        assert (finished / "report" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (finished / "report" / f"{name}.svg").read_text()
    ids = re.findall(r'\bid="(.*?)"', page)
    assert len(ids) == len(set(ids))


def test_the_page_needs_nothing_beside_it(finished: Path) -> None:
    page = page_of(finished)
    assert not re.search(r"https?://|@import|<script|<link(?! rel=\"icon\" href=\"data:,\")", page)
    loaded = re.findall(r'\bsrc="(.*?)"|url\((.*?)\)|<use href="(.*?)"', page)
    assert all("".join(found).startswith("#") for found in loaded)
    for address in re.findall(r'<a href="(.*?)"', page):
        assert address.startswith("#") or (finished / address).is_file(), address


def contents(folder: Path) -> dict[str, bytes]:
    files = [folder / "report.html", *sorted((folder / "report").iterdir())]
    return {path.name: path.read_bytes() for path in files}


def test_the_same_records_give_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    written = shutil.ignore_patterns("report", "report.html", "*.safetensors", "tensorboard")
    folder = Path(shutil.copytree(finished, tmp_path / "copy", ignore=written))
    (folder / "report").mkdir()
    (folder / "report" / "of-before.png").touch()
    assert write_report(folder) == folder / "report.html"
    assert contents(folder) == contents(finished)


def only(folder: Path, *kept: str) -> None:
    """Delete all files of the run but those with these names."""
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in kept:
            path.unlink()


def test_a_run_that_is_only_trained_has_a_page_that_says_so(finished: Path, copy: Copy) -> None:
    folder = copy(finished)
    only(folder, "run.json", "epochs.jsonl", "result.json")
    write_report(folder)
    page = page_of(folder)
    assert "plain: no chips are measured yet; job=evaluate measures them." in page
    assert set(re.findall(r'id="figure-(.*?)"', page)) == {
        "training",
        "spectral-norms",
        "fit",
    }
    clean = read(finished / "plain" / "result.json")["clean_score"]
    assert f"{100 * clean:.2f}\N{NO-BREAK SPACE}%" in page
    assert "batch_size: 32" in page  # from run.json


def test_a_run_killed_in_its_first_training_has_a_page(finished: Path, copy: Copy) -> None:
    folder = copy(finished)
    only(folder, "run.json", "epochs.jsonl")
    lines = (folder / "plain" / "epochs.jsonl").read_text()
    (folder / "plain" / "epochs.jsonl").write_text(lines[: len(lines) * 3 // 4])  # torn
    (folder / "lipschitz" / "epochs.jsonl").unlink()
    write_report(folder)
    page = page_of(folder)
    assert "plain: its training is not finished; job=train resumes it." in page
    assert [row["epoch"] for row in table(folder, "epochs") if row["training"] == "plain"] == ["0"]


def test_searches_alone_have_a_page(finished: Path, copy: Copy) -> None:
    folder = copy(finished)
    only(folder, "search.json", "search.jsonl", "searches.json")
    write_report(folder)
    found = set(re.findall(r'id="figure-(.*?)"', page_of(folder)))
    assert found == {name for name in FIGURES if name.startswith(("search", "pareto"))}
    assert "The run is not complete" not in page_of(folder)
    for row in table(folder, "searches"):
        result = read(folder / row["training"] / "search.json")["result"]
        names = ("reward", "score", "std", "q05", "overhead_weights", "seconds", "seed")
        assert all(float(row[name]) == pytest.approx(result[name]) for name in names)


def test_why_there_is_no_compensation_is_shown(finished: Path, copy: Copy) -> None:
    folder = copy(finished)
    only(folder, "compensation.json", "chips-compensated.json", "chips.json")
    path = folder / "plain" / "compensation.json"
    path.write_text(json.dumps({**read(path), "placement": {}, "reason": "it needs none"}))
    path = folder / "lipschitz" / "chips-compensated.json"
    record = read(path)
    record["compensation"]["search"] = "greedy"
    path.write_text(json.dumps(record))
    write_report(folder)
    assert "plain has no compensation: it needs none." in page_of(folder)
    assert {row["training"] for row in table(folder, "placement")} == {"lipschitz"}
    assert [row["search"] for row in table(folder, "results")] == ["", "", "", "greedy"]


def test_what_a_record_says_stays_text(finished: Path, copy: Copy) -> None:
    folder = copy(finished)
    only(folder, "table.json", "run.json")
    record = read(folder / "table.json")
    record["command"] = "cnet-aihw model.name='<script>alert(1)</script>'"
    (folder / "table.json").write_text(json.dumps(record))
    write_report(folder)
    assert "<script" not in page_of(folder)
    assert "&lt;script&gt;" in page_of(folder)


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_without_a_run_is_refused(tmp_path: Path, there: bool) -> None:
    folder = tmp_path / "empty"
    if there:
        (folder / "sub").mkdir(parents=True)
    with pytest.raises(CnetError) as caught:
        write_report(folder)
    assert (caught.value.key, caught.value.value) == ("run", str(folder))
    assert not (folder / "report.html").exists()


def test_a_damaged_record_is_reported(finished: Path, copy: Copy) -> None:
    folder = copy(finished)
    (folder / "plain" / "chips.json").write_text("{")
    with pytest.raises(CnetError, match=r"chips\.json is damaged"):
        write_report(folder)


@pytest.mark.parametrize("line", ["{}", "garbage", '{"epoch": 7}', '{"epoch": 0}'])
def test_a_damaged_line_of_the_course_is_reported(finished: Path, copy: Copy, line: str) -> None:
    folder = copy(finished)
    path = folder / "plain" / "epochs.jsonl"
    path.write_text("\n".join([line, *path.read_text().splitlines()[1:], ""]))
    with pytest.raises(CnetError) as caught:
        write_report(folder)
    assert caught.value.key == str(path)
