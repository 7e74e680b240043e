"""Fill the page `configuration` from conf/ and the docstrings of the settings, at each build."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from hydra import compose, initialize_config_dir
from hydra.utils import get_object
from omegaconf import OmegaConf
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.typing import ExtensionMetadata

from cnet_aihw.jobs.application import CONFIG_DIR
from cnet_aihw.jobs.schema import Config, register_schema

PAGE = "configuration"
GROUPS = (
    *("data", "task", "model", "rram", "crossbar", "training"),
    *("compensation", "compensation/corrector", "search", "attack", "tuning"),
    "kernel",
)
"""These come first, in this order."""
PACKAGES = {"crossbar": "rram", "compensation/corrector": "compensation.corrector"}
"""Groups whose keys belong to another one."""

TARGETS = {"search": "searcher.", "attack": "method."}
"""Groups whose target stands below a key."""


def reference() -> str:
    """Return the page's tables as Markdown: all typed keys, then each option of each group."""
    folders = {
        path.parent.relative_to(CONFIG_DIR).as_posix() for path in CONFIG_DIR.glob("*/**/*.yaml")
    }
    order = [*GROUPS, *sorted(folders - set(GROUPS))]
    return "\n".join([*_typed_keys(), *(line for group in order for line in _group(group))])


# -- keys that have a type


def _typed_keys() -> Iterator[str]:
    register_schema()
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        defaults = OmegaConf.to_container(compose("config"), resolve=False)
    yield "\n## Keys with a type\n"
    yield from _table("key", _top_level(Config, defaults))
    for field in fields(Config):
        kind = get_type_hints(Config)[field.name]
        if is_dataclass(kind):
            yield f"\n### {field.name}\n\n{_said(Config, field.name)}\n"
            yield from _table("key", _rows(kind, f"{field.name}.", defaults[field.name]))


def _top_level(kind: type, values: dict[str, Any]) -> Iterator[list[str]]:
    comments = {key: (value, said) for key, value, said in _leaves(CONFIG_DIR / "config.yaml")}
    for field in fields(kind):
        if not is_dataclass(get_type_hints(kind)[field.name]) and field.name in comments:
            yield [f"`{field.name}`", f"`{_short(values[field.name])}`", comments[field.name][1]]


def _rows(kind: type, prefix: str, values: dict[str, Any]) -> Iterator[list[str]]:
    hints = get_type_hints(kind)
    for field in fields(kind):
        value, hint = values[field.name], hints[field.name]
        if is_dataclass(hint):
            yield from _rows(hint, f"{prefix}{field.name}.", value)
        else:
            yield [f"`{prefix}{field.name}`", f"`{_short(value)}`", _said(kind, field.name)]


def _said(kind: type, name: str) -> str:
    """Return the docstring under a field of a dataclass, or of the one it comes from."""
    for owner in kind.__mro__:
        found = ModuleAnalyzer.for_module(owner.__module__).find_attr_docs()
        if (owner.__name__, name) in found:
            return _plain(" ".join(found[owner.__name__, name]))
    raise ValueError(f"{kind.__name__}.{name} has no docstring")


# -- files of conf/


def _group(group: str) -> Iterator[str]:
    yield f"\n## {group}\n"
    for path in sorted((CONFIG_DIR / group).glob("*.yaml")):
        yield f"\n### {group}={path.stem}\n\n{_head(path)}\n"
        text = path.read_text(encoding="utf-8")
        package = "" if "@package _global_" in text else f"{PACKAGES.get(group, group)}."
        node = yaml.safe_load(text)
        taken = [_name(entry) for entry in node.pop("defaults", []) if entry != "_self_"]
        if taken:
            yield f"Takes in {', '.join(f'`{name}`' for name in taken)}; its own:\n"
        values = {key: value for key, value, _ in _leaves(path)}
        said_of = _arguments(values, TARGETS.get(group, ""))
        rows = [
            [f"`{package}{key}`", _shown(key, value), said or said_of.get(key, "")]
            for key, value, said in _leaves(path)
            if not (key.startswith("rpu_config.") and str(value).startswith("${"))
        ]
        if rows:
            yield from _table("key", rows)


def _arguments(values: dict[str, Any], prefix: str) -> dict[str, str]:
    """Return the descriptions of the arguments of a file's target, by key."""
    name = values.get(f"{prefix}_target_", "???")
    if not name.startswith("cnet_aihw."):
        return {}
    target = get_object(name)
    if is_dataclass(target):
        return {f"{prefix}{field.name}": _said(target, field.name) for field in fields(target)}
    section = re.search(r"\n *Args:\n(.*?)\n\n", f"{inspect.getdoc(target)}\n\n", re.DOTALL)
    found = re.findall(
        r"^    (\w+): (.*(?:\n     .*)*)", section[1] if section else "", re.MULTILINE
    )
    return {f"{prefix}{name}": _plain(re.sub(r"\s+", " ", text)) for name, text in found}


def _shown(key: str, value: Any) -> str:
    """Return a value; the name of a target of this package as a link."""
    if key.endswith("_target_") and str(value).startswith("cnet_aihw."):
        return f"{{py:obj}}`{value}`"
    return f"`{_short(value)}`"


def _name(entry: Any) -> str:
    """Return one of a file's defaults, as a file of conf/."""
    if isinstance(entry, str):
        return entry
    ((group, option),) = entry.items()
    return f"{group.split('@')[0].removeprefix('override ').lstrip('/')}={option}"


def _head(path: Path) -> str:
    """Return the comment at the top of a file, with its commands verbatim."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    lines = [line for line in lines if not line.startswith("@package")]
    said = "\n".join(f"`{n}`\n" if n.startswith("cnet-aihw ") else _plain(n) for n in lines)
    return re.sub(r"(?<=\S)\n`cnet-aihw", "\n\n`cnet-aihw", said)


def _leaves(path: Path) -> Iterator[tuple[str, Any, str]]:
    """Key, value and the comment behind it, of each value of a file."""
    text = path.read_text(encoding="utf-8")
    yield from _below(yaml.compose(text), "", text.splitlines())


def _below(node: yaml.MappingNode, prefix: str, lines: list[str]) -> Iterator[tuple[str, Any, str]]:
    for key, value in node.value:
        name = prefix + key.value
        if name in ("defaults", "hydra"):
            continue
        in_block = isinstance(value, yaml.MappingNode) and not value.flow_style
        mark = key.end_mark if in_block else value.end_mark
        _, _, said = (
            lines[mark.line][mark.column :].partition("# ") if mark.line < len(lines) else ("",) * 3
        )
        if in_block:
            if said:
                yield name, "", _plain(said)
            yield from _below(value, f"{name}.", lines)
        else:
            yield name, yaml.safe_load(yaml.serialize(value)), _plain(said)


# -- Markdown


def _table(first: str, rows: Any) -> Iterator[str]:
    yield f"| {first} | value | |\n|---|---|---|"
    for row in rows:
        yield f"| {' | '.join(row)} |".replace("| `` |", "| |")
    yield ""


def _short(value: Any) -> str:
    """A value as it stands in a file."""
    if isinstance(value, str):
        return value
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000).strip()
    return text.removesuffix("...").strip()


def _plain(text: str) -> str:
    """Text whose characters Markdown is to leave alone, but for those in code."""
    parts = text.strip().replace("``", "`").split("`")
    parts[::2] = [re.sub(r"([*$<_^])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts).replace("|", r"\|")


def _fill(app: Sphinx, page: str, source: list[str]) -> None:
    if page == PAGE:
        source[0] += reference()


def setup(app: Sphinx) -> ExtensionMetadata:
    """Fill the page when it is read."""
    app.connect("source-read", _fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
