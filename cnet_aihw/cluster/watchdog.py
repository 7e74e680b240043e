"""Ends what a private Ray leaves behind when its process is killed; a process of its own.

It reads from a pipe until the process that started Ray is gone, however that ended; then it ends
all processes whose command line or environment holds the mark.
"""

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

_GRACE = 2.0  # seconds in which Ray's processes end by themselves
_QUIET = 2.0  # seconds without any, after which there are none: one that just starts is not seen
_SECONDS = 60.0  # seconds over which it looks for more, at most


def main(mark: bytes) -> None:
    """Wait for the end of the other process, then end what has the mark."""
    sys.stdin.buffer.read()
    time.sleep(_GRACE)
    begun = seen = time.monotonic()
    while (now := time.monotonic()) < min(begun + _SECONDS, seen + _QUIET):
        if _end_marked(mark):
            seen = now
        time.sleep(0.2)


def _end_marked(mark: bytes) -> bool:
    """End all processes with the mark; return whether there were any."""
    found = False
    for folder in Path("/proc").glob("[0-9]*"):
        if int(folder.name) == os.getpid():
            continue
        with suppress(OSError):  # it is gone, or of another user
            if mark in (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes():
                found = True
                os.kill(int(folder.name), signal.SIGKILL)
    return found


if __name__ == "__main__":
    main(sys.argv[1].encode()[::-1])  # reversed, so that its own command line is without the mark
