"""Records: one JSON object a line, appended as it happens, so that a kill loses at most one line.

Floats are written so that they read back exactly; NaN and infinity are refused.
"""

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.provenance import check_provenance

__all__ = [
    "RecordsFile",
    "append_record",
    "read_header",
    "read_json",
    "read_records",
    "replace_file",
    "write_json_atomic",
    "write_records",
    "write_text_atomic",
]


FORMAT = 2
"""Format of records files that begin with a header; files of format 1 had a key in every line."""


class RecordsFile:
    """Records that belong to one provenance, which stands once, in the file's first line.

    Args:
        path: the JSON lines file; it and its folder are made when the first record is written.
        provenance: what the records are made from, as plain nested values.
    """

    def __init__(self, path: str | Path, provenance: Mapping[str, Any]) -> None:
        self.path = Path(path)
        check_file(self.path)
        self.provenance = json.loads(_to_json(provenance, self.path))  # as it reads back
        self._has_header = False

    def records(self) -> list[dict[str, Any]]:
        """Return the records that are there already, in their order.

        Raises:
            CnetError: if they were made from something else (``key`` is its dotted name), by an
                earlier version without a header or by a later one.
        """
        lines = _read_lines(self.path)
        if not lines:
            return []
        header = lines[0]
        if not _is_header(header):
            raise CnetError(
                f"{self.path} has no header that says what its records are made from: it is of an "
                "earlier version or of another kind; give another file, or delete this one.",
                key="format",
                value=header.get("format", 1),
                expected=FORMAT,
                fix="give another file, or delete this one",
            )
        if header["format"] != FORMAT:
            raise CnetError(
                f"{self.path} has format {header['format']} and this version reads {FORMAT}; use "
                "the version of cnet_aihw that wrote it, or give another file.",
                key="format",
                value=header["format"],
                expected=FORMAT,
            )
        fix = "give another file or folder, or delete this file"
        check_provenance(header["provenance"], self.provenance, self.path, fix)
        self._has_header = True
        return lines[1:]

    def append(self, record: Mapping[str, Any]) -> None:
        """Append one record, after the header where there is none yet.

        Raises:
            CnetError: as :meth:`records` and :func:`append_record`.
        """
        if not self._has_header:
            self.records()
        if not self._has_header:
            append_record(self.path, {"format": FORMAT, "provenance": self.provenance})
            self._has_header = True
        append_record(self.path, record)


def check_file(path: Path) -> None:
    """Check that a path can be that of a file.

    Raises:
        CnetError: if it has no name, or is a folder.
    """
    if not path.name or path.is_dir():
        raise bad_value("path", str(path), "the name of a file, and this is a folder")


def append_record(path: str | Path, record: Mapping[str, Any]) -> None:
    """Append one record as one line that is on the disk when this returns.

    A last line torn by an earlier kill is cut off first. One writer at a time.

    Args:
        path: the records file; it and its folder are made when missing.
        record: what to write; floats must be finite (use None for "no value").

    Raises:
        CnetError: when a value is NaN, infinite or nothing JSON can hold, or the disk does not take
            it (it is full or cannot be written to); lines written before are still there.
    """
    path = Path(path)
    line = (_to_json(record, path) + "\n").encode()
    with _disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a+b", buffering=0) as file:
            line = _mend_end(file.fileno()) + line
            while line:  # a disk that is nearly full takes a part, and refuses the rest
                line = line[file.write(line) :]
            os.fsync(file.fileno())


def read_records(path: str | Path) -> list[dict[str, Any]]:
    """Return the records of a file in their order, without its header if it has one.

    A file that does not exist holds none.

    Raises:
        CnetError: when a line other than a torn last one is not a JSON object.
    """
    lines = _read_lines(Path(path))
    return lines[1:] if lines and _is_header(lines[0]) else lines


def read_header(path: str | Path) -> dict[str, Any] | None:
    """Return what the records of a file are made from; None without a file or its header.

    Raises:
        CnetError: as :func:`read_records`.
    """
    lines = _read_lines(Path(path))
    return lines[0]["provenance"] if lines and _is_header(lines[0]) else None


def write_json_atomic(path: str | Path, obj: Any) -> None:
    """Write ``obj`` as a JSON file that is either the old one or the new one, never a part.

    Raises:
        CnetError: when a value is NaN, infinite or nothing JSON can hold, or the disk does not take
            it.
    """
    path = Path(path)
    write_text_atomic(path, _to_json(obj, path, indent=2) + "\n")


def write_text_atomic(path: Path, text: str) -> None:
    """Write a text file that is either the old one or the new one, never a part.

    Raises:
        CnetError: when the disk does not take it.
    """
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_json(path: str | Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        CnetError: when the file holds something else.
    """
    record = _parse(Path(path).read_bytes())
    if record is None:
        raise CnetError(
            f"{path} is damaged: it does not hold a JSON object; delete it, so that the job that "
            "wrote it makes it again, or start again in another folder.",
            key=str(path),
            expected="a JSON object",
            fix="delete it, or start again in another folder",
        )
    return record


def write_records(path: str | Path, records: list[dict[str, Any]]) -> None:
    """Replace a records file as a whole: either all old lines stand there or all new ones.

    Raises:
        CnetError: as :func:`write_json_atomic`.
    """
    path = Path(path)
    write_text_atomic(path, "".join(_to_json(record, path) + "\n" for record in records))


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then put it in place at once.

    Raises:
        CnetError: when the disk does not take it; the old file stays.
    """
    check_file(path)
    temporary = path.with_name(path.name + ".tmp")
    with _disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(temporary)
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Turn errors of the disk inside the block into one sentence."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise CnetError(
            f"{path} cannot be written ({reason}); make room on the disk, or write elsewhere, and "
            "start again: what was finished before is kept.",
            key=str(path),
            value=str(reason),
            fix="make room on the disk, or write elsewhere, and start again",
        ) from error


def _read_lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    torn = lines.pop()  # what stands after the last newline: empty in a whole file
    records = []
    for number, line in enumerate(lines, start=1):
        record = _parse(line)
        if record is None:
            raise CnetError(
                f"{path} line {number} is not a JSON object ({line[:40]!r}); "
                "delete that line, or the file to measure everything again.",
                key=str(path),
                value=number,
                expected="a JSON object",
            )
        records.append(record)
    last = _parse(torn)
    return records if last is None else [*records, last]


def _is_header(record: Mapping[str, Any]) -> bool:
    return "format" in record and "provenance" in record


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _mend_end(descriptor: int) -> bytes:
    """Cut a torn last line off; return what must come before the next record."""
    size = os.fstat(descriptor).st_size
    start, tail = size, b""
    while start > 0 and b"\n" not in tail:
        step = min(65536, start)
        start -= step
        tail = os.pread(descriptor, step, start) + tail
    tail = tail[tail.rfind(b"\n") + 1 :]
    if not tail:
        return b""
    if _parse(tail) is not None:  # whole but for its newline
        return b"\n"
    os.ftruncate(descriptor, size - len(tail))
    return b""


def _plain_number(value: Any) -> int | float:
    """Return a number of numpy as one of Python."""
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    raise TypeError(f"{type(value).__name__} is not plain")


def _to_json(obj: Any, path: Path, indent: int | None = None) -> str:
    try:
        return json.dumps(
            obj, allow_nan=False, ensure_ascii=False, indent=indent, default=_plain_number
        )
    except (TypeError, ValueError) as error:
        where = _not_finite(obj, "")
        reason = f"{where} is NaN or infinite" if where else str(error)
        raise CnetError(
            f"A record for {path} cannot be written: {reason}; give a finite number or None.",
            key=where,
            expected="a finite number or None",
        ) from error


def _not_finite(obj: Any, name: str) -> str | None:
    """Return the dotted name of the first float in ``obj`` that is not finite."""
    if isinstance(obj, float):
        return None if math.isfinite(obj) else (name or "the value")
    if isinstance(obj, Mapping):
        children = [(f"{name}.{key}" if name else str(key), value) for key, value in obj.items()]
    elif isinstance(obj, list | tuple):
        children = [(f"{name}[{index}]", value) for index, value in enumerate(obj)]
    else:
        return None
    found = (_not_finite(value, child) for child, value in children)
    return next((where for where in found if where), None)
