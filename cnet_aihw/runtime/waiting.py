"""Waits with an end: the log says what is waited for, and the wait does not last for ever."""

from __future__ import annotations

import logging
import time

log = logging.getLogger(__name__)

_SILENT = 30.0  # seconds after which the log says what is waited for


class Patience:
    """One wait, from its construction on.

    Args:
        what: what is waited for, as a noun phrase for the log.
        seconds: longest time to wait.
    """

    def __init__(self, what: str, seconds: float) -> None:
        self.seconds = seconds
        self._what, self._start, self._said = what, time.monotonic(), False

    def is_over(self) -> bool:
        """Return whether the longest time has passed; the log names the wait once before."""
        waited = time.monotonic() - self._start
        if waited > min(_SILENT, self.seconds) and not self._said:
            self._said = True
            log.warning("Waiting for %s, for %g seconds at most.", self._what, self.seconds)
        return waited >= self.seconds
