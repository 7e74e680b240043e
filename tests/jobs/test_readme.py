"""What the README and the pages on compensation, devices and crossbars show works as written."""

import math
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cnet_aihw.records import read_records
from cnet_aihw.rram import RRAMRPUConfig, convert_to_analog
from cnet_aihw.zoo import LeNet5, digits

Cli = Callable[..., Any]
Only = Callable[[Callable[[Any], Any]], str]
ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMPENSATION = (ROOT / "docs" / "compensation.md").read_text(encoding="utf-8")
DEVICES = (ROOT / "docs" / "devices.md").read_text(encoding="utf-8")
CROSSBARS = (ROOT / "docs" / "crossbars.md").read_text(encoding="utf-8")
SEARCH = (ROOT / "docs" / "search.md").read_text(encoding="utf-8")


def blocks(text: str) -> list[tuple[str, str]]:
    """Kind and text of each block of code."""
    return re.findall(r"```(\w+)\n(.*?)```", text, flags=re.DOTALL)


BLOCKS = blocks(README)
COMMANDS = sorted(
    {
        line.split("#")[0].strip()
        for page in (README, COMPENSATION, DEVICES, CROSSBARS, SEARCH)
        for kind, text in blocks(page)
        if kind == "sh"
        for line in text.splitlines()
        if line.startswith("cnet-aihw") and "adc_levels" not in line  # has a test of its own
    }
)


@pytest.mark.slow
def test_the_python_example_runs(tmp_path: Path) -> None:
    (code,) = (text for kind, text in BLOCKS if kind == "python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "analog   Conv2d" in done.stdout
    clean, mean = re.search(r"clean ([\d.]+), on chips ([\d.]+) \+- [\d.]+\n", done.stdout).groups()
    assert float(clean) > 0.8
    assert float(mean) > 0.6


def test_the_crossbars_in_python_can_be_described() -> None:
    (code,) = (text for kind, text in blocks(CROSSBARS) if kind == "python")
    names: dict[str, Any] = {}
    exec(code, names)
    assert convert_to_analog(LeNet5((1, 28, 28), 10), names["config"]).conversion_report.analog


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_compose(cli: Cli, only: Only, command: str) -> None:
    words = shlex.split(command)
    assert words[0] == "cnet-aihw"
    Path("mine.yaml").write_text("conv1: 0.5\n")
    seen: list[Any] = []
    outcome = cli(*words[1:], only(seen.append))
    assert outcome.code == 0, outcome.err
    swept = [word.split(",") for word in words if "-m" in words]
    assert len(seen) == math.prod(len(values) for values in swept)


def test_the_verbs_of_compensation_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = (text for kind, text in blocks(COMPENSATION) if kind == "python")
    data = digits(limit_train=64)
    model = convert_to_analog(LeNet5(data.input_shape, data.classes), RRAMRPUConfig())
    shown: list[Any] = []
    exec(code, {"model": model, "data": data, "x": data.val.x[:1], "print": shown.append})
    assert shown[0].weights == {"conv1": 7 * 3 + 3 + (6 + 3) * 6 + 6}


def test_the_search_in_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = (text for kind, text in blocks(SEARCH) if kind == "python")
    for shown, small in (("steps=3000", "steps=2"), ("chips=10", "chips=1"), ("=60", "=3")):
        assert shown in code
        code = code.replace(shown, small)
    data = digits(limit_train=64)
    model = convert_to_analog(LeNet5(data.input_shape, data.classes), RRAMRPUConfig())
    names: dict[str, Any] = {"model": model, "data": data, "x": data.val.x[:1]}
    exec(code, names)
    assert names["result"].evaluations == 3
    assert names["result"].reward == max(
        row["reward"] for row in read_records("search/search.jsonl")
    )


def test_every_searcher_of_a_search_is_on_its_page() -> None:
    for path in (ROOT / "conf" / "search").glob("*.yaml"):
        assert f"`{path.stem}`" in SEARCH or f"search={path.stem}" in SEARCH


def test_the_composition_of_devices_has_the_label_shown() -> None:
    (code,) = (text for kind, text in blocks(DEVICES) if kind == "python")
    shown: list[Any] = []
    exec(code, {"network": LeNet5((1, 28, 28), 10), "print": shown.append})
    assert shown == [code.rpartition("# ")[2].strip()]


def test_every_device_stands_in_the_table() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| `(\w+)` \|", DEVICES, flags=re.MULTILINE))
    files = {path.stem: path.read_text() for path in (ROOT / "conf" / "rram").glob("*.yaml")}
    used = {m for text in files.values() for m in re.findall(r"cnet_aihw\.rram\.(\w+Model)", text)}
    assert set(rows.values()) == used
    for name, model in rows.items():
        assert f"cnet_aihw.rram.{model}\n" in files[name]


def test_the_make_targets_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)
