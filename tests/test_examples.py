"""Each example runs to its end, prints what its docstring says, and leaves no files."""

import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parent.parent / "examples"
SCRIPTS = sorted(path.name for path in FOLDER.glob("*.py"))


def test_each_docstring_begins_with_the_number_of_its_file() -> None:
    for name in SCRIPTS:
        assert (FOLDER / name).read_text().startswith(f'"""Example {name[:2]}: '), name


def numbers(line: str) -> list[float]:
    return [float(text) for text in re.findall(r"-?\d+\.\d+", line)]


def stock_model(lines: list[str]) -> None:
    assert len(lines) == 1 + 5
    for line in lines[1:]:
        clean, mean, _ = numbers(line.replace("0.5", ""))[-3:]
        assert clean > 0.8
        assert 0.5 < mean < clean + 0.02
    assert "RRAM" in lines[-1]


def trainings(lines: list[str]) -> None:
    rows = {line[:22].strip(): numbers(line) for line in lines[1:]}
    assert list(rows) == ["plain", "noise", "lipschitz", "lipschitz and noise"]
    plain = rows["plain"][0]
    for _, mean, _, q05, recovery in rows.values():
        assert recovery == pytest.approx(mean / plain, abs=0.01)
        assert q05 <= mean
    assert len({tuple(row) for row in rows.values()}) == 4


def pretrained(lines: list[str]) -> None:
    before, after, layers = lines
    assert before.startswith("pretrained: clean ")
    assert after.startswith("fine-tuned: clean ")
    assert min(numbers(before)[0], numbers(after)[0]) > 0.5
    assert layers == "layers: Conv2d, Conv2d, Linear, Linear, Linear"


def compensation(lines: list[str]) -> None:
    *costs, before, compensated, removed, own = lines
    assert [0 < numbers(cost)[0] <= 5 for cost in costs] == [True, True]
    assert numbers(compensated) != numbers(before)
    assert numbers(removed) == numbers(before)
    assert numbers(own)[0] == numbers(before)[0]
    assert numbers(own) != numbers(before)


def searchers(lines: list[str]) -> None:
    assert lines[0] == "62 placements within the limit"
    assert [line.split(":")[0] for line in lines[1::2]] == ["random", "near_limit"]
    assert 0.7 * 1.5 <= numbers(lines[4])[0] <= 1.5


def devices(lines: list[str]) -> None:
    assert all(line.startswith("+ ") for line in lines[1:8])
    assert numbers(lines[2])[-1] < numbers(lines[1])[-1]  # variation costs signal
    warnings = [line for line in lines if line.startswith("sigma=5: ")]
    assert any("times as large as meant" in warning for warning in warnings)
    assert [line.split(":")[0] for line in lines[-3:]] == ["after 1 s", "after 3.15e+07 s", "clean"]


def attacks(lines: list[str]) -> None:
    rows = [(line[:12].strip(), *numbers(line[12:])) for line in lines[1:7]]
    assert [row[0] for row in rows] == [
        *("nominal", "nominal", "other_chip", "other_chip", "this_chip", "this_chip")
    ]
    for _, _, clean, robust, success, noise in rows:
        assert 0.0 <= robust <= clean <= 1.0
        assert 0.0 <= noise <= 1.0
        assert 0.0 <= success <= 1.0
    assert [line.split(": ")[1].split(",")[0].split(" ")[0] for line in lines[7:]] == [
        *("gradients", "4", "with")
    ]


def charge(lines: list[str]) -> None:
    rows = {line[:10].strip(): numbers(line[10:]) for line in lines[1:6]}
    assert list(rows) == ["no limit", "mapped", "scaled", "trained", "corrected"]
    assert all(0.0 <= value <= 1.0 for row in rows.values() for value in row[:2])
    assert lines[6].startswith("voltages of layers.fc1: ")
    assert -1.0 <= numbers(lines[6])[0] <= numbers(lines[6])[-1] <= 1.0


def tuning(lines: list[str]) -> None:
    rows = [(line[:14].strip(), *line[14:].split()) for line in lines[1:]]
    assert [row[0] for row in rows] == ["not tuned", "progressive", "physics-aware", "biases"]
    assert [row[1] for row in rows] == ["1", "1", "3", "1"]  # of three, two after steps
    assert all(0.0 <= float(score) <= 1.0 for row in rows for score in row[2:])


def uncertainty(lines: list[str]) -> None:
    rows = [(line[:14].strip(), *line[14:].split()) for line in lines[1:]]
    names = ["programmed"] * 2 + ["after a day", "amplified", "temperature"]
    assert [row[0] for row in rows] == names
    assert [row[1] for row in rows] == ["1", "4", "4", "4", "4"]
    assert rows[0][5] == "0.000"  # one sample disagrees with none
    assert all(0.0 <= float(row[2]) <= 1.0 and float(row[3]) > 0 for row in rows)


def kernels(lines: list[str]) -> None:
    rows = {line[:22].strip(): numbers(line[22:]) for line in lines[1:]}
    assert list(rows) == [
        *("exact kernel", "in software", "not matched", "matched"),
        *("matched, own read-out", "scikit-learn"),
    ]
    assert all(0.5 < row[0] <= 1.0 for row in rows.values())
    assert rows["matched"][1] < rows["not matched"][1]
    for name in ("not matched", "matched", "matched, own read-out"):
        assert rows[name][1] == pytest.approx(rows[name][2], rel=0.2)


SHOWN: dict[str, Callable[[list[str]], None]] = {
    "01_stock_aihwkit_model.py": stock_model,
    "02_train_against_variation.py": trainings,
    "03_pretrained_network.py": pretrained,
    "04_compensate.py": compensation,
    "05_own_searcher.py": searchers,
    "06_devices.py": devices,
    "07_attacks.py": attacks,
    "08_charge_read_out.py": charge,
    "09_tuning.py": tuning,
    "10_kernels.py": kernels,
    "11_uncertainty.py": uncertainty,
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_example_shows_what_it_says(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if name == "07_attacks.py":
        pytest.importorskip("art", reason="the extra `attacks` is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, "--quick"])
    runpy.run_path(str(FOLDER / name), run_name="__main__")
    SHOWN[name](capsys.readouterr().out.splitlines())
    assert list(tmp_path.iterdir()) == []


def test_every_example_is_in_the_table() -> None:
    table = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| \[(\w+\.py)\]", table, flags=re.MULTILINE) == SCRIPTS
