"""Checks of memory, CPUs, disk, temporary folder and locks of this machine."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator

from cnet_aihw.doctor.checks import FAULT, GIB, OK, WARNING, Finding
from cnet_aihw.runtime.control_groups import cpu_quota, memory_limit
from cnet_aihw.runtime.memory import available_bytes

LEAST_MEMORY, LEAST_DISK = 2 * GIB, 2 * GIB


def machine() -> Iterator[Finding]:
    """Yield what can be found out about this machine without a library."""
    yield memory()
    yield cpus()
    yield disk()
    yield temporary_folder()
    yield locks(".")


def memory() -> Finding:
    """Check the memory available to this process; a container may have less than the machine."""
    free, limit = available_bytes(), memory_limit()
    if free is None:
        return Finding("memory", OK, "not known on this system")
    found = f"{free / GIB:.1f} GiB free"
    if limit is not None:
        found += f", with a limit of {limit / GIB:.1f} GiB by a container or batch system"
    if free >= LEAST_MEMORY:
        return Finding("memory", OK, found)
    return Finding("memory", WARNING, found, "give a smaller batch size, or end other programs")


def cpus() -> Finding:
    """Check the CPUs that this process may use; torch starts a thread for each that it sees."""
    seen, quota = len(os.sched_getaffinity(0)), cpu_quota()
    if quota is None or quota >= seen:
        return Finding("CPUs", OK, f"{seen} cores")
    found = f"{seen} cores, of which a container or batch system allows the time of {quota:g}"
    if "OMP_NUM_THREADS" in os.environ:
        return Finding("CPUs", OK, found)
    threads = max(1, int(quota))
    advice = f"torch would start {seen} threads: set OMP_NUM_THREADS={threads} in the environment"
    return Finding("CPUs", WARNING, found, advice)


def disk() -> Finding:
    """Check the space in this folder."""
    free = shutil.disk_usage(".").free
    found = f"{free / GIB:.1f} GiB free in this folder"
    if free >= LEAST_DISK:
        return Finding("disk", OK, found)
    return Finding("disk", WARNING, found, "free some, or name a folder elsewhere: run=FOLDER")


def temporary_folder() -> Finding:
    """Check that there is a folder for temporary files."""
    what = "temporary folder"
    try:
        with tempfile.TemporaryFile() as file:
            file.write(b"x")
    except OSError as error:
        advice = "set TMPDIR in the environment to a folder that can be written to"
        return Finding(what, FAULT, f"there is none ({error.strerror})", advice)
    return Finding(what, OK, tempfile.gettempdir())


def locks(folder: str) -> Finding:
    """Check that the file system of a folder has locks that end with their process."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EROFS, errno.ENOSPC, errno.ENOTDIR, errno.ENOENT):
            return Finding("locks", OK, "not tried, as this folder cannot be written to")
        found = f"this file system has none ({error.strerror}), so that files name their owners"
        advice = "give run= and search.store= folders on a local disk"
        return Finding("locks", WARNING, found, advice)
    return Finding("locks", OK, "end with their process")
