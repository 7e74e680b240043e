"""Values of Hydra targets, typed by the signatures of what they build."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.origin import own_line
from cnet_aihw.runtime.typed import accepts, check_type, hints_of, one_word
from cnet_aihw.runtime.values import nearest

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
    target = located(path, f"{key}.{_TARGET}")
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):  # without a signature, as some functions of C
        return {}
    names = [name for name in node if not name.startswith("_")]
    open_end = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name in names:
        if name not in parameters and not open_end:
            near = nearest(name, parameters)
            hint = f"did you mean {key}.{near}?" if near else f"there are {_listed(parameters)}."
            raise CnetError(
                f"{key}.{name} is not an argument of {path}; {hint}",
                key=f"{key}.{name}",
                expected=near or list(parameters),
            )
    _check_given(path, key, parameters, node)
    made_by = getattr(target, "__init__") if isinstance(target, type) else target  # noqa: B009
    hints = hints_of(made_by.func if isinstance(made_by, functools.partial) else made_by)
    for name in names:
        if name in parameters and isinstance(parameters[name].default, bool):
            hints.setdefault(name, bool)
    return hints


def _check_given(
    path: str, key: str, parameters: Mapping[str, inspect.Parameter], node: Mapping[str, Any]
) -> None:
    """Refuse a target whose arguments are not all given.

    Raises:
        CnetError: names the first one that lacks a value.
    """
    if node.get("_partial_") or node.get("_args_"):
        return
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    for name, parameter in parameters.items():
        if parameter.kind in kinds and parameter.default is parameter.empty and name not in node:
            fix = f"give it a value with +{key}.{name}=VALUE"
            raise CnetError(
                f"{key}.{name} is missing, which {path} needs; {fix}.",
                key=f"{key}.{name}",
                expected="a value",
                fix=fix,
            )


def located(path: str, key: str) -> Any:
    """Return the object that a dotted name stands for.

    Raises:
        CnetError: where its module is not found or fails, or lacks the name.
    """
    parts = path.split(".")
    place, known, found = 0, "", None
    while place < len(parts):
        name = ".".join(parts[: place + 1])
        if found is not None and hasattr(found, parts[place]):
            found = getattr(found, parts[place])
        elif found is None or inspect.ismodule(found):
            try:
                found = import_module(name)
            except ModuleNotFoundError as error:
                if error.name != name:  # a module that this one imports
                    raise _not_imported(key, path, name, error) from error
                raise _not_found(key, path, known, found, parts[place]) from error
            except Exception as error:
                raise _not_imported(key, path, name, error) from error
        else:
            raise _not_found(key, path, known, found, parts[place])
        place, known = place + 1, name
    return found


def _not_imported(key: str, path: str, module: str, error: Exception) -> CnetError:
    line = own_line(error)
    reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    return CnetError(
        f"{key} is {path!r}, but {module} cannot be imported ({reason}"
        f"{f', at {line}' if line else ''}); mend that module, or name another.",
        key=key,
        value=path,
        expected="the dotted name of a class or function",
        fix="mend that module, or name another",
    )


def _not_found(key: str, path: str, known: str, found: Any, name: str) -> CnetError:
    if found is None:
        reason = f"no module {name!r} lies in the current folder or is installed"
        fix = "give MODULE.NAME, and call from the folder that holds the module"
    else:
        near = nearest(name, dir(found))
        reason = f"{known} has no {name!r}"
        fix = f"did you mean {known}.{near}?" if near else "give a name that is in it"
    return CnetError(
        f"{key} is {path!r}, but {reason}; {fix}{'' if fix.endswith('?') else '.'}",
        key=key,
        value=path,
        expected="the dotted name of a class or function",
        fix=fix,
    )


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
