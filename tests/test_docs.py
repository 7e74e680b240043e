"""The site is complete: every public name, every key of conf/, every default and test named."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from cnet_aihw.jobs.schema import register_schema

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
CONF = ROOT / "conf"
FILES = sorted(CONF.glob("*/**/*.yaml"))


def public_names(room: Path) -> set[str]:
    """The names that a room lists under ``if TYPE_CHECKING:``."""
    blocks = [node for node in ast.parse(room.read_text()).body if isinstance(node, ast.If)]
    imports = [line for block in blocks for line in block.body if isinstance(line, ast.ImportFrom)]
    return {alias.asname or alias.name for line in imports for alias in line.names}


def test_every_public_name_is_in_the_api_reference() -> None:
    pages = "".join(page.read_text() for page in (DOCS / "api").glob("*.rst"))
    modules = re.findall(r"automodule:: (\S+)", pages)
    rooms = [ROOT / module.replace(".", "/") / "__init__.py" for module in modules]
    shown = {"CnetError"}.union(*(public_names(room) for room in rooms if room.exists()))
    folders = {path.parent.name for path in (ROOT / "cnet_aihw").glob("*/__init__.py")}
    for room in (ROOT / "cnet_aihw").rglob("__init__.py"):
        assert public_names(room) - folders <= shown, room.parent


def test_every_example_is_on_the_site() -> None:
    shown = re.findall(
        r"\{literalinclude\} \.\./examples/(\S+)", (DOCS / "examples.md").read_text()
    )
    assert shown == sorted(path.name for path in (ROOT / "examples").glob("*.py"))


# -- the configuration reference


@pytest.fixture(scope="module")
def reference() -> str:
    """The generated part of the page, without Markdown's escapes."""
    path = DOCS / "extensions" / "configuration.py"
    spec = importlib.util.spec_from_file_location("configuration", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return re.sub(r"\\(?=[|*$<_^])", "", module.reference())


def test_every_option_of_every_group_is_described(reference: str) -> None:
    for path in FILES:
        group = path.parent.relative_to(CONF).as_posix()
        assert f"\n### {group}={path.stem}\n" in reference


def test_every_comment_behind_a_value_is_in_the_reference(reference: str) -> None:
    for path in FILES:
        for line in path.read_text(encoding="utf-8").splitlines():
            key, mark, comment = line.partition(" # ")
            if mark and not key.startswith(("#", "hydra:")):
                assert comment.strip() in reference, f"{path.name}: {line}"


def test_every_typed_key_stands_with_its_default(reference: str) -> None:
    config = default_config()
    objects = (
        "search.searcher.",
        "compensation.corrector.",
        "attack.method.",
    )  # their keys are of their own files
    for group in (
        "training",
        "compensation",
        "search",
        "select",
        "ray",
        "evaluation",
        "attack",
        "tuning",
        "bayes",
        "kernel",
    ):
        for key, value in leaves(config[group], f"{group}."):
            if not key.startswith(objects):
                (shown,) = re.findall(
                    rf"^\| `{re.escape(key)}` \| `(.*?)` \| .+ \|$",
                    reference.partition("\n## data\n")[0],
                    flags=re.MULTILINE,
                )
                assert shown.startswith("${") or as_yaml(shown) == value, key


# -- the paper


def test_the_defaults_beside_the_paper_are_those_of_conf() -> None:
    text = (DOCS / "paper.md").read_text(encoding="utf-8")
    claims = re.findall(r"^\| .+? \| `([\w.]+)` = `(.+?)` \|", text, flags=re.MULTILINE)
    assert len(claims) > 30
    config = OmegaConf.create(default_config("compensation=paper"))
    for key, value in claims:
        actual = OmegaConf.select(config, key, throw_on_missing=True)
        if OmegaConf.is_config(actual):
            actual = OmegaConf.to_container(actual)
        assert as_yaml(value) == actual, key


# -- the traps


def test_the_tests_named_beside_traps_are_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", (DOCS / "traps.md").read_text(encoding="utf-8")))
    assert len(named) > 20
    tests = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("tests/**/test_*.py"))
    assert named <= set(re.findall(r"^def (test_\w+)", tests, flags=re.MULTILINE))


def test_every_trap_that_is_warned_of_is_on_the_page() -> None:
    code = (ROOT / "cnet_aihw" / "rram" / "traps.py").read_text(encoding="utf-8")
    warned = set(re.findall(r'Trap\(\s*"([\w-]+)"', code))
    page = (DOCS / "traps.md").read_text(encoding="utf-8")
    assert warned == set(re.findall(r"warned \(`([\w-]+)`\)", page))


def default_config(*words: str) -> dict:
    register_schema()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return OmegaConf.to_container(compose("config", list(words)))


def leaves(node: dict, prefix: str) -> list[tuple[str, object]]:
    """Dotted key and value of everything but mappings."""
    return [
        leaf
        for name, value in node.items()
        for leaf in (
            leaves(value, f"{prefix}{name}.")
            if isinstance(value, dict)
            else [(prefix + name, value)]
        )
    ]


def as_yaml(text: str) -> object:
    """A value as Hydra reads it: numbers such as 1e-3 too."""
    return OmegaConf.to_container(OmegaConf.create(f"value: {text}"))["value"]
