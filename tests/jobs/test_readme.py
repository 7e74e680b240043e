"""What the README and the pages on compensation, devices and crossbars show works as written."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cnet_aihw.rram import RRAMRPUConfig, convert_to_analog
from cnet_aihw.zoo import LeNet5, digits

Cli = Callable[..., Any]
Only = Callable[[Callable[[Any], Any]], str]
ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMPENSATION = (ROOT / "docs" / "compensation.md").read_text(encoding="utf-8")
DEVICES = (ROOT / "docs" / "devices.md").read_text(encoding="utf-8")
CROSSBARS = (ROOT / "docs" / "crossbars.md").read_text(encoding="utf-8")


def blocks(text: str) -> list[tuple[str, str]]:
    """Kind and text of each block of code."""
    return re.findall(r"```(\w+)\n(.*?)```", text, flags=re.DOTALL)


BLOCKS = blocks(README)
COMMANDS = sorted(
    {
        line.split("#")[0].strip()
        for kind, text in BLOCKS + blocks(COMPENSATION) + blocks(DEVICES) + blocks(CROSSBARS)
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
    assert len(seen) == (9 if "-m" in words else 1)


def test_the_verbs_of_compensation_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = (text for kind, text in blocks(COMPENSATION) if kind == "python")
    data = digits(limit_train=64)
    model = convert_to_analog(LeNet5(data.input_shape, data.classes), RRAMRPUConfig())
    shown: list[Any] = []
    exec(code, {"model": model, "data": data, "x": data.val.x[:1], "print": shown.append})
    assert shown[0].weights == {"conv1": 7 * 3 + 3 + (6 + 3) * 6 + 6}


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
