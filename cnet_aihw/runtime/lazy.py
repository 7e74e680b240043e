"""Rooms that open when a name is first used: one list, read by type checkers and at run time."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def lazy_names(
    room: str, file: str
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return ``__getattr__``, ``__dir__`` and ``__all__`` of a room.

    Its names are those that stand under ``if TYPE_CHECKING:`` in its ``__init__.py``, which type
    checkers read as they are; at run time each brings its module when it is first used.

    Args:
        room: the room's ``__name__``.
        file: the room's ``__file__``.
    """
    sources: dict[str, tuple[str, str | None]] = {}
    for node in ast.parse(Path(file).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for line in node.body:
                assert isinstance(line, ast.ImportFrom)
                for alias in line.names:
                    a_room = line.module == room  # "from cnet_aihw import rram"
                    sources[alias.name] = (
                        (f"{room}.{alias.name}", None) if a_room else (str(line.module), alias.name)
                    )

    def __getattr__(name: str) -> Any:
        if name not in sources:
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        module, attribute = sources[name]
        found = import_module(module)
        value = found if attribute is None else getattr(found, attribute)
        setattr(sys.modules[room], name, value)
        return value

    return __getattr__, lambda: sorted(sources), sorted(sources)
