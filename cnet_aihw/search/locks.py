"""Locks between processes, on files: a process that dies gives its locks free."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from cnet_aihw.errors import CnetError

_LOCKS = ".locks"


@contextmanager
def locked(folder: Path, name: str) -> Iterator[Path]:
    """Hold the lock of a name inside the block; waits for it as long as it takes.

    Args:
        folder: the folder that the lock is about; made when missing.
        name: name of the lock there.

    Yields:
        The lock's own file, an empty one.

    Raises:
        CnetError: if the folder cannot be written to.
    """
    path = folder / _LOCKS / f"{name}.lock"
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise CnetError(
            f"the folder {folder} cannot be written to ({error.strerror}); give another one."
        ) from error
    try:
        yield path
    finally:
        lock.release()
