"""Locks between processes, on files; a process that dies releases its locks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from cnet_aihw.runtime.errors import CnetError

__all__ = ["alone", "locked"]

_LOCKS = ".locks"


@contextmanager
def locked(folder: Path, name: str) -> Iterator[Path]:
    """Hold the lock of a name inside the block; wait for it as long as it takes.

    Args:
        folder: the folder that the lock is about; made when missing.
        name: name of the lock there.

    Yields:
        The lock's own file, an empty one.

    Raises:
        CnetError: if the folder cannot be written to.
    """
    with _held(folder, name) as path:
        yield path


@contextmanager
def alone(folder: Path, name: str, doing: str) -> Iterator[None]:
    """Hold the lock of a name inside the block, or refuse where another process holds it.

    Args:
        folder: the folder that the lock is about; made when missing.
        name: name of the lock there.
        doing: what goes on inside the block, for the message, such as "a search".

    Raises:
        CnetError: if another process is inside such a block, or the folder cannot be written to.
    """
    with _held(folder, name, refused=f"{doing} runs in {folder} already"):
        yield


@contextmanager
def _held(folder: Path, name: str, refused: str | None = None) -> Iterator[Path]:
    """Hold a lock; with a message in ``refused``, give up at once where it is taken."""
    path = folder / _LOCKS / f"{name}.lock"
    lock = FileLock(path, blocking=refused is None)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise CnetError(
            f"{refused}; wait until it is done, or give another folder.",
            key=name,
            value=str(folder),
            fix="wait until it is done, or give another folder",
        ) from error
    except OSError as error:
        raise CnetError(
            f"the folder {folder} cannot be written to ({error.strerror}); give another one.",
            key=name,
            value=str(folder),
            expected="a folder that can be written to",
        ) from error
    try:
        yield path
    finally:
        lock.release()
