"""Tables: rows of numbers with a class or a number each, from a CSV file or scikit-learn."""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.parts import TensorPart
from cnet_aihw.runtime.typed import checked
from cnet_aihw.zoo.dataset import Dataset
from cnet_aihw.zoo.split import stratified_split

_BUNDLED = ("iris", "wine", "breast_cancer", "digits", "diabetes")


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
        target: "class" (names or numbers of classes, in any writing) or "number".
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
    x, labels = _bundled(name) if name in _BUNDLED else _read(Path(path))
    names: list[str] = []
    if target == "class":
        names = sorted(set(labels), key=_order)
        if not 2 <= len(names) <= len(labels) // 2:
            raise CnetError(
                f"the last column of {name} has {len(names)} different values in {len(labels)} "
                "rows: expected classes, at least 2 and several rows each; for numbers to be found "
                "choose data.target=number (in Python target='number').",
                key="target",
                value=target,
                expected="classes in the last column",
                fix="choose data.target=number",
            )
        number = {label: n for n, label in enumerate(names)}
        y = torch.tensor([number[label] for label in labels])
    else:
        y = torch.tensor([_value(name, n, label) for n, label in enumerate(labels, 1)])[:, None]
    groups = y if target == "class" else torch.zeros(len(y), dtype=torch.int64)
    sizes = {"test_size": test_size, "val_size": val_size}
    test, val, train = stratified_split(groups, sizes, split_seed, max(len(names), 1), names)
    x = _normalised(x, train).float()
    y = y if target == "class" else _normalised(y.double(), train).float()
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


def _bundled(name: str) -> tuple[Tensor, list[str]]:
    from sklearn import datasets

    found = getattr(datasets, f"load_{name}")()
    return torch.from_numpy(found.data).double(), [str(value) for value in found.target.tolist()]


def _read(path: Path) -> tuple[Tensor, list[str]]:
    """Return features [N, k] float64 and the cells of the last column."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CnetError(
            f"the table {path} cannot be read ({error}): give a CSV file in UTF-8, or one of "
            f"{', '.join(_BUNDLED)}.",
            key="path",
            value=str(path),
            expected="a CSV file",
        ) from error
    first = 1
    if rows and not all(_is_number(cell) for cell in rows[0][:-1]):
        rows, first = rows[1:], 2
    if not rows or len(rows[0]) < 2:
        raise CnetError(
            f"{path} has {len(rows)} rows{' of one cell' if rows else ''}: expected numbers "
            "between commas and the target in the last column.",
            key="path",
            value=str(path),
            expected="at least two columns",
        )
    width = len(rows[0])
    values = []
    for number, row in enumerate(rows, first):
        if len(row) != width:
            raise CnetError(
                f"line {number} of {path} has {len(row)} cells; expected {width}, as the first.",
                key="path",
                value=len(row),
                expected=width,
            )
        values.append([_value(str(path), number, cell) for cell in row[:-1]])
    return torch.tensor(values, dtype=torch.float64), [row[-1].strip() for row in rows]


def _value(path: str, line: int, cell: str) -> float:
    if not _is_number(cell):
        raise CnetError(
            f"line {line} of {path} holds {cell!r}; expected a finite number in every column of "
            "features.",
            key="path",
            value=cell,
            expected="a finite number",
        )
    return float(cell)


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def _order(label: str) -> tuple[bool, float, str]:
    """Numbers in their order, then names in theirs."""
    return (False, float(label), "") if _is_number(label) else (True, 0.0, label)


def _normalised(x: Tensor, train: Tensor | Sequence[int]) -> Tensor:
    of_training = x[train]
    mean, std = of_training.mean(0), of_training.std(0, unbiased=False)
    constant = std <= 1e-12 * of_training.abs().amax(0)
    return (x - mean) / torch.where(constant, torch.ones_like(std), std)
