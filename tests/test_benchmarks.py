"""The benchmarks' commands are ones that exist, and their pages are made from records alone."""

import hashlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from benchmarks import archive, bayes_page, kernels_page, scaling_page, speed_page, summary
from benchmarks import page as results_page
from benchmarks.ablations import SWEEPS
from benchmarks.devices import POINTS, words_of
from benchmarks.paper import cells, page, rows
from benchmarks.paper.cells import AFFINE, NONE, Subject
from benchmarks.paper.rows import ROWS, SIGMAS, composed
from cnet_aihw.compensation import Placement
from cnet_aihw.evaluation import ChipStatistics, chip_statistics
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import read_json, write_json_atomic

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("row", ROWS.values(), ids=list(ROWS))
def test_the_commands_of_the_papers_rows_compose(row: Any) -> None:
    for sigma in SIGMAS:
        searching = ["compensation=paper", *row.scan, "search=ppo", *row.search]
        config = composed(*row.words(sigma, 3, "training=noise", "job=search", *searching))
        assert (config.rram.sigma, config.seed, config.training.seed) == (sigma, 3, 3)
        assert config.training.variation.enabled
        assert row.ramp <= config.training.epochs


def test_a_network_that_was_trained_elsewhere_is_neither_missed_nor_trained_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "RECORDS", tmp_path)
    monkeypatch.setattr(rows, "cnet_aihw", lambda *words: pytest.fail(f"ran {words}"))
    row = ROWS["lenet5_cifar10"]
    left = row.folder(0.3, 1) / "noise"
    write_json_atomic(left / "result.json", {})
    with pytest.raises(SystemExit, match=r"noise was trained elsewhere.*BENCHMARK_RECORDS=FOLDER"):
        rows.train(row, "noise", 0.3, 1)
    (left / "best.safetensors").touch()
    rows.train(row, "noise", 0.3, 1)


@pytest.mark.parametrize("sweep", SWEEPS, ids=[sweep.setting for sweep in SWEEPS])
def test_the_commands_of_the_ablations_compose(sweep: Any) -> None:
    for problem in sweep.problems:
        words = [word for word in sweep.words(problem) if "," not in word and word != "-m"]
        for value in sweep.values.split(","):
            training = sweep.trainings.partition(",")[0]
            assert composed(*words, f"training={training}", f"{sweep.key}={value}")


@pytest.mark.parametrize("device", POINTS)
def test_the_devices_points_compose(device: str) -> None:
    for point in POINTS[device]:
        assert composed(*words_of(device, point)).rram.rpu_config.noise_model


@pytest.mark.parametrize(
    ("module", "write"),
    [
        (results_page, results_page.main),
        (speed_page, speed_page.write_page),
        (scaling_page, scaling_page.write_page),
        (page, page.write_page),
    ],
    ids=["results", "speed", "scaling", "rows"],
)
def test_the_pages_are_those_of_the_results(
    module: Any, write: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = module.PAGE.read_text()
    readme = summary.README.read_text()
    for other in (results_page, speed_page, scaling_page, page):
        monkeypatch.setattr(other, "PAGE", tmp_path / f"{other.__name__}.md")
    for other in (speed_page, page, summary):
        monkeypatch.setattr(other, "IMAGE", tmp_path / f"{other.__name__}.png")
    monkeypatch.setattr(summary, "README", tmp_path / "README.md")
    summary.README.write_text(readme)
    write()
    assert module.PAGE.read_text() == before
    assert summary.README.read_text() == readme


@pytest.mark.parametrize("module", [kernels_page, bayes_page])
def test_the_tables_of_a_page_are_those_of_the_results(
    module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = module.PAGE.read_text()
    monkeypatch.setattr(module, "PAGE", tmp_path / "page.md")
    module.PAGE.write_text(written)
    module.main()
    assert module.PAGE.read_text() == written


@pytest.mark.parametrize(
    ("row", "means", "recipe", "few_macs"),
    [
        ("digital first", {"digital": 0.9, "noise": 0.8}, "digital", "noise"),
        ("noise first", {"noise": 0.9, "digital": 0.8}, "noise", "noise"),
        ("too many weights", {"large": 0.9, "digital": 0.8, "noise": 0.7}, "digital", "noise"),
    ],
)
def test_a_recipe_is_what_is_best_on_validation_chips_within_its_limits(
    row: Any, means: dict[str, float], recipe: str, few_macs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    overheads = {"digital": (0.04, 0.3), "noise": (0.0, 0.0), "large": (0.06, 0.01)}
    subjects = [Subject(m, nn.Linear(1, 1), Path(), 0.5, Placement({}), *overheads[m])
                for m in means]  # fmt: skip

    def measured(row: Any, subject: Subject, how: str, part: str, *_: Any) -> ChipStatistics:
        assert part == "validation"
        return chip_statistics([means[subject.method] - 0.05 * (how == AFFINE)])

    monkeypatch.setattr(cells, "_measured", measured)
    monkeypatch.setattr(cells, "_extra", lambda *_: 0.0)
    found, choice = cells.recipes(row, subjects, 0.5, 0)
    assert [(method, how, subject.method) for method, how, subject in found] == [
        ("recipe", NONE, recipe), ("recipe_macs", NONE, few_macs)
    ]  # fmt: skip
    assert "large-0.5" not in {row["network"] for row in choice}


def cell(method: str, seed: int, mean: float) -> dict[str, Any]:
    return {
        "row": "lenet5_mnist", "title": "LeNet-5 on MNIST", "sigma": 0.5, "method": method,
        "calibration": "none", "network": f"{method}-0.5", "trained_at": 0.5,
        "overhead_weights": 0.0123, "overhead_macs": 0.0, "clean": 0.99, "mean": mean, "std": 0.01,
        "q05": mean - 0.02, "ci95": [mean - 0.002, mean + 0.002], "yield": 1.0, "recovery": mean,
        "chips": 50, "seed": seed, "test_samples": 10000, "epochs": 7, "seconds": 60.0,
        "hardware": "a CPU",
        "command": "python -m benchmarks.paper run --row lenet5_mnist",
    }  # fmt: skip


def test_the_page_shows_each_cell_and_whether_repetitions_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "HERE", tmp_path)
    monkeypatch.setattr(page, "PAGE", tmp_path / "rows.md")
    monkeypatch.setattr(page, "IMAGE", tmp_path / "rows.png")
    (tmp_path / "results").mkdir()
    cells = [cell(method, 0, 0.9 + 0.01 * i) for i, method in enumerate(page.SHOWN)]
    cells += [cell("plain", 1, 0.903), cell("noise", 1, 0.95), cell("noise", 2, 0.94)]
    for method, fourth in {"lipschitz": 0.9596, "lipschitz_noise": 0.9598}.items():
        means = (0.90, 0.91, 0.92, fourth)
        cells += [cell(method, seed, mean) for seed, mean in enumerate(means)]
    missing = {"row": "vgg16_cifar100", "title": "VGG16 on CIFAR-100", "missing": "no data",
               "command": "python -m benchmarks.paper run --row vgg16_cifar100"}  # fmt: skip
    write_json_atomic(
        tmp_path / "results" / "paper.json",
        {"command": "x", "rows": [*cells, missing], "choices": [{**cell("plain", 0, 0.777)}]},
    )
    page.write_page()
    text = (tmp_path / "rows.md").read_text()
    lines = text.splitlines()
    shown = [line for line in lines if line.startswith("| 0.5 |")]
    assert len(shown) == len(cells)
    assert all("| 1.23 |" in line and "| 99.00 |" in line for line in shown)
    assert "7 epochs, 10000 test images; a CPU." in text
    assert "No figures: no data." in text
    assert "| plain-0.5 | - | 77.70 | 1.00 |" in text
    (plain,) = (line for line in lines if "90.00 (89.80 to 90.20); 90.30 (90.10 to 90.50)" in line)
    assert plain.endswith("| yes | - | - |")
    (noise,) = (line for line in lines if "91.00 (90.80 to 91.20); 95.00 (94.80 to 95.20)" in line)
    assert noise.endswith("| no, 3.60 apart | 93.33 +- 2.08 (88.16 to 98.50) | - |")  # t = 4.303
    for fourth, inside in {"95.96": 4, "95.98": 3}.items():  # 91 +- 4.303 * 1.1547
        (line,) = (line for line in lines if f"; {fourth} (" in line)
        assert line.endswith(f"| {inside} of 4 |")
    assert "overlap: LeNet-5 on MNIST, sigma 0.5: 1 of 16. As the others" in text  # 1 + 3 + 6 + 6
    assert "As the others predict: 7 of 8 (88 %)." in text
    assert (tmp_path / "rows.png").stat().st_size > 10_000


# -- the archive of records


@pytest.fixture
def records(tmp_path: Path) -> Path:
    folder = tmp_path / "records"
    for name in ("paper/row/" + "long-" * 40 + "/chips.jsonl", "a.json", "training/tensorboard/e"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def test_an_archive_gives_the_records_back(records: Path, tmp_path: Path) -> None:
    about = tmp_path / "archive.json"
    archive.pack(records, about)
    known = read_json(about)
    (records / "a.json").touch()  # times are not in it
    archive.pack(records, about)
    assert read_json(about) == known
    assert known["files"] == 2  # without the curves of trainings
    assert known["sha256"] == hashlib.sha256((tmp_path / known["archive"]).read_bytes()).hexdigest()
    wanted = {p: (records / p).read_text() for p in archive.packed_files(records)}
    shutil.rmtree(records)
    archive.unpack(records, about)
    assert {p: (records / p).read_text() for p in archive.packed_files(records)} == wanted


def test_another_archive_is_refused(records: Path, tmp_path: Path) -> None:
    about = tmp_path / "archive.json"
    archive.pack(records, about)
    (tmp_path / "records.tar.xz").write_bytes(b"other")
    with pytest.raises(CnetError, match="SHA-256"):
        archive.unpack(records, about)
    with pytest.raises(CnetError, match="holds no records"):
        archive.pack(tmp_path / "empty", about)


def test_tracked_files_are_few_and_small() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a clone")
    names = [name for name in listed.stdout.split("\0") if name]
    assert max(len(name.encode()) for name in names) <= 140
    results = [ROOT / name for name in names if name.startswith("benchmarks/results/")]
    assert sum(path.stat().st_size for path in results if path.exists()) < 5e6
