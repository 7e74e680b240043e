"""Tables: rows of numbers with a class or a number each, from a CSV file or scikit-learn."""

from __future__ import annotations

import csv
import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import torch
from torch import Tensor

from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.parts import TensorPart
from cnet_aihw.runtime.typed import checked
from cnet_aihw.zoo.dataset import Dataset
from cnet_aihw.zoo.split import stratified_split

_BUNDLED = ("iris", "wine", "breast_cancer", "digits", "diabetes")
_LARGEST = 1e100  # whose square is still a number
_NO_CLASS = ("?", "na", "n/a", "<na>", "null")
"""Ways to write that a class is missing; "none" and "-" may be names of classes."""
_ABSENT = ("", "?", "na", "n/a", "null", "none", "-")  # as tables write that a value is missing


@checked
def table(
    path: str | Path,
    target: str = "class",
    val_size: int | float = 0.15,
    test_size: int | float = 0.15,
    split_seed: int = 0,
) -> Dataset:
    """A data set of rows of numbers, the last column of which is to be found.

    Each column of features is normalised with mean and standard deviation of the training part; one
    that is constant there is only centred. Numbers to be found are normalised in the same way, so
    that an error of 1 is the standard deviation of the training part.

    Args:
        path: a CSV file, commas between its cells, with or without a line of names, the target in
            the last column; or the name of one of scikit-learn's bundled sets: iris, wine,
            breast_cancer, digits, diabetes (which has numbers to be found).
        target: "class" (names, or numbers, of which 1 and 1.0 are the same class) or "number".
        val_size: size of the validation part, rows or share of all.
        test_size: size of the test part, rows or share of all.
        split_seed: seed of the split, stratified for classes.

    Returns:
        The data set: inputs [N, k] float32; targets [N] int64, or [N, 1] float32 for numbers.

    Raises:
        CnetError: the file is absent, or a cell is not what it should be; the row is named.
    """
    if target not in ("class", "number"):
        raise bad_value("target", target, "class or number")
    name = str(path)
    x, labels, lines = _bundled(name) if name in _BUNDLED else _read(Path(path))
    names: list[str] = []
    if target == "class":
        labels = _one_writing(labels)
        names = sorted(set(labels), key=_order)
        _check_classes(name, labels, names)
        number = {label: n for n, label in enumerate(names)}
        y = torch.tensor([number[label] for label in labels])
    else:
        values = [_value(name, line, cell) for line, cell in zip(lines, labels, strict=True)]
        if len(set(values)) == 1:
            raise CnetError(
                f"the last column of {name} has the number {values[0]:g} in all of its "
                f"{len(values)} rows, which leaves nothing to be found: give another table.",
                key="path",
                value=values[0],
                expected="different numbers in the last column",
            )
        y = torch.tensor(values, dtype=torch.float64)[:, None]
    groups = y if target == "class" else torch.zeros(len(y), dtype=torch.int64)
    sizes = {"test_size": test_size, "val_size": val_size}
    test, val, train = stratified_split(groups, sizes, split_seed, max(len(names), 1), names)
    x = _normalised(x, train).float()
    y = y if target == "class" else _normalised(y, train).float()
    digest = hashlib.sha256(f"{target} {names}".encode())
    parts = {"train": train, "val": val, "test": test}
    made = {key: TensorPart(x[rows], y[rows]) for key, rows in parts.items()}
    for part in made.values():
        digest.update(part.fingerprint.encode())
    return Dataset(
        name=Path(name).stem,
        train=made["train"],
        val=made["val"],
        test=made["test"],
        classes=len(names) or 1,
        input_shape=(x.shape[1],),
        augment=None,
        fingerprint=digest.hexdigest(),
        class_names=tuple(names),
    )


def _bundled(name: str) -> tuple[Tensor, list[str], Sequence[int]]:
    from sklearn import datasets

    found = getattr(datasets, f"load_{name}")()
    labels = [str(value) for value in found.target.tolist()]
    return torch.from_numpy(found.data).double(), labels, range(1, len(labels) + 1)


def _read(path: Path) -> tuple[Tensor, list[str], Sequence[int]]:
    """Return features [N, k] float64, the cells of the last column, and the line of each row."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            rows: dict[int, list[str]] = {}
            for row in reader:
                if row:
                    rows[reader.line_num] = row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CnetError(
            f"the table {path} cannot be read ({error}): give a CSV file in UTF-8, or one of "
            f"{', '.join(_BUNDLED)}.",
            key="path",
            value=str(path),
            expected="a CSV file",
        ) from error
    if rows and _is_header(path, *next(iter(rows.items()))):
        del rows[next(iter(rows))]
    width = len(next(iter(rows.values()), ()))
    if width < 2:
        raise CnetError(
            f"{path} has {len(rows)} rows{' of one cell' if rows else ''}: expected numbers "
            "between commas and the target in the last column.",
            key="path",
            value=str(path),
            expected="at least two columns",
        )
    values = []
    for number, row in rows.items():
        if len(row) != width:
            raise CnetError(
                f"line {number} of {path} has {len(row)} cells; expected {width}, as the first.",
                key="path",
                value=len(row),
                expected=width,
            )
        values.append([_value(str(path), number, cell) for cell in row[:-1]])
        last = row[-1].strip()
        if not last or last.lower() in _NO_CLASS or _is_no_value(last):
            wanted = (
                "a class or a finite number in the last column; leave out the row, or give a class "
                "that is really called so another name"
            )
            raise _wrong_cell(str(path), number, row[-1], wanted)
    labels = [row[-1].strip() for row in rows.values()]
    return torch.tensor(values, dtype=torch.float64), labels, list(rows)


def _is_header(path: Path, line: int, row: Sequence[str]) -> bool:
    """Say whether a file's first line names the columns of features.

    Raises:
        CnetError: where some cells are names and others numbers or empty, which may be a row with
            a missing value, or the row numbers that pandas writes.
    """
    numbers = [_is_number(cell) for cell in row[:-1]]
    if all(numbers):
        return False
    missing = [cell.strip().lower() in _ABSENT or _is_no_value(cell) for cell in row[:-1]]
    if any(numbers) or any(missing):
        cell = next(c for c, number in zip(row, numbers, strict=False) if not number)
        wanted = (
            "finite numbers, or a name for each column that is not itself a number (pandas: "
            "to_csv(..., index=False))"
        )
        raise _wrong_cell(str(path), line, cell, wanted)
    return True


def _one_writing(labels: list[str]) -> list[str]:
    """Return labels under one writing of each number, its shortest, where all are numbers."""
    if not all(map(_is_number, labels)):
        return labels
    writing: dict[Decimal, str] = {}
    for label in sorted(set(labels), key=lambda label: (len(label), label)):
        writing.setdefault(Decimal(label), label)
    return [writing[Decimal(label)] for label in labels]


def _check_classes(name: str, labels: Sequence[str], names: Sequence[str]) -> None:
    """Refuse a last column that does not hold classes with a row for each part."""
    rarest, rows = min(Counter(labels).items(), key=lambda item: item[1])
    if not 2 <= len(names) <= len(labels) // 2:
        wrong = f"{len(names)} different values in {len(labels)} rows"
    elif rows < 3:
        wrong = f"{rarest!r} in {rows} of {len(labels)} rows only"
    else:
        return
    raise CnetError(
        f"the last column of {name} has {wrong}: expected classes, at least 2 and 3 rows or more "
        "of each; for numbers to be found choose data.target=number (in Python target='number').",
        key="target",
        value="class",
        expected="classes in the last column",
        fix="choose data.target=number",
    )


def _value(path: str, line: int, cell: str) -> float:
    if not _is_number(cell):
        raise _wrong_cell(path, line, cell, "a finite number")
    if abs(float(cell)) > _LARGEST:
        raise _wrong_cell(path, line, cell, f"a number of at most {_LARGEST:g} by size")
    return float(cell)


def _wrong_cell(path: str, line: int, cell: str, expected: str) -> CnetError:
    return CnetError(
        f"line {line} of {path} holds {cell!r}; expected {expected}.",
        key="path",
        value=cell,
        expected=expected,
    )


def _is_no_value(cell: str) -> bool:
    """Say whether a cell is NaN or infinite."""
    try:
        return not math.isfinite(float(cell))
    except ValueError:
        return False


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def _order(label: str) -> tuple[bool, float, str]:
    """Numbers in their order, then names in theirs."""
    return (False, float(label), label) if _is_number(label) else (True, 0.0, label)


def _normalised(x: Tensor, train: Tensor | Sequence[int]) -> Tensor:
    of_training = x[train]
    mean, std = of_training.mean(0), of_training.std(0, unbiased=False)
    constant = std <= 1e-12 * of_training.abs().amax(0)
    return (x - mean) / torch.where(constant, torch.ones_like(std), std)
