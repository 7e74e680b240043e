"""The README and the pages of docs work as written."""

import ast
import itertools
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from cnet_aihw.compensation import Placement
from cnet_aihw.rram import RRAMRPUConfig, convert_to_analog
from cnet_aihw.runtime.records import read_json, read_records
from cnet_aihw.zoo import LeNet5, digits

pytestmark = pytest.mark.slow

Cli = Callable[..., Any]
Only = Callable[[Callable[[Any], Any]], str]
Blocks = list[tuple[str, str]]
ROOT = Path(__file__).parent.parent.parent
PAGES = {
    path.stem: path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
SECTIONS = dict(part.split("\n", 1) for part in PAGES["howto"].split("\n## ")[1:])

# not run here: what makes, starts or asks something outside the package
ELSEWHERE = (
    "make demo",
    "make test",
    "pip install -c constraints.txt",
    "pip install 'cnet_aihw[",
    "ray start ",
    "ray get-auth-token",
)

# what a page, or a section of the how-to, takes as given
GIVEN: dict[str, Callable[[], dict[str, Any]]] = {
    "compensation": lambda: trained(),
    "searching": lambda: trained(),
    "One chip, or several at once": lambda: trained(),
    "attacks": lambda: pytest.importorskip("art") and trained(),
    "ray": lambda: trained(),
    "tuning": lambda: trained(),
    "uncertainty": lambda: trained(),
    "devices": lambda: {"network": LeNet5((1, 28, 28), 10)},
}
SMALLER = {
    "compensation": {"FitSettings()": "FitSettings(epochs=1, validation_chips=1)"},
    "searching": {"[:500]": "[:20]", "chips=5": "chips=1", "=60": "=3"},
    "tutorial": {
        "range(5)": "range(1)",
        "chips=20": "chips=2",
        "epochs=5": "epochs=1",
        "budget=20": "budget=3",
    },
    "ray": {"chips=1000": "chips=2", "workers=4": "workers=1"},
    "tuning": {'TuningSettings(tune="progressive")': "TuningSettings(epochs=1)"},
}
SMALL_JOB = [
    *("training=plain", "training.epochs=1", "training.batch_size=32"),
    *("training.validation_chips=2", "evaluation.chips=2", "progress=false"),
]
SMALL_SEARCH = [
    *("compensation.scan.chips=1", "compensation.threshold=1.0", "compensation.shared.epochs=1"),
    *("search.budget=2", "search.chips=1", "search.evaluator.shared_steps=2"),
]


def trained() -> dict[str, Any]:
    data = digits(limit_train=64)
    model = convert_to_analog(LeNet5(data.input_shape, data.classes), RRAMRPUConfig())
    return {"model": model, "data": data, "x": data.val.x[:1]}


def blocks(text: str) -> Blocks:
    """Kind and text of each block of code."""
    return re.findall(r"```(\w+)\n(.*?)```", text, flags=re.DOTALL)


def commands(text: str) -> list[str]:
    """The lines of all shell blocks, without comments."""
    lines = "".join(block for kind, block in blocks(text) if kind == "sh").splitlines()
    return [line for line in (line.split("#")[0].strip() for line in lines) if line]


def run_python(code: str, names: dict[str, Any]) -> None:
    """Run a block; a comment behind a print is what it has to print."""
    lines = code.splitlines()
    for statement in ast.parse(code).body:
        shown: list[str] = []
        names["print"] = lambda *values, shown=shown: shown.append(" ".join(map(str, values)))
        exec(compile(ast.Module([statement], []), "block", "exec"), names)
        _, mark, promised = lines[(statement.end_lineno or 1) - 1].partition("  # ")
        if mark and ast.unparse(statement).startswith("print("):
            assert shown == [promised]


def run_blocks(text: str, names: dict[str, Any], cli: Cli | None = None) -> None:
    """Do what a text shows, in order: write its files, run its Python, and its jobs in small."""
    numbers = itertools.count()
    for kind, block in blocks(text):
        file = re.match(r"# (\S+\.(?:py|yaml))\n", block)
        if file:
            Path(file[1]).parent.mkdir(parents=True, exist_ok=True)
            Path(file[1]).write_text(block)
        elif kind == "python":
            run_python(block, names)
        elif kind == "sh" and cli is not None:
            for command in commands(f"```sh\n{block}```"):
                if not _has_package_of(command):
                    continue
                folder = [] if " run=" in command else [f"run=job{next(numbers)}"]
                images = not re.search("data=(table|text|digit_scenes|custom)", command)
                limit = ["data.limit_train=60"] if images else []
                small = [*SMALL_JOB, *limit, *SMALL_SEARCH, *folder]
                outcome = cli(*shlex.split(command)[1:], *small)
                assert outcome.code == 0, outcome.err


def _has_package_of(command: str) -> bool:
    """Whether the package is there whose networks a command names."""
    packages = {"model=timm": "timm", "model=huggingface": "transformers"}
    return all(find_spec(name) for word, name in packages.items() if word in command)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder that modules can be imported from, and are forgotten afterwards."""
    folder = tmp_path / "here"
    folder.mkdir(exist_ok=True)  # that of the fixture cli
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


# -- Python


def test_the_python_of_the_readme_runs(tmp_path: Path) -> None:
    (code,) = (text for kind, text in blocks(PAGES["README"]) if kind == "python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 16
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    number = r"clean ([\d.]+), on chips ([\d.]+) \+- ([\d.]+)"
    (_, before, spread), (clean, after, rest) = (
        map(float, found) for found in re.findall(number, done.stdout)
    )
    assert clean > 0.9
    assert after > before + 0.03
    assert after / clean > 0.95
    assert rest < spread / 2


@pytest.mark.parametrize(
    "page",
    [
        name
        for name, text in PAGES.items()
        if name not in ("README", "howto") and any(kind == "python" for kind, _ in blocks(text))
    ],
)
def test_the_python_of_a_page_runs(page: str, here: Path, request: pytest.FixtureRequest) -> None:
    if page in ("ray", "searching"):
        request.getfixturevalue("session")
    text, names = PAGES[page], GIVEN.get(page, dict)()
    for shown, small in SMALLER.get(page, {}).items():
        assert shown in text
        text = text.replace(shown, small)
    run_blocks(text, names)
    if page == "searching":
        rewards = [row["reward"] for row in read_records("search/search.jsonl")]
        assert len(rewards) == 3
        assert names["result"].reward == max(rewards)


@pytest.mark.parametrize("section", SECTIONS)
def test_a_how_to_runs_by_itself(
    section: str, cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnet_aihw.jobs.steps.report", lambda job: None)
    run_blocks(SECTIONS[section], {"__name__": "howto"} | GIVEN.get(section, dict)(), cli)
    if section == "A searcher of your own":
        assert read_json("job0/plain/search.json")["result"]["searcher"] == "one_layer"


def test_the_placement_of_a_page_is_one() -> None:
    (text,) = (text for kind, text in blocks(PAGES["compensation"]) if kind == "yaml")
    assert dict(Placement.parse(text)) == {"conv1": 0.5, "fc1": "digital"}


# -- commands


@pytest.mark.parametrize(
    "command",
    sorted(
        {
            command
            for name, text in PAGES.items()
            for command in commands(text)
            if name != "howto"  # all run
            and command.startswith("cnet-aihw")
            and "adc_levels" not in command  # has a test of its own
        }
    ),
)
def test_the_commands_compose(cli: Cli, only: Only, command: str) -> None:
    words = shlex.split(command)
    if "-m" in words:  # one job of a sweep stands for all
        words = [w if "[" in w else w.partition(",")[0] for w in words if w != "-m"]
    Path("mine.yaml").write_text("conv1: 0.5\n")
    Path("my_conf/rram").mkdir(parents=True)
    Path("my_conf/rram/my_device.yaml").write_text("defaults: [lognormal]\n")
    seen: list[Any] = []
    outcome = cli(*words[1:], only(seen.append))
    assert outcome.code == 0, outcome.err
    assert len(seen) == 1


def test_other_commands_are_few_and_known() -> None:
    for text in PAGES.values():
        for command in commands(text):
            assert command.startswith(("cnet-aihw", *ELSEWHERE)), command


def test_the_make_targets_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", PAGES["README"], flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)


# -- tables


def test_every_searcher_of_a_search_is_on_its_page() -> None:
    for path in (ROOT / "conf" / "search").glob("*.yaml"):
        assert f"`{path.stem}`" in PAGES["searching"] or f"search={path.stem}" in PAGES["searching"]


def test_every_device_stands_in_the_table() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| `(\w+)` \|", PAGES["devices"], flags=re.MULTILINE))
    files = {path.stem: path.read_text() for path in (ROOT / "conf" / "rram").glob("*.yaml")}
    used = {m for text in files.values() for m in re.findall(r"cnet_aihw\.rram\.(\w+Model)", text)}
    assert set(rows.values()) == used
    for name, model in rows.items():
        assert f"cnet_aihw.rram.{model}\n" in files[name]
