"""The wheel and the list of packages hold everything that is here."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_room_is_in_the_list_of_packages() -> None:
    rooms = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "cnet_aihw").rglob("__init__.py")
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == rooms | {"cnet_aihw.conf"}


def test_every_lazy_name_can_be_imported() -> None:
    code = """
import importlib, pathlib, cnet_aihw
root = pathlib.Path(cnet_aihw.__file__).parent
for path in root.rglob("__init__.py"):
    room = importlib.import_module(".".join(("cnet_aihw", *path.parent.relative_to(root).parts)))
    for name in getattr(room, "__all__", ()):
        getattr(room, name)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def pinned(file: str) -> dict[str, str]:
    """Return the version of each package in a file of lines such as ``numpy==2.0.2``."""
    lines = (ROOT / file).read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert {bound.operator for pin in pins for bound in pin.specifier} == {"=="}
    versions = {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in pins}
    assert len(versions) == len(pins)
    return versions


def test_the_lowest_constraints_are_the_lower_bounds() -> None:
    bounds = {}
    for text in PROJECT["project"]["dependencies"]:
        wanted = Requirement(text)
        (lower,) = (bound for bound in wanted.specifier if bound.operator == ">=")
        bounds[canonicalize_name(wanted.name)] = lower.version
    assert pinned("constraints-lowest.txt") == bounds


def test_constraints_pin_every_dependency_within_its_range() -> None:
    pins = pinned("constraints.txt")
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    for text in [*project["dependencies"], *extras["dev"], *extras["text"], *extras["zoo"]]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(pins[canonicalize_name(wanted.name)]), text


@pytest.mark.slow
def test_the_wheel_holds_everything(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("cnet_aihw", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path),
    ]
    subprocess.run([*command, str(source)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        info = {name.split("/", 1)[1] for name in archive.namelist() if ".dist-info/" in name}
    expected = {
        str(path.relative_to(source))
        for path in (source / "cnet_aihw").rglob("*")
        if path.suffix in (".py", ".j2", ".css", ".js") or path.name == "py.typed"
    }
    for path in (source / "conf").rglob("*"):
        if path.suffix in (".py", ".yaml"):
            expected.add(f"cnet_aihw/{path.relative_to(source)}")
    assert held == expected
    assert {"entry_points.txt", "licenses/LICENSE"} <= info
