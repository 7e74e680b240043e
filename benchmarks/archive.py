"""Pack the benchmarks' records into one archive, and unpack it again.

    python -m benchmarks.archive pack     # outputs/benchmarks -> outputs/benchmarks.tar.xz
    python -m benchmarks.archive unpack   # the other way

Tables in benchmarks/results are made from these records. The same records make the same bytes:
benchmarks/archive.json names the archive's SHA-256, by which `unpack` checks it. The records of
earlier versions are in the history, and `git archive REVISION benchmarks/records | tar x` takes
them from there.
"""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

from benchmarks.common import HERE, RECORDS, command_line
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import read_json, write_json_atomic

COMMAND = "python -m benchmarks.archive"
ABOUT = HERE / "archive.json"
NOT_PACKED = ("tensorboard", ".hydra", ".locks", "report", "checkpoint.safetensors", "report.html")
"""Names of files and folders that are made again, or not needed."""


def archive_of(folder: Path) -> Path:
    """Return the archive of a folder of records, beside it."""
    return folder.with_name(f"{folder.name}.tar.xz")


def sha256(path: Path) -> str:
    """Return the digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def packed_files(folder: Path) -> list[Path]:
    """Return the files of a folder that are packed, relative to it, in order."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if not set(path.parts) & set(NOT_PACKED))


def pack(folder: Path, about: Path) -> None:
    """Write the archive of a folder and its digest.

    Raises:
        CnetError: the folder holds nothing to pack.
    """
    files = packed_files(folder)
    if not files:
        raise CnetError(f"{folder} holds no records to pack.")
    archive = archive_of(folder)
    with tarfile.open(archive, "w:xz", format=tarfile.PAX_FORMAT) as tar:
        for name in files:
            member = tarfile.TarInfo(name.as_posix())  # without times and owners
            member.size = (folder / name).stat().st_size
            with (folder / name).open("rb") as file:
                tar.addfile(member, file)
    known = {"archive": archive.name, "files": len(files), "bytes": archive.stat().st_size}
    write_json_atomic(about, {**known, "sha256": sha256(archive), "command": f"{COMMAND} pack"})


def unpack(folder: Path, about: Path) -> None:
    """Unpack the archive of a folder into it.

    Raises:
        CnetError: the archive is missing, or another one than was packed.
    """
    archive, wanted = archive_of(folder), read_json(about)["sha256"]
    if not archive.is_file():
        raise CnetError(f"{archive} is missing; put the archive with SHA-256 {wanted} there.")
    if (found := sha256(archive)) != wanted:
        raise CnetError(f"{archive} has SHA-256 {found}, but {about.name} names {wanted}.")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")


if __name__ == "__main__":
    command_line(__doc__, pack, unpack, folder=RECORDS, about=ABOUT)
