"""Paths on the command line: their quoting, and folders that are not of a run."""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from cnet_aihw.runtime.errors import CnetError

PATHS = ("data.path", "data.root", "pretrained", "source", "rram.path", "search.store")
"""Keys that hold paths, whose values are taken verbatim."""
_FOLDERS = ("hydra.run.dir", "hydra.sweep.dir")
_LEAST = 16384  # bytes that Hydra writes at the start
_TABLES = ("searches", "attacks", "tunings", "uncertainties", "kernels")
_WRITTEN = (
    *("report.html", "device.json", "select.json", "table.json", "table.txt"),
    *("sweep.json", "sweep.txt"),
    *(f"{of}{n}.{kind}" for of in ("", "sweep-") for n in _TABLES for kind in ("json", "txt")),
)


def quoted_value(text: str) -> str:
    """Return a value that Hydra takes verbatim, whatever its characters."""
    escaped = text.replace("'", r"\'")
    return f"'{escaped}'"


def quoted_path(word: str) -> str:
    """Return a word whose path Hydra can read, with quotes where they are needed.

    Raises:
        CnetError: if the word is not UTF-8.
    """
    if not word.isprintable() and any(0xD800 <= ord(letter) < 0xE000 for letter in word):
        shown = word.encode("utf-8", "backslashreplace").decode()
        raise CnetError(
            f"{shown} has characters that are not UTF-8; give another name.",
            key=shown.partition("=")[0],
            value=shown,
            expected="UTF-8",
        )
    key, equals, value = word.partition("=")
    if key.lstrip("+") not in PATHS or not equals:
        return word
    try:
        OverridesParser.create().parse_override(word)
    except HydraException:
        return f"{key}={quoted_value(value)}"
    return word


def typed_folder(folder: str | Path) -> str:
    """Return the word that gives a folder of results, as a user types it in a shell."""
    return shlex.quote(f"run={folder}")


def refuse_foreign_folder(words: Sequence[str]) -> None:
    """Refuse a folder of results that cannot be one, or holds results that are not of a run.

    Args:
        words: the command line, with ``run`` as Hydra's keys.

    Raises:
        CnetError: names the folder and the file that would be overwritten.
    """
    for word in words:
        key, _, value = word.partition("=")
        if key not in _FOLDERS or "${" in value:
            continue
        folder = Path(value.strip("'").replace(r"\'", "'"))
        run = _is_run(folder)
        _check_writable(folder)
        found = next((name for name in _WRITTEN if (folder / name).exists()), None)
        if found is not None and not run:
            raise CnetError(
                f"{folder} holds {found}, which no run of cnet-aihw wrote; give another folder.",
                key="run",
                value=str(folder),
                expected="the folder of a run, or a new one",
                fix="give another folder",
            )


def _is_run(folder: Path) -> bool:
    """Say whether a job or a sweep has written into a folder, or nothing has."""
    try:
        if not folder.exists():
            return True
        if not folder.is_dir():
            raise NotADirectoryError(20, "it is a file", str(folder))
        marks = (folder / ".hydra", folder / "multirun.yaml")
        return any(mark.exists() for mark in marks) or any(folder.glob("*/run.json"))
    except OSError as error:
        raise _not_a_folder(folder, error.strerror) from error


def _check_writable(folder: Path) -> None:
    """Write a little where the folder is, or will be."""
    if folder.absolute() == Path(folder.absolute().anchor):
        raise _not_a_folder(folder, "it is the root of the file system")
    nearest = folder.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    try:
        with tempfile.TemporaryFile(dir=nearest) as file:
            file.write(bytes(_LEAST))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _not_a_folder(folder, error.strerror) from error


def _not_a_folder(folder: Path, reason: str | None) -> CnetError:
    return CnetError(
        f"run={str(folder)[:200]} cannot be the folder of the results ({reason}); give another "
        "folder with run=FOLDER.",
        key="run",
        value=str(folder)[:200],
        expected="a folder that can be written to",
        fix="give another folder with run=FOLDER",
    )
