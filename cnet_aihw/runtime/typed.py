"""Values checked against type hints: arguments of public functions and fields of settings."""

from __future__ import annotations

import collections.abc
import functools
import inspect
import math
import numbers
import operator
import os
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Literal, Union

from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.values import bad_choice, is_whole

YES, NO = ("true", "yes", "on", "y"), ("false", "no", "off", "n")
"""Words of YAML 1.1 for true and false, in lower case."""
_MEMBERS = "__protocol_attrs__"
_SEQUENCES = (
    *(list, tuple, collections.abc.Sequence, collections.abc.Iterable),
    collections.abc.Collection,
)
_VIEWS = (collections.abc.Iterable, collections.abc.Collection)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def checked[**Given, Result](function: Callable[Given, Result]) -> Callable[Given, Result]:
    """Check the arguments of a function against its type hints at each call.

    The type hints alone count; ranges of values are the function's own. NaN is not a number here.

    Args:
        function: a function, or the ``__init__`` of a class.

    Returns:
        The same function; it raises a `CnetError` that names the argument, before any work.
    """
    hints: dict[str, Any] = {}
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        if not hints:
            hints.update(hints_of(function))
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:  # the function itself says which argument is missing
            _check_known(function, signature, kwargs)
            return function(*args, **kwargs)
        for name, value in given.items():
            if signature.parameters[name].kind in _VARIADIC:
                continue
            check_type(name, value, hints.get(name, Any))
        return function(*args, **kwargs)

    return call


def _check_known(function: Any, signature: inspect.Signature, given: Mapping[str, Any]) -> None:
    """Refuse an argument that a function does not have, and name those that it has."""
    parameters = signature.parameters
    unknown = [name for name in given if name not in parameters]
    if not unknown or any(p.kind == p.VAR_KEYWORD for p in parameters.values()):
        return
    names = [name for name, p in parameters.items() if name != "self" and p.kind not in _VARIADIC]
    called = function.__qualname__.removesuffix(".__init__").rpartition(".")[2]
    raise TypeError(f"{called}() has no argument {unknown[0]!r}; it has {', '.join(names)}.")


def check_fields(settings: object, prefix: str = "") -> None:
    """Check the fields of a dataclass against their type hints, those of inner ones too.

    Args:
        settings: an instance.
        prefix: beginning of the keys in messages, such as ``training.``.

    Raises:
        CnetError: names the first field of another type.
    """
    hints = hints_of(type(settings))
    for field in fields(settings):  # type: ignore[arg-type]
        value = getattr(settings, field.name)
        check_type(prefix + field.name, value, hints.get(field.name, Any))
        if hasattr(value, "__dataclass_fields__") and type(value).__module__.endswith("settings"):
            check_fields(value, f"{prefix}{field.name}.")


def hints_of(target: Any) -> dict[str, Any]:
    """Return the type hints of a function or dataclass by name; those not resolvable are Any."""
    owners = target.__mro__[::-1] if isinstance(target, type) else (target,)
    found: dict[str, Any] = {}
    for owner in owners:
        module = getattr(owner, "__module__", None)  # which object.__init__ does not have
        names = getattr(sys.modules.get(str(module)), "__dict__", {})
        names = names | getattr(inspect.unwrap(owner), "__globals__", {})
        inner = {p.__name__: p for p in getattr(owner, "__type_params__", ())}
        for name, hint in getattr(owner, "__annotations__", {}).items():
            if isinstance(hint, str):
                try:
                    hint = eval(hint, dict(names), inner)
                except (NameError, AttributeError, TypeError):  # imported for type checkers alone
                    hint = Any
            found[name] = hint
    return found


def check_type(key: str, value: object, hint: Any) -> None:
    """Check one value against a type hint.

    Raises:
        CnetError: names the key, the value and what the hint allows.
    """
    if _fits(value, hint):
        return
    options = [option for option in _options(hint) if option is not type(None)]
    if len(options) == 1 and typing.get_origin(options[0]) is Literal and isinstance(value, str):
        raise bad_choice(key, value, typing.get_args(options[0]))
    expected, fix = describe(hint), None
    if isinstance(value, type) and any(_makes(value, option) for option in options):
        fix = f"give an instance: {value.__name__}()"
    lacking = [] if fix or len(options) != 1 else _lacking(value, options[0])
    without = f" without {', '.join(lacking)}" if lacking else ""
    message = (
        f"{key} is {_Short(value)!r}{without}; expected {expected}{'; ' + fix if fix else ''}."
    )
    raise CnetError(message, key=key, value=value, expected=expected, fix=fix)


def describe(hint: Any) -> str:
    """Return a type hint in words."""
    options = [o for o in _options(hint) if o is not int or not accepts(hint, float)]
    words = dict.fromkeys(map(_words, options))
    return " or ".join(words)


def accepts(hint: Any, kind: type) -> bool:
    """Say whether a type hint names a type, alone or in a union."""
    return kind in _options(hint)


def one_word(key: str, text: str) -> bool:
    """Return the truth that a word of YAML stands for.

    Raises:
        CnetError: for any other word.
    """
    if text.strip().lower() in (*YES, *NO):
        return text.strip().lower() in YES
    raise bad_value(key, text, "true or false")


class _Short:
    """A value that shows as a short text in messages, whatever its size."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __repr__(self) -> str:
        value = self.value
        simple = value is None or isinstance(value, bool | int | float | str | bytes)
        if not simple and not isinstance(value, list | tuple | dict | type):
            return f"of type {type(value).__name__}"
        try:
            text = value.__name__ if isinstance(value, type) else repr(value)
        except ValueError:  # a whole number of more digits than Python prints
            return f"of type {type(value).__name__}"
        return text if len(text) <= 80 else f"{text[:77]}..."


def _options(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union, aliases resolved; another hint is its only option."""
    if isinstance(hint, typing.TypeAliasType):
        hint = hint.__value__
    if isinstance(hint, str):
        return (Any,)
    if typing.get_origin(hint) in (Union, types.UnionType):
        return tuple(option for part in typing.get_args(hint) for option in _options(part))
    return (type(None) if hint is None else hint,)


def _fits(value: object, hint: Any) -> bool:
    return any(_fits_one(value, option) for option in _options(hint))


def _fits_one(value: object, hint: Any) -> bool:
    if hint is Any:
        return True
    if isinstance(hint, typing.TypeVar):
        return hint.__bound__ is None or _fits(value, hint.__bound__)
    if hint is bool:
        return isinstance(value, bool) or type(value).__name__ in ("bool_", "bool")
    if hint is int:
        return is_whole(value) or _is_index(value)
    if hint is float:
        return _is_real(value)
    if hint is str:
        return isinstance(value, str) and "\0" not in value
    if isinstance(hint, type) and issubclass(hint, os.PathLike):
        return isinstance(value, os.PathLike) or (isinstance(value, str) and "\0" not in value)
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return isinstance(value, str) and value in inner
    kind = origin or hint
    if not isinstance(kind, type) or kind is object:
        return True  # what is not a class
    if issubclass(kind, str) or kind is collections.abc.Callable:
        return isinstance(value, kind)
    if kind in _SEQUENCES:
        return _fits_sequence(value, kind, inner)
    if isinstance(value, dict) and inner and issubclass(dict, kind):
        return all(_fits(k, inner[0]) and _fits(v, inner[-1]) for k, v in value.items())
    if getattr(kind, "_is_protocol", False):
        return not isinstance(value, type) and not _lacking(value, kind)
    return isinstance(value, kind)


def _lacking(value: object, kind: Any) -> list[str]:
    """Return the members of a protocol that a value does not have."""
    members = vars(kind)[_MEMBERS] if getattr(kind, "_is_protocol", False) else ()
    return sorted(name for name in members if not _has(value, name))


def _has(value: object, name: str) -> bool:
    """Say whether a value has an attribute; properties are not computed for it."""
    return (
        hasattr(type(value), name) or name in getattr(value, "__dict__", ()) or hasattr(value, name)
    )


def _fits_sequence(value: object, kind: type, inner: tuple[Any, ...]) -> bool:
    if isinstance(value, str | bytes) or (isinstance(value, Mapping) and kind not in _VIEWS):
        return False
    if not isinstance(value, collections.abc.Iterable):
        return False
    if kind is not collections.abc.Iterable and not hasattr(value, "__len__"):
        return False
    if isinstance(value, Mapping):
        return not inner or all(_fits(key, inner[0]) for key in value)
    if not isinstance(value, list | tuple):
        # of an array or a stream the content is not gone through, but arrays hold numbers
        return not (hasattr(value, "dtype") and inner) or _of_numbers(inner[0])
    if kind is tuple and inner and inner[-1] is not Ellipsis:
        return len(value) == len(inner) and all(map(_fits, value, inner))
    return not inner or all(_fits(item, inner[0]) for item in value)


def _of_numbers(hint: Any) -> bool:
    return any(option in (int, float, Any) for option in _options(hint))


def _makes(value: type, option: Any) -> bool:
    """Say whether instances of a class fit an option."""
    if not isinstance(option, type) or option is object:
        return False
    if getattr(option, "_is_protocol", False):
        return all(hasattr(value, name) for name in vars(option)[_MEMBERS])
    return issubclass(value, option)


def _is_index(value: object) -> bool:
    """Say whether a value of another library, such as a tensor of one number, is whole."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        return False
    try:
        operator.index(value)
    except (TypeError, ValueError, RuntimeError):
        return False
    return not str(getattr(value, "dtype", "")).endswith("bool")


def _is_real(value: object) -> bool:
    """Say whether a value is a number that a float can hold; NaN, True and False are not."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    try:
        return not math.isnan(float(value))
    except OverflowError:
        return False


def _words(option: Any) -> str:
    simple = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text",
        type(None): "none",
    }
    if option in simple:
        return simple[option]
    origin, inner = typing.get_origin(option), typing.get_args(option)
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}"
    kind = origin or option
    if isinstance(kind, type) and issubclass(kind, os.PathLike):
        return "a path"
    if kind is tuple and inner and inner[-1] is not Ellipsis:
        return f"{len(inner)} values: {', '.join(map(describe, inner))}"
    if option is Any:
        return "anything"
    if kind in _SEQUENCES:
        of = f" of {describe(inner[0])}" if inner else ""
        return f"a list{of}"
    if kind is collections.abc.Callable:
        return "a function"
    if isinstance(option, typing.TypeVar):
        return "anything" if option.__bound__ is None else describe(option.__bound__)
    name = getattr(kind, "__name__", str(kind))
    return f"{'an' if name[:1] in 'AEIOU' else 'a'} {name}"
