"""The benchmarks' commands are ones that exist, and their pages are made from records alone."""

import hashlib
import importlib
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from benchmarks import archive, common, figures, findings, per_chip, subjects, summary, sweeps, ways
from benchmarks import page as pages
from benchmarks.common import command_line, result
from benchmarks.paper import cells, page, rows
from benchmarks.paper.cells import AFFINE, NONE, Subject
from benchmarks.paper.rows import ROWS, SIGMAS, composed
from benchmarks.tables import asked, fill
from cnet_aihw.compensation import Placement
from cnet_aihw.evaluation import ChipStatistics, chip_statistics
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import read_json, write_json_atomic
from cnet_aihw.training import load_checkpoint
from cnet_aihw.zoo import LeNet5

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("row", ROWS.values(), ids=list(ROWS))
def test_the_commands_of_the_papers_rows_compose(row: Any) -> None:
    for sigma in (SIGMAS[0], SIGMAS[-1]):
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


@pytest.mark.parametrize("command", list(sweeps.ablations()), ids=lambda c: c.folder.name)
def test_the_commands_of_the_ablations_compose(command: sweeps.Command) -> None:
    words = [word for word in command.words if word != "-m"]
    swept = [word.partition("=")[::2] for word in words if "," in word]
    fixed = [word for word in words if "," not in word]
    for i in (0, -1):
        chosen = [f"{key}={values.split(',')[i]}" for key, values in swept]
        assert composed(*fixed, *chosen)


MODULES = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("name", MODULES)
def test_each_module_can_be_imported(name: str) -> None:
    module = importlib.import_module(f"benchmarks.{name}".removesuffix(".__init__"))
    steps = re.findall(rf"python -m benchmarks\.{name} (\w+)", module.__doc__ or "")
    assert all(hasattr(module, step) for step in steps)


POINTS = {
    str(command.folder.relative_to(sweeps.DEVICES)): command
    for number, command in enumerate(sweeps.devices())
    if number < 2 or "method" not in command.about  # the other words of all these are the same
}


@pytest.mark.parametrize("command", POINTS.values(), ids=list(POINTS))
def test_the_devices_points_compose(command: sweeps.Command) -> None:
    assert composed(*command.words).rram.rpu_config.noise_model


# -- pages


def test_the_pages_are_those_of_the_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(pages.DOCS, tmp_path / "docs", ignore=shutil.ignore_patterns("images"))
    shutil.copy(pages.README, tmp_path)
    written = {path: path.read_text() for path in tmp_path.rglob("*.md")}
    monkeypatch.setattr(pages, "DOCS", tmp_path / "docs")
    monkeypatch.setattr(pages, "README", tmp_path / "README.md")
    monkeypatch.setattr(figures, "IMAGES", tmp_path / "images")
    pages.main()
    assert {path: path.read_text() for path in tmp_path.rglob("*.md")} == written
    for name in ("results", "overhead", "growth", "rows"):
        assert (tmp_path / "images" / f"{name}.png").stat().st_size > 10_000


MADE_OF = {"chips": "per_chip", "means": "per_chip", "attention": "kernels", "readme": "per_chip"}


def test_pages_show_each_result_with_its_command() -> None:
    shown = {"transformers"}  # beside those of per_chip.json, by the same command
    for path in pages.DOCS.glob("*.md"):
        text = path.read_text()
        for name in re.findall(r"<!-- table (\w+)", text):
            of = "paper" if name.startswith("paper_") else MADE_OF.get(name, name)
            assert result(of).get("command", "python -m benchmarks").split(";")[0] in text, name
            shown.add(of)
    assert {path.stem for path in common.RESULTS.glob("*.json")} == shown


def test_every_training_stands_in_the_detail_page_and_in_the_mean() -> None:
    rows = result("per_chip")["rows"] + result("transformers")["rows"]
    text = (pages.DOCS / "results_per_chip.md").read_text()
    text = text.partition("\n## Every network\n")[2].partition("\n## ")[0]
    text = text.partition("-->")[2].replace("\xa0", " ")
    for row in rows:
        accuracy = row.get("metric", "accuracy") in ("accuracy", "mIoU")
        mean = f"{100 * row['mean']:.2f}" if accuracy else f"{row['mean']:.4f}"
        assert f"| {row['way']} | " in text and f"| {mean} ± " in text
    assert len(re.findall(r"\d ± \d", text)) == len(rows)


def training(seed: int, recovery: float, **more: Any) -> dict[str, Any]:
    return {
        "network": "mine", "sigma": 0.5, "way": "plain, per chip", "training_seed": seed,
        "metric": "accuracy", "clean": 0.9, "mean": 0.9 * recovery, "std": 0.01, "q05": 0.5,
        "recovery": recovery, "overhead_weights": 0.04, "overhead_macs": 0.0, **more,
    }  # fmt: skip


def test_tables_and_findings_take_new_networks_trainings_and_deviations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [training(seed, 0.9 + 0.01 * seed) for seed in range(3)]
    rows += [training(0, 0.5, way="plain, none"), training(0, 0.6, way="noise, none")]
    rows += [training(0, 0.4, way="noise_from_plain, none"), training(0, 0.97, sigma=0.2)]
    rows += [training(0, 0.96, network="other", metric="perplexity")]
    found = {"per_chip": {"rows": rows}, "transformers": {"rows": []}}
    monkeypatch.setattr(summary, "result", found.__getitem__)
    kept = {(r["network"], r["sigma"], r["way"]): r for r in summary.means()}
    assert kept["mine", 0.5, "low rank"]["kept"] == "91.0 (88.5 to 93.5)"  # 4.303 * 1 / sqrt 3
    assert kept["mine", 0.5, "low rank"]["trainings"] == 3
    assert kept["mine", 0.5, "noise"]["kept"] == "60.0 [1]"
    assert kept["mine", 0.5, "CorrectNet"]["kept"] is None
    assert kept["mine", 0.2, "low rank"]["several"] and not kept["mine", 0.5, "noise"]["several"]
    said = findings.findings()
    assert (said["networks"], said["good"], said["kept"]) == (2, 1, "96.0")
    assert (said["before"], said["short"]) == ("50.0", "91.0 (mine)")
    assert said["ahead_of_noise"] == "1 of 1 (+31.0 to +31.0)"
    assert said["ahead_of_correctnet"] == "none measured"
    assert (said["deviations"], said["limit"]) == ("0.2: 1 of 1 (97.0 %)", "4")


def test_the_clean_score_of_a_network_that_is_not_here_is_that_of_the_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subjects, "OUTPUTS", tmp_path)
    about = {"way": "plain, none", "samples": 7}
    rows = [training(1, 0.9, samples=7)]
    rows += [training(seed, 0.9, **about | {"clean": 0.1 * seed}) for seed in range(3)]
    rows += [training(1, 0.9, **about | {"clean": 0.5, "samples": 8})]
    found = {"per_chip": {"rows": []}, "transformers": {"rows": rows}}
    monkeypatch.setattr(ways, "result", found.__getitem__)
    mine = subjects.Subject("mine", "mnist", LeNet5)
    assert ways.plain_clean(mine, 1, 7) == 0.1 and ways.plain_clean(mine, 1, 8) == 0.5


ROWS_OF_A_TABLE: list[dict[str, Any]] = [
    {"a": 0.1234, "b": None, "c": [0.1, 0.25], "d": {"e": 3}, "mean": 0.5, "std": 0.01},
    {"a": 1.0, "b": None, "c": [0, 1], "d": {"e": 3}, "mean": 0.25, "std": None},
    {"a": 0.5, "b": None, "c": [0, 1], "d": {"e": 3}},
]


def test_columns_have_keys_and_formats_and_one_of_one_value_stands_above() -> None:
    columns = "a=a:.1% | none=b:.2f | c=c:interval | n=d[e] | mean % | m={mean:.0%} ± {std:.0%}"
    assert asked(ROWS_OF_A_TABLE, columns).replace("\xa0", " ").splitlines() == [
        "All rows: n 3.", "",
        "| a | c | mean % | m |", "|---|---|---|---|",
        "| 12.3 | 10.0 to 25.0 | 50.00 | 50 ± 1 |", "| 100.0 | 0.0 to 100.0 | 25.00 | 25 |",
        "| 50.0 | 0.0 to 100.0 | - | - |",
    ]  # fmt: skip


def test_rows_go_into_columns_and_under_headings() -> None:
    rows = [{"n": name, "s": s, "way": way, "v": v} for name, s, way, v in (
        ("diabetes", 0.5, "a", 0.1), ("diabetes", 0.1, "a", 0.2), ("mine", 0.1, "b", 0.3),
        ("mine", 0.1, "c", 0.4))]  # fmt: skip
    lines = "where way = a; b\nacross s of n, way = {v:.0%}\nby =n:title\nway | * | max=0.5"
    head = "| way | 0.1 | 0.5 | max |\n|---|---|---|---|\n"
    assert asked(rows, lines).split("\n\n") == [
        "### Regression, diabetes", f"{head}| a | 20 | 10 | 10 |",
        "### mine", f"{head}| b | 30 | - | - |",
    ]  # fmt: skip
    assert asked([], lines) == "Not measured yet."
    with pytest.raises(SystemExit, match=r"Two rows would stand in column 0\.1"):
        asked([*rows, {**rows[0], "s": 0.1}], lines)
    with pytest.raises(KeyError, match="z"):
        asked(rows, lines.replace("a; b", "a; z"))


def test_marks_of_a_page_are_filled_and_wrong_ones_refused(tmp_path: Path) -> None:
    path = tmp_path / "page.md"

    def filled(text: str) -> str:
        path.write_text(text)
        fill(path, {"found": ROWS_OF_A_TABLE}.__getitem__, {"value": 7})
        return path.read_text()

    whole = "a\n\n<!-- words\n{value} b -->\nold\n<!-- end -->\n\nc\n"
    assert filled(whole) == "a\n\n<!-- words\n{value} b -->\n\n7 b\n\n<!-- end -->\n\nc\n"
    assert filled(filled(whole)) == filled(whole)
    for wrong, message in {
        "<!-- words\n{other} -->\n<!-- end -->": "other",
        "<!-- table other\na -->\n<!-- end -->": "other",
        "<!-- table found\na | z -->\n<!-- end -->": "'z'",
        "<!-- words\n{value} -->\n": "1 marks, of which 0",
    }.items():
        with pytest.raises(SystemExit, match=message):
            filled(wrong)
        assert path.read_text() == wrong


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
    cells = [cell(method, 0, 0.9 + 0.01 * i) for i, method in enumerate(figures.SHOWN)]
    cells += [cell("plain", 1, 0.903), cell("noise", 1, 0.95), cell("noise", 2, 0.94)]
    for method, fourth in {"lipschitz": 0.9596, "lipschitz_noise": 0.9598}.items():
        means = (0.90, 0.91, 0.92, fourth)
        cells += [cell(method, seed, mean) for seed, mean in enumerate(means)]
    missing = {"row": "vgg16_cifar100", "title": "VGG16 on CIFAR-100", "missing": "no data",
               "command": "python -m benchmarks.paper run --row vgg16_cifar100"}  # fmt: skip
    paper = {"rows": [*cells, missing], "choices": [{**cell("plain", 0, 0.777)}]}
    monkeypatch.setattr(page, "result", {"paper": paper}.__getitem__)
    shutil.copy(pages.DOCS / "results_rows.md", tmp_path)
    fill(tmp_path / "results_rows.md", pages.found, page.repetitions()[1])
    text = (tmp_path / "results_rows.md").read_text().replace("\xa0", " ")
    lines = text.splitlines()
    for kept in ("weights, MACs +% 1.23, 0.00", "clean % 99.00", "epochs 7", "machine a CPU"):
        assert kept in text
    assert len([c for c in cells if f"| {100 * c['mean']:.2f} ± 1.00 |" in text]) == len(cells)
    assert "## VGG16 on CIFAR-100\n" in text and "Not measured yet." in text
    assert "| plain-0.5 | - | 77.70 | 1.00 |" in text
    (plain,) = (line for line in lines if "| 90.00 ± 0.20; 90.30 ± 0.20 |" in line)
    assert plain.endswith("| yes | - | - |")
    (noise,) = (line for line in lines if "| 91.00 ± 0.20; 95.00 ± 0.20; 94.00 ± 0.20 |" in line)
    assert noise.endswith("| no, 3.60 apart | 93.33 +- 2.08 (88.16 to 98.50) | - |")  # t = 4.303
    for fourth, inside in {"95.96": 4, "95.98": 3}.items():  # 91 +- 4.303 * 1.1547
        (line,) = (line for line in lines if f"; {fourth} ± " in line)
        assert line.endswith(f"| {inside} of 4 |")
    assert "overlap: LeNet-5 on MNIST, sigma 0.5: 1 of 16. As the others" in text  # 1 + 3 + 6 + 6
    assert "As the others predict: 7 of 8 (88 %)." in text


# -- trainings


@pytest.mark.parametrize("name", [n for n, s in subjects.SUBJECTS.items() if s.seeds > 1])
def test_a_second_training_begins_from_weights_of_its_own(name: str) -> None:
    subject = subjects.SUBJECTS[name]
    commands = list(per_chip.commands(subject, 1))
    assert all("seed=1" in words for words in commands)
    own = str(subjects.folder_of(subject, 1))
    given = [word for words in commands for word in words if word.startswith("pretrained=")]
    assert all(word.startswith(f"pretrained={own}/plain/") for word in given)
    assert bool(given) == bool(subject.later is not None or subject.from_plain)
    assert not subjects.kept(subject, "plain", 1).exists()  # of the first training alone


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


@pytest.mark.parametrize("write", [common.write_result, common.write_lines])
def test_a_table_without_records_leaves_the_result_as_it_is(
    write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "RESULTS", tmp_path)

    def table(rows: list[dict[str, int]]) -> Any:
        if write is common.write_lines:
            write("found", {"command": "table"}, rows=rows, baselines=[])
        else:
            write("found", "table", rows)
        return result("found")["rows"]

    assert table([{"a": 1}]) == [{"a": 1}]
    with pytest.raises(SystemExit, match=r"found\.json stays as it is"):
        table([])
    assert result("found")["rows"] == [{"a": 1}]


def test_a_command_whose_networks_are_not_there_ends_with_a_sentence(monkeypatch) -> None:
    def run(network: list[str]) -> None:
        load_checkpoint(f"{network[0]}.safetensors")

    monkeypatch.setattr("sys.argv", ["run", "--network", "second"])
    with pytest.raises(SystemExit, match=r"^second\.safetensors does not exist; give the .* See "):
        command_line("Measures.", run, network=["first", "second"])
