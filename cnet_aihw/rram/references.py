"""References to layers outside of torch's registers: in lists, partials, methods and closures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import FunctionType, MethodType
from typing import Any

from torch import nn

from cnet_aihw.rram.layer_names import is_compiled

_REGISTERS = frozenset(vars(nn.Module()))
"""Attributes that torch itself knows: parameters, children, hooks."""

_LIBRARIES = ("builtins", "torch", "numpy", "aihwkit", "cnet_aihw")
"""Packages whose objects hold no layers of a network."""

_DEPTH = 6
"""How deep references may lie in lists and objects that lie in each other."""


def exchange_references(model: nn.Module, new_of: Mapping[nn.Module, nn.Module]) -> None:
    """Put modules in place of others in what modules keep beside their registered children.

    Args:
        model: the network; its plain attributes, lists, dictionaries, tuples, partials, bound
            methods and objects that hold such are changed in place.
        new_of: module -> the one that takes its place.
    """

    def change(value: Any) -> Any:
        if isinstance(value, nn.Module):
            return new_of.get(value, value)
        if isinstance(value, MethodType) and isinstance(value.__self__, nn.Module):
            old, new = value.__self__, new_of.get(value.__self__)
            if new is not None and _is_own(value, type(old)):
                return getattr(new, value.__name__)
        return value

    _map_references(model, change)


def rebind_methods(model: nn.Module, old_classes: Mapping[nn.Module, type[nn.Module]]) -> None:
    """Bind methods of modules again whose class has changed since.

    Args:
        model: the network; changed in place.
        old_classes: module -> the class that it had.
    """

    def change(value: Any) -> Any:
        if isinstance(value, MethodType):
            owner: Any = value.__self__
            old_class = old_classes.get(owner) if _hashable(owner) else None
            if old_class is not None and _is_own(value, old_class):
                return getattr(owner, value.__name__)
        return value

    _map_references(model, change)


def closure_over_layers(model: nn.Module) -> tuple[str, str] | None:
    """Find a function kept by a module that computes with layers from around it.

    A copy of a network shares its functions, so that such a one uses the layers of the original.

    Args:
        model: the network.

    Returns:
        Name of the module and of its attribute, of the first one; None without any.
    """
    modules = set(model.modules())
    for name, module in model.named_modules():
        if is_compiled(module):  # torch compiles a copy again
            continue
        for attribute, value in vars(module).items():
            if attribute not in _REGISTERS and _reaches(value, modules, set()):
                return name, attribute
    return None


def _is_own(method: MethodType, owner: type) -> bool:
    """Say whether a bound method is the one that a class defines, not one made by hand."""
    return method.__func__ is getattr(owner, method.__name__, None)


def _hashable(value: Any) -> bool:
    return type(value).__hash__ is not None


def _map_references(model: nn.Module, change: Callable[[Any], Any]) -> None:
    seen: set[int] = set()
    for module in list(model.modules()):
        for name, value in list(vars(module).items()):
            if name not in _REGISTERS:
                new = _mapped(value, change, seen, 0)
                if new is not value:
                    vars(module)[name] = new


def _mapped(value: Any, change: Callable[[Any], Any], seen: set[int], depth: int) -> Any:
    """Return a value with all references in it changed, in place where it can be."""
    if isinstance(value, nn.Module | MethodType):
        return change(value)
    if depth > _DEPTH:
        return value
    if isinstance(value, list | dict) or _is_plain_object(value):
        if id(value) not in seen:
            seen.add(id(value))
            _map_in_place(value, change, seen, depth + 1)
    elif isinstance(value, partial):
        parts = (value.func, value.args, value.keywords)
        func, args, keywords = (_mapped(part, change, seen, depth + 1) for part in parts)
        if func is not value.func or args is not value.args:
            return partial(func, *args, **keywords)
    elif isinstance(value, tuple):
        items = [_mapped(item, change, seen, depth + 1) for item in value]
        if any(new is not old for new, old in zip(items, value, strict=True)):
            made = getattr(type(value), "_make", type(value))  # of a named tuple
            return made(items)
    return value


def _map_in_place(value: Any, change: Callable[[Any], Any], seen: set[int], depth: int) -> None:
    inside = value if isinstance(value, list | dict) else vars(value)
    items = list(enumerate(inside) if isinstance(inside, list) else inside.items())
    for key, item in items:
        new = _mapped(item, change, seen, depth)
        if new is not item:
            inside[key] = new


def _is_plain_object(value: Any) -> bool:
    """Say whether a value is an object of a user's own class, which may hold layers."""
    kind = type(value)
    return (
        hasattr(value, "__dict__")
        and not isinstance(value, type | FunctionType | partial)
        and kind.__module__.partition(".")[0] not in _LIBRARIES
    )


def _reaches(value: Any, modules: set[nn.Module], seen: set[int]) -> bool:
    """Say whether a function is in a value that has one of the modules in its closure."""
    if id(value) in seen:
        return False
    seen.add(id(value))
    if isinstance(value, FunctionType):
        return any(_holds(part, modules, seen) for part in _closure(value))
    if isinstance(value, MethodType):
        return _reaches(value.__func__, modules, seen)
    return any(_reaches(part, modules, seen) for part in _parts(value))


def _holds(value: Any, modules: set[nn.Module], seen: set[int]) -> bool:
    if isinstance(value, nn.Module):
        return value in modules
    if isinstance(value, MethodType) and _hashable(value.__self__) and value.__self__ in modules:
        return True
    if isinstance(value, FunctionType | MethodType):
        return _reaches(value, modules, seen)
    return any(_holds(part, modules, seen) for part in _parts(value))


def _closure(function: FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            continue
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()


def _parts(value: Any) -> list[Any]:
    if isinstance(value, partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, list | tuple | set) else []
