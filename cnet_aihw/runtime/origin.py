"""Where an error of the user's own code comes from: file and line, and layer of a network."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from torch import nn

_OTHERS = (
    str(Path(__file__).resolve().parent.parent),
    *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
)


def own_line(error: BaseException) -> str:
    """Return the last line of the user's own code that an error passed: "my_net.py line 12".

    Args:
        error: the error, as caught.

    Returns:
        File name and line; empty where only libraries and this package were passed.
    """
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{Path(error.filename).name} line {error.lineno}"
    place = ""
    for frame, line in _frames(error):
        file = frame.f_code.co_filename
        if not file.startswith((*_OTHERS, "<")) and "site-packages" not in file:
            place = f"{Path(file).name} line {line}"
    return place


def failed_layer(error: BaseException, model: nn.Module) -> str:
    """Return the innermost module of a network whose forward raised: "layer 'head' (Linear)".

    Args:
        error: the error, as caught.
        model: the network that was called.

    Returns:
        Name and kind; empty where that is the network itself.
    """
    names = {id(module): name for name, module in model.named_modules()}
    found = ""
    for frame, _ in _frames(error):
        module = frame.f_locals.get("self")
        if isinstance(module, nn.Module) and (name := names.get(id(module))):
            found = f"layer {name!r} ({type(module).__name__})"
    return found


def fault(error: BaseException, model: nn.Module | None = None) -> str:
    """Return an error's first line, with the layer and the line of own code it comes from.

    Args:
        error: the error, as caught.
        model: the network that was called, if any.
    """
    reason = (str(error).splitlines() or [""])[0].rstrip(".") or type(error).__name__
    layer = "" if model is None else failed_layer(error, model)
    places = ", ".join(filter(None, (layer, own_line(error))))
    return f"{reason} at {places}" if places else reason


def _frames(error: BaseException) -> Iterator[tuple[FrameType, int]]:
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame, trace.tb_lineno
        trace = trace.tb_next
