"""Records: one JSON object a line, appended as it happens, so that a kill loses at most one line.

Floats are written so that they read back exactly; NaN and infinity are refused.
"""

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from cnet_aihw.runtime.errors import CnetError

__all__ = [
    "append_record",
    "read_json",
    "read_records",
    "replace_file",
    "write_json_atomic",
    "write_records",
]


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
    """The records of a file in their order; a file that does not exist holds none.

    Raises:
        CnetError: when a line other than a torn last one is no JSON object.
    """
    path = Path(path)
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
                "delete that line, or the file to measure everything again."
            )
        records.append(record)
    last = _parse(torn)
    return records if last is None else [*records, last]


def write_json_atomic(path: str | Path, obj: Any) -> None:
    """Write ``obj`` as a JSON file that is either the old one or the new one, never a part.

    Raises:
        CnetError: when a value is NaN, infinite or nothing JSON can hold, or the disk does not take
            it.
    """
    path = Path(path)
    text = _to_json(obj, path, indent=2) + "\n"
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_json(path: str | Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        CnetError: when the file holds something else.
    """
    record = _parse(Path(path).read_bytes())
    if record is None:
        raise CnetError(f"{path} is damaged: it holds no JSON object; delete its folder.")
    return record


def write_records(path: str | Path, records: list[dict[str, Any]]) -> None:
    """Replace a records file as a whole: either all old lines stand there or all new ones.

    Raises:
        CnetError: as :func:`write_json_atomic`.
    """
    path = Path(path)
    text = "".join(_to_json(record, path) + "\n" for record in records)
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then put it in place at once.

    Raises:
        CnetError: when the disk does not take it; the old file stays.
    """
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
    """Say in a sentence what the disk refuses inside the block."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise CnetError(
            f"{path} cannot be written ({reason}); make room on the disk, or write elsewhere, and "
            "start again: what was finished before is kept."
        ) from error


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _mend_end(descriptor: int) -> bytes:
    """Cut a torn last line off; what to write before the next record ("" or the newline)."""
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


def _to_json(obj: Any, path: Path, indent: int | None = None) -> str:
    try:
        return json.dumps(obj, allow_nan=False, ensure_ascii=False, indent=indent)
    except (TypeError, ValueError) as error:
        where = _not_finite(obj, "")
        reason = f"{where} is NaN or infinite" if where else str(error)
        raise CnetError(
            f"A record for {path} cannot be written: {reason}; give a finite number or None."
        ) from error


def _not_finite(obj: Any, name: str) -> str | None:
    """The dotted name of the first float in ``obj`` that is not finite."""
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
