"""The help text, and one sentence out of the exceptions of Hydra and OmegaConf."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.values import nearest

_SEVERAL = "Ambiguous value for argument "
_NOT_A_LIST = "is not a ListConfig, list or tuple", "is not a list; write KEY=[VALUE,...]"
_DETAILS = ("full_key:", "reference_type", "object_type", "See https://")


def help_text(config_dir: Path) -> str:
    """Return the help: the template of config.yaml with the groups of its defaults list.

    Hydra would write the same text, but copies all configurations once for each group.

    Args:
        config_dir: the folder of the configuration.
    """
    config = OmegaConf.load(config_dir / "config.yaml")
    names = [name for entry in config.defaults if not isinstance(entry, str) for name in entry]
    groups = (
        f"  {name}: {', '.join(sorted(path.stem for path in (config_dir / name).glob('*.yaml')))}"
        for name in names
    )
    template = string.Template(config.hydra.help.template)
    return template.safe_substitute(APP_CONFIG_GROUPS="\n".join(groups))


def one_sentence(error: BaseException) -> str:
    """Return one line for the user about an error of the configuration.

    A `CnetError` in the chain says it best; an unknown key is reported with the nearest known one;
    otherwise the messages of the chain follow each other.
    """
    chain = _chain(error)
    for link in chain:
        if isinstance(link, CnetError):
            return _flat(str(link))
    for link in chain:
        if isinstance(link, ConfigKeyError | ConfigAttributeError):
            return _unknown_key(link)
        if isinstance(link, OverrideParseException):
            return (
                f"{link.override!r} cannot be read; write KEY=VALUE, or GROUP=OPTION, and a value "
                "with = ( ) , : or a space in it as \"KEY='VALUE'\"."
            )
        if isinstance(link, BrokenPipeError):
            return (
                "what read this command's output has ended before it, such as head; the same "
                "command goes on, and with > FILE its output is kept."
            )
        if isinstance(link, OSError) and link.strerror and link.filename is None:
            return (
                f"the results cannot be written ({link.strerror}); make room on the disk, or give "
                "another folder with run=FOLDER."
            )
        if isinstance(link, OSError) and link.strerror:
            name = str(link.filename)
            shown = f"{name[:97]}..." if len(name) > 100 else name
            return f"{shown} cannot be read or written ({link.strerror}); give another path."
        if isinstance(link, MissingConfigException) and link.options:
            options = ", ".join(link.options)
            return f"{link.missing_cfg_file} does not exist; there are {options}."
    parts: list[str] = []
    telling = (OmegaConfBaseException, ImportError)
    for link in chain[:1] + [e for e in chain[1:] if isinstance(e, telling)]:
        text = _flat(str(link))
        if text.startswith(_SEVERAL):
            word = text.removeprefix(_SEVERAL).partition(" ")[0].strip("'")
            return (
                f"{word} has several values; add --multirun (-m) for a sweep over them, or write "
                f"{word.replace('=', '=[', 1)}] for a list."
            )
        text = text.replace(*_NOT_A_LIST)
        if text and "$VALUE" not in text and not any(text in other for other in parts):
            parts.append(text)
    return ": ".join(parts) or type(error).__name__


def _chain(error: BaseException) -> list[BaseException]:
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in links:
        links.append(link)
        link = link.__cause__ or link.__context__
    return links


def _unknown_key(error: ConfigKeyError | ConfigAttributeError) -> str:
    key = str(error.full_key or error.key)
    parent = error.parent_node
    known = [str(name) for name in parent] if isinstance(parent, DictConfig) else []
    near = nearest(key.rpartition(".")[2], known, cutoff=0.7)
    prefix = f"{key.rpartition('.')[0]}." if "." in key else ""
    if near:
        return f"{key} does not exist; did you mean {prefix}{near}?"
    target = _target_of(parent, prefix) if "_target_" in known else ""
    if target and not target.startswith("cnet_aihw."):  # whose arguments all stand there
        return f"{key} does not exist; an argument of {target} is added with +{key}=VALUE."
    known = [name for name in known if name != "_target_"]
    if known:
        return f"{key} does not exist; there are {', '.join(sorted(known))}."
    others = _called(parent._get_root(), key.rpartition(".")[2]) if parent is not None else []
    hint = f"did you mean {' or '.join(others)}?" if others else "leave it out."
    return f"{key} does not exist; {hint}"


def _target_of(node: DictConfig, prefix: str) -> str:
    """Return a target as it stands in the configuration, where it may not be given yet."""
    if OmegaConf.is_missing(node, "_target_"):
        return f"{prefix}_target_"
    return str(node._get_node("_target_"))


def _called(node: Any, name: str, prefix: str = "") -> list[str]:
    """Return the dotted names of keys with a name, in groups and groups within them."""
    if not isinstance(node, DictConfig) or node._is_none() or prefix.count(".") > 1:
        return []
    found = [f"{prefix}{name}"] if name in node else []
    for key in map(str, node):
        if key != "hydra" and not OmegaConf.is_missing(node, key):
            found += _called(node._get_node(key), name, f"{prefix}{key}.")
    return sorted(found, key=lambda one: one.count("."))[:2]


def _flat(text: str) -> str:
    """Return a message without Hydra's additions (search path, full_key, object_type, ...)."""
    text = text.partition("Config search path:")[0]
    text = text.replace(", set env var HYDRA_FULL_ERROR=1 to see chained exception", "")
    lines = (line.strip() for line in text.splitlines())
    return " ".join(line for line in lines if line and not line.startswith(_DETAILS))
