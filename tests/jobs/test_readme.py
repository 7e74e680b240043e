"""What the README shows works as written."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]
Only = Callable[[Callable[[Any], Any]], str]
ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = sorted(
    {
        line.split("#")[0].strip()
        for kind, text in BLOCKS
        if kind == "sh"
        for line in text.splitlines()
        if line.startswith("cnet-aihw")
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


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_compose(cli: Cli, only: Only, command: str) -> None:
    words = shlex.split(command)
    assert words[0] == "cnet-aihw"
    seen: list[Any] = []
    outcome = cli(*words[1:], only(seen.append))
    assert outcome.code == 0, outcome.err
    assert len(seen) == (9 if "-m" in words else 1)


def test_the_make_targets_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)
