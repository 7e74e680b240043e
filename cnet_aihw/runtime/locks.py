"""Locks between processes, on files; a process that dies releases its locks."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.processes import host_of, is_alive, this_process
from cnet_aihw.runtime.waiting import Patience

__all__ = ["alone", "locked"]

_LOCKS = ".locks"
_POLL = 0.05  # seconds between tries
_TAKEN = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES)
_WITHOUT_FLOCK = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK)
_HALF_WRITTEN = 10.0  # seconds after which the file of an owner without a name counts for nothing


@contextmanager
def locked(folder: Path, name: str, seconds: float = 60.0) -> Iterator[Path]:
    """Hold the lock of a name inside the block; wait for it, which the log says.

    Args:
        folder: the folder that the lock is about; made when missing.
        name: name of the lock there.
        seconds: longest wait.

    Yields:
        The lock's own file, an empty one.

    Raises:
        CnetError: if the folder cannot be written to, or another process keeps the lock for longer.
    """
    refused = f"another process has held the lock {name!r} of {folder} for {seconds:g} seconds"
    with _held(folder, name, refused, seconds) as path:
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
    with _held(folder, name, f"{doing} runs in {folder} already", 0.0):
        yield


@contextmanager
def _held(folder: Path, name: str, refused: str, seconds: float) -> Iterator[Path]:
    path = folder / _LOCKS / f"{name}.lock"
    patience = Patience(f"the lock {name!r} of {folder}", seconds)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _open(path)
        try:
            while (release := _taken(descriptor, path)) is None:
                if not seconds or patience.is_over():
                    raise _refusal(path, folder, refused)
                time.sleep(_POLL)
        except BaseException:
            os.close(descriptor)
            raise
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
        release()


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:  # a file of another user, which is enough for a lock
        return os.open(path, os.O_RDONLY)


def _taken(descriptor: int, path: Path) -> Callable[[], None] | None:
    """Try once; return how to give the lock back, or None where another process has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            return None
        if error.errno not in _WITHOUT_FLOCK:
            raise
        return _taken_by_name(descriptor, path)

    def release() -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # a forked process may hold the file open longer
        os.close(descriptor)

    return release


def _taken_by_name(descriptor: int, path: Path) -> Callable[[], None] | None:
    """Try once where the file system has no locks: a file beside the lock names its owner."""
    owner = path.with_suffix(".owner")
    try:
        made = os.open(owner, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        _remove_dead(owner)
        return None
    with open(made, "w", encoding="utf-8") as file:
        file.write(this_process())

    def release() -> None:
        os.close(descriptor)
        owner.unlink(missing_ok=True)

    return release


def _remove_dead(owner: Path) -> None:
    """Remove the file of an owner that is dead; one of another machine may be alive."""
    with suppress(OSError):  # it is gone by now
        name = owner.read_text(encoding="utf-8")
        half_written = not host_of(name)
        if half_written and time.time() - owner.stat().st_mtime < _HALF_WRITTEN:
            return
        if half_written or (host_of(name) == host_of(this_process()) and not is_alive(name)):
            own = owner.with_suffix(f".{os.getpid()}")
            owner.rename(own)  # two that remove it at once do not remove what a third has made
            if own.read_text(encoding="utf-8") == name:
                own.unlink()
            else:
                own.rename(owner)


def _refusal(path: Path, folder: Path, refused: str) -> CnetError:
    fix = "wait until it is done, or give another folder"
    with suppress(OSError):
        host = host_of(path.with_suffix(".owner").read_text(encoding="utf-8"))
        if host and host != host_of(this_process()):
            fix += (
                f"; if nothing of it runs on {host} any more, delete {path.with_suffix('.owner')}"
            )
    return CnetError(f"{refused}; {fix}.", key=path.stem, value=str(folder), fix=fix)
