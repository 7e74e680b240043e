"""The rooms import one way, and only what pyproject.toml declares."""

import ast
import sys
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "cnet_aihw"
MAY_IMPORT: dict[str, set[str]] = {
    "runtime": set(),
    "cluster": {"runtime"},
    "zoo": {"runtime"},
    "tasks": {"runtime"},
    "rram": {"runtime"},
    "evaluation": {"runtime", "cluster", "tasks", "rram"},
    "training": {"runtime", "cluster", "tasks", "rram", "evaluation"},
    "attacks": {"runtime", "cluster", "tasks", "rram", "evaluation"},
    "bayes": {"runtime", "cluster", "tasks", "rram", "evaluation", "training"},
    "kernels": {"runtime", "cluster", "zoo", "tasks", "rram", "evaluation"},
    "compensation": {"runtime", "cluster", "tasks", "rram", "evaluation", "training"},
    "tuning": {"runtime", "tasks", "rram", "evaluation", "training", "compensation"},
    "search": {"runtime", "cluster", "tasks", "rram", "evaluation", "training", "compensation"},
    "testing": {"runtime", "tasks", "rram", "compensation", "search", "attacks"},
    "report": {"runtime"},
    "doctor": {"runtime", "cluster", "rram"},
    "jobs": {
        *("runtime", "cluster", "zoo", "tasks", "rram", "evaluation", "training", "compensation"),
        *("attacks", "bayes", "kernels", "tuning", "search", "report", "doctor", "conf"),
    },
}
# import name -> name of the distribution, where they differ
DISTRIBUTIONS = {
    "art": "adversarial-robustness-toolbox",
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


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


ROOMS = sorted(p.name for p in PACKAGE.iterdir() if (p / "__init__.py").exists())


def test_every_room_has_its_rule() -> None:
    assert set(ROOMS) == set(MAY_IMPORT)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_one_way(room: str) -> None:
    allowed = MAY_IMPORT[room] | {room}
    for path in (PACKAGE / room).rglob("*.py"):
        ours = {n.split(".")[1] for n in imported(path) if n.startswith("cnet_aihw.")}
        assert ours <= allowed, f"{path.relative_to(ROOT)} imports {sorted(ours - allowed)}"


def test_no_module_imports_itself_through_others() -> None:
    """Circles between modules, also those that a type checker alone would see."""
    graph = {
        module_name(path): {n for n in imported(path) if n.startswith("cnet_aihw.")}
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py"
    }
    edges = {m: {n for n in names if n in graph and n != m} for m, names in graph.items()}
    try:
        tuple(TopologicalSorter(edges).static_order())
    except CycleError as error:
        raise AssertionError(f"modules import each other: {error.args[1]}") from error


def test_no_module_is_longer_than_a_reader_can_hold() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in PACKAGE.rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 350
    }
    assert not long


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
