"""The rooms import one way, and only what pyproject.toml declares."""

import ast
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "cnet_aihw"
GROUND = {"errors", "locks", "records"}
MAY_IMPORT: dict[str, set[str]] = {
    "zoo": set(),
    "rram": set(),
    "evaluation": {"rram"},
    "training": {"rram", "evaluation"},
    "compensation": {"rram", "evaluation", "training"},
    "search": {"rram", "evaluation", "training", "compensation"},
    "report": set(),
    "jobs": {"zoo", "rram", "evaluation", "training", "compensation", "search", "report", "conf"},
}
# import name -> name of the distribution, where they differ
DISTRIBUTIONS = {
    "hydra": "hydra-core",
    "sklearn": "scikit-learn",
    "PIL": "pillow",
    "yaml": "pyyaml",
}
# brought and pinned by a declared one
BROUGHT = {"packaging": "hydra-core", "pillow": "torchvision"}


def imported(path: Path) -> set[str]:
    """Full names of all modules that a file imports, at its top or inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                folder = path.parent
                for _ in range(node.level - 1):
                    folder = folder.parent
                base = ".".join(folder.relative_to(ROOT).parts)
                names.add(f"{base}.{node.module}" if node.module else base)
            elif node.module == "cnet_aihw":
                names |= {f"cnet_aihw.{alias.name}" for alias in node.names}
            else:
                names.add(str(node.module))
    return names


ROOMS = sorted(p.name for p in PACKAGE.iterdir() if (p / "__init__.py").exists())


def test_every_room_has_its_rule() -> None:
    assert set(ROOMS) == set(MAY_IMPORT)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_one_way(room: str) -> None:
    allowed = MAY_IMPORT[room] | GROUND | {room}
    for path in (PACKAGE / room).rglob("*.py*"):
        if path.suffix not in (".py", ".pyi"):
            continue
        ours = {n.split(".")[1] for n in imported(path) if n.startswith("cnet_aihw.")}
        assert ours <= allowed, f"{path.relative_to(ROOT)} imports {sorted(ours - allowed)}"


@pytest.mark.parametrize("name", sorted(GROUND))
def test_the_common_ground_imports_no_room(name: str) -> None:
    ours = {n.split(".")[1] for n in imported(PACKAGE / f"{name}.py") if n.startswith("cnet_aihw.")}
    assert ours <= GROUND


def test_only_jobs_knows_hydra() -> None:
    for path in PACKAGE.rglob("*.py"):
        if path.is_relative_to(PACKAGE / "jobs"):
            continue
        tops = {name.split(".")[0] for name in imported(path)}
        assert not tops & {"hydra", "omegaconf"}, path


def test_every_library_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {
        text.split("[")[0]
        .split(">")[0]
        .split("=")[0]
        .split("<")[0]
        .strip()
        .lower()
        .replace("_", "-")
        for texts in (project["dependencies"], *project["optional-dependencies"].values())
        for text in texts
    }
    for path in PACKAGE.rglob("*.py"):
        for top in {name.split(".")[0] for name in imported(path)}:
            if top == "cnet_aihw" or top in sys.stdlib_module_names:
                continue
            library = DISTRIBUTIONS.get(top, top).lower().replace("_", "-")
            assert BROUGHT.get(library, library) in declared, f"{path.name} imports {top}"
