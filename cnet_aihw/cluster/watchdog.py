"""Ends what a private Ray leaves behind when its process is killed; a process of its own.

It reads from a pipe until the process that started Ray is gone, however that ended; then it ends
all processes whose command line or environment holds the mark, and, since Ray's agents write their
titles over both, all that have a file of Ray's session open for writing. The pipe brings the
folder of the session.
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
    """Wait for the end of the other process, then end what has the mark or writes to the folder."""
    folder = os.fsdecode(sys.stdin.buffer.read())
    time.sleep(_GRACE)
    begun = seen = time.monotonic()
    while (now := time.monotonic()) < min(begun + _SECONDS, seen + _QUIET):
        if _end(mark, folder):
            seen = now
        time.sleep(0.2)


def _end(mark: bytes, folder: str) -> bool:
    """End all processes that belong to Ray's session; return whether there were any."""
    found = False
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) == os.getpid():
            continue
        with suppress(OSError):  # it is gone, or of another user
            if _has(process, mark) or (folder and _writes_to(process, folder)):
                found = True
                os.kill(int(process.name), signal.SIGKILL)
    return found


def _has(process: Path, mark: bytes) -> bool:
    return mark in (process / "environ").read_bytes() + (process / "cmdline").read_bytes()


def _writes_to(process: Path, folder: str) -> bool:
    for file in (process / "fd").iterdir():
        with suppress(OSError):  # it was closed meanwhile
            if os.readlink(file).startswith(folder + os.sep):
                facts = (process / "fdinfo" / file.name).read_text().split()
                if int(facts[facts.index("flags:") + 1], 8) & os.O_ACCMODE != os.O_RDONLY:
                    return True
    return False


if __name__ == "__main__":
    main(sys.argv[1].encode()[::-1])  # reversed, so that its own command line is without the mark
