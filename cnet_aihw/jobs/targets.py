"""Values of Hydra targets, typed by the signatures of what they build."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from typing import Any

from hydra.utils import get_object

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.typed import accepts, check_type, hints_of, one_word

_TARGET = "_target_"


def typed_values(value: Any, raw: Any, key: str) -> Any:
    """Return a node with the arguments of all its targets checked and of the right type.

    Words of YAML for true and false are taken where true or false is wanted, numbers in quotes
    where a number is, and numbers where text is.

    Args:
        value: the node as plain values, all references resolved.
        raw: the same with references, for the keys in messages.
        key: dotted name of the node.

    Raises:
        CnetError: names the key that the user would change.
    """
    if isinstance(value, Mapping):
        hints = _hints(value, key)
        return {
            name: _typed_argument(inner, _part(raw, name), f"{key}.{name}", hints.get(name, Any))
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [
            typed_values(inner, _part(raw, place), f"{key}[{place}]")
            for place, inner in enumerate(value)
        ]
    return value


def _typed_argument(value: Any, raw: Any, key: str, hint: Any) -> Any:
    if isinstance(value, Mapping | list):
        value = typed_values(value, raw, key)
        if _holds_target(value):
            return value  # its type is that of what the target gives
    name = _referred(raw) or key
    value = _converted(name, value, hint)
    check_type(name, value, hint)
    return value


def _holds_target(value: Any) -> bool:
    inner = value.values() if isinstance(value, Mapping) else value
    if not isinstance(value, Mapping | list):
        return False
    return (isinstance(value, Mapping) and _TARGET in value) or any(map(_holds_target, inner))


def _converted(key: str, value: Any, hint: Any) -> Any:
    """Return a value as the type wanted, where there is one way to read it."""
    if hint is Any:
        return value
    text = accepts(hint, str) or accepts(hint, Path) or accepts(hint, PathLike)
    if isinstance(value, str) and not text:
        if accepts(hint, bool):
            return one_word(key, value)
        for kind in (int, float):
            if accepts(hint, kind):
                try:
                    return kind(value)
                except ValueError:
                    continue
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and text and not (accepts(hint, int) or accepts(hint, float)):
        return str(value)
    return value


def _hints(node: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the types of a target's arguments; none where they are not known.

    Raises:
        CnetError: for an argument that the target does not have.
    """
    path = node.get(_TARGET)
    if not isinstance(path, str):
        return {}
    try:
        target = get_object(path)
        parameters = inspect.signature(target).parameters
    except Exception:  # the target is of the user, who learns of it when it is built
        return {}
    names = [name for name in node if not name.startswith("_")]
    open_end = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name in names:
        if name not in parameters and not open_end:
            near = get_close_matches(name, parameters, n=1)
            hint = f"did you mean {key}.{near[0]}?" if near else f"there are {_listed(parameters)}."
            raise CnetError(
                f"{key}.{name} is not an argument of {path}; {hint}",
                key=f"{key}.{name}",
                expected=near or list(parameters),
            )
    made_by = getattr(target, "__init__") if isinstance(target, type) else target  # noqa: B009
    hints = hints_of(made_by.func if isinstance(made_by, functools.partial) else made_by)
    for name in names:
        if name in parameters and isinstance(parameters[name].default, bool):
            hints.setdefault(name, bool)
    return hints


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(names) or "none"


def _part(raw: Any, place: str | int) -> Any:
    """Return a part of a node that may be a reference as a whole."""
    try:
        return raw[place]
    except (TypeError, KeyError, IndexError):
        return None


def _referred(raw: Any) -> str | None:
    """Return the key that a value is taken from: sigma of ``${rram.sigma}``."""
    if not (isinstance(raw, str) and raw.startswith("${") and raw.endswith("}")):
        return None
    name = raw[2:-1].removeprefix("oc.select:")
    return name if name.replace(".", "").replace("_", "").isalnum() else None
