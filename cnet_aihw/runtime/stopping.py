"""Signals that end a command as Ctrl-C does, so that it says how to resume."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_IMPORT = "<frozen importlib._bootstrap>"
_AGAIN = 1.0
"""Seconds after which an interrupt that a library has swallowed is raised again."""
_SOON = 0.05
"""Seconds after which an interrupt that came during an import is tried again."""
_PATIENCE = 10.0
"""Seconds for which an import holds an interrupt back."""


class Stop:
    """State of a command that can be stopped."""

    message = "stopped before any work."
    """Sentence that the user reads when it is stopped now."""

    number = 0
    """The signal that stopped it; 0 until there is one."""

    @property
    def exit_code(self) -> int:
        """Exit code of the stopped command, as shells have it."""
        return 128 + (self.number or signal.SIGINT)


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Let SIGTERM and SIGHUP raise KeyboardInterrupt inside the block, as Ctrl-C does.

    Signals that are ignored when the block begins stay so (as under ``nohup``). An interrupt that
    a library swallows (``except: pass``) is raised again until it leaves the block. One that comes
    while a module is imported is raised after that import, or 10 s later, as compiled modules abort
    the process where Python raises in their initialisation; a second signal does not wait for it.
    """
    stop = Stop()

    def interrupt(number: int, frame: FrameType | None) -> None:
        first = not stop.number
        stop.number = number
        timer = signal.getsignal(signal.SIGALRM)
        if timer is signal.SIG_DFL or isinstance(timer, _Again):
            waits = first and _imports(frame)
            signal.signal(signal.SIGALRM, _Again())
            signal.setitimer(signal.ITIMER_REAL, _SOON if waits else _AGAIN, _AGAIN)
            if waits:
                return
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield stop  # Python takes signals in its main thread alone
        return
    shown = sys.unraisablehook

    def unraisable(found: sys.UnraisableHookArgs) -> None:
        # an interrupt in the clean-up of an object, where Python prints it; it is raised again
        if not (stop.number and issubclass(found.exc_type, KeyboardInterrupt)):
            shown(found)

    sys.unraisablehook = unraisable
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, interrupt)
    try:
        yield stop
    finally:
        _end_timer()
        sys.unraisablehook = shown
        for number, handler in before.items():
            if handler is not None:  # None: it was not set from Python
                signal.signal(number, handler)


class _Again:
    """Raises an interrupt again unless an ``except`` or ``finally`` that it began is at work."""

    def __init__(self) -> None:
        self._patient_until = time.monotonic() + _PATIENCE

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if _imports(frame) and time.monotonic() < self._patient_until:
            signal.setitimer(signal.ITIMER_REAL, _SOON, _AGAIN)
            return
        error = sys.exception()
        while error is not None and not isinstance(error, KeyboardInterrupt):
            error = error.__cause__ or error.__context__
        if error is None:
            raise KeyboardInterrupt


def _imports(frame: FrameType | None) -> bool:
    """Return whether a module is being imported where a signal came."""
    while frame is not None:
        if frame.f_code.co_filename == _IMPORT:
            return True
        frame = frame.f_back
    return False


def _end_timer() -> None:
    if isinstance(signal.getsignal(signal.SIGALRM), _Again):
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


@contextmanager
def same_handlers() -> Iterator[None]:
    """Keep the handlers of signals over a block that sets its own ones, as Ray's start does.

    Handlers that were the system's own are left as the block sets them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            if callable(handler) or handler is signal.SIG_IGN:
                with suppress(ValueError):
                    signal.signal(number, handler)


def ignore_signals() -> None:
    """Let a command end undisturbed once it is stopped."""
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        _end_timer()
