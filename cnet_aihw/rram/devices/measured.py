"""Devices as they were measured: a table of target and measured conductances.

Source: the user's file. Units: uS. Valid between the smallest and the largest target of the file,
just programmed.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from aihwkit.inference.converter.base import BaseConductanceConverter
from torch import Tensor

from cnet_aihw.rram.devices.conductances import WeightScale
from cnet_aihw.rram.devices.noise import DeviceNoiseModel
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import check_number

_SMALLEST_RANGE = 0.01  # uS: a device whose largest conductance is below is one in siemens
_LARGEST = 1e6  # uS, 1 S


class MeasuredNoiseModel(DeviceNoiseModel):
    """Each device is off as one that was measured with the same target was.

    At a target of the table one of its measurements is drawn. Between two targets the errors of the
    same rank are drawn from both and interpolated, so that mean and spread go over into each other;
    rows of a target may be in any order, and of different number. Targets that are one in float32
    are one. Nothing drifts.

    Args:
        path: CSV file with a line of names, then one line per measurement. Columns are separated
            by commas, semicolons or tabs; between the latter two, decimal commas are taken.
        target: name of the column with the conductances asked for, in uS.
        measured: name of the column with the conductances measured, in uS.
        noise_scale: scale of the errors; 1 is as measured.
        g_converter: how weights become conductances; by default a pair of devices.
        g_max: largest conductance in uS of the default converter (the largest target).
        g_min: smallest conductance in uS of the default converter (the smallest target).

    Raises:
        CnetError: if the file cannot be read, lacks a column or has it twice, has a value that is
            not a number up to 1 S, a target below 0, a line with more values than names, fewer than
            two targets, or conductances that look like siemens; if weights are mapped to
            conductances outside the targets, or the scale is negative.
    """

    @checked
    def __init__(
        self,
        path: str | Path,
        target: str = "target",
        measured: str = "measured",
        noise_scale: float = 1.0,
        g_converter: BaseConductanceConverter | None = None,
        g_max: float | None = None,
        g_min: float | None = None,
    ) -> None:
        check_number("noise_scale", noise_scale, 0.0, unit="(1 is as measured)")
        errors = _read_errors(Path(path), target, measured)
        self.noise_scale = float(noise_scale)
        self.name = Path(path).stem
        self.digest = hashlib.sha256(repr(sorted(errors.items())).encode()).hexdigest()
        self._targets = torch.tensor(sorted(errors), dtype=torch.float64)
        ordered = [errors[value] for value in sorted(errors)]
        self._errors = torch.tensor([e for some in ordered for e in some], dtype=torch.float64)
        self._counts = torch.tensor([len(some) for some in ordered])
        self._copied: tuple[Any, tuple[Tensor, Tensor, Tensor]] | None = None
        self.valid_range = (min(errors), max(errors))
        self.default_range = self.valid_range
        super().__init__(g_converter, g_max, g_min)

    def label(self) -> str:
        """A short name for tables and records."""
        return f"measured {self.name}" + (
            "" if self.noise_scale == 1.0 else f" x {self.noise_scale:g}"
        )

    @property
    def is_off(self) -> bool:
        """Whether the model leaves all weights as they are."""
        return self.noise_scale == 0.0

    def program_device(self, g: Tensor, scale: WeightScale) -> tuple[Tensor, Any]:
        """Draw an error for each device from the measurements with the nearest targets."""
        targets, counts, errors = self._tables(g.dtype, g.device)
        wanted = g.flatten()
        upper = torch.searchsorted(targets, wanted).clamp_(1, len(targets) - 1)
        low, high = targets.index_select(0, upper - 1), targets.index_select(0, upper)
        # half precision may not tell two targets apart: the lower one's errors then
        gap = (high - low).clamp_min(torch.finfo(g.dtype).tiny)
        share = ((wanted - low) / gap).clamp_(0.0, 1.0)
        rank = torch.rand_like(wanted)
        below, above = (_draw(counts, errors, number, rank) for number in (upper - 1, upper))
        error = torch.lerp(below, above, share)
        programmed = g + self.noise_scale * error.view_as(g)
        return programmed, programmed

    def drift_device(self, g: Tensor, memory: Any, t_inference: float) -> Tensor:
        """Return the programmed conductances: the table knows no time."""
        return memory

    def _tables(self, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Return targets, counts and errors in a type on a device; copied there once."""
        key = (dtype, device)
        if self._copied is None or self._copied[0] != key:
            tables = self._targets, self._counts, self._errors
            targets, errors = (t.to(device, dtype) for t in (tables[0], tables[2]))
            self._copied = key, (targets, tables[1].to(device), errors)
        return self._copied[1]


def _draw(counts: Tensor, errors: Tensor, number: Tensor, rank: Tensor) -> Tensor:
    """Return the error of a rank in [0, 1) among the measurements of a target, by its number."""
    count = counts.to(rank.dtype).index_select(0, number)
    last = (counts.cumsum(0) - 1).index_select(0, number)
    place = last - (rank * count).long()  # rank < 1, so never before the target's first
    return errors.index_select(0, place)


def _read_errors(path: Path, target: str, measured: str) -> dict[float, list[float]]:
    """Target -> measured minus target, targets and errors in ascending order."""
    if target == measured:
        expected = "another column than that of the targets"
        raise bad_value("measured", measured, expected)
    errors: dict[float, list[float]] = {}
    for where, wanted, found in _read_pairs(path, target, measured):
        if wanted < 0.0:
            raise CnetError(
                f"{where} has the target {wanted}; give conductances in uS.",
                key=where,
                value=wanted,
                expected="conductances in uS",
            )
        errors.setdefault(wanted, []).append(found - wanted)
    errors = _merged(errors)
    if len(errors) < 2:
        raise CnetError(
            f"{path} has {len(errors)} different targets; give measurements at two or more, to "
            "interpolate between.",
            key=str(path),
            value=len(errors),
            expected="measurements at two or more, to interpolate between",
        )
    if max(errors) < _SMALLEST_RANGE:
        raise CnetError(
            f"{path} has no target above {max(errors):g} uS, which looks like siemens; give "
            "conductances in uS (siemens times 1e6).",
            key=str(path),
            value=max(errors),
            expected="conductances in uS",
            fix="multiply by 1e6",
        )
    return {wanted: sorted(some) for wanted, some in errors.items()}


def _read_pairs(path: Path, target: str, measured: str) -> Iterator[tuple[str, float, float]]:
    """Yield each line's place in the file, target and measured conductance.

    Columns are separated by commas, semicolons or tabs, as the line of names is; between semicolons
    or tabs a decimal comma is taken.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        first = text.partition("\n")[0]
        separator = max(";\t,", key=first.count)
        rows = csv.reader(
            io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=separator != "\t"
        )
        names = [name.strip() for name in next(rows, [])]
        columns = [_column(path, names, name) for name in (target, measured)]
        for row in rows:
            if not any(map(str.strip, row)):
                continue
            where = f"{path} line {rows.line_num}"
            if len(row) > len(names):
                raise CnetError(
                    f"{where} has {len(row)} values for {len(names)} names; with decimal commas, "
                    "separate the columns by semicolons.",
                    key=where,
                    value=len(row),
                    expected=len(names),
                    fix="separate the columns by semicolons",
                )
            cells = (row[column] if column < len(row) else None for column in columns)
            wanted, found = (
                _number(cell, name, where, separator != ",")
                for cell, name in zip(cells, (target, measured), strict=True)
            )
            yield where, wanted, found
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        if isinstance(error, CnetError):
            raise
        raise CnetError(
            f"{path} cannot be read ({error}); give a CSV file in UTF-8.",
            key=str(path),
            expected="a CSV file in UTF-8",
        ) from error


def _column(path: Path, names: list[str], name: str) -> int:
    """Return the place of a column."""
    if names.count(name) == 1:
        return names.index(name)
    there = ", ".join(names)[:200] or "nothing"
    fix = "name its columns with target and measured"
    found = f"no column {name!r}, but {there}" if name not in names else f"two columns {name!r}"
    raise CnetError(f"{path} has {found}; {fix}.", key=str(path), value=name, fix=fix)


def _merged(errors: dict[float, list[float]]) -> dict[float, list[float]]:
    """Put targets together that are the same in float32, under the lowest, in ascending order."""
    lowest: dict[float, float] = {}
    merged: dict[float, list[float]] = {}
    for wanted in sorted(errors):
        single = torch.tensor(wanted, dtype=torch.float32).item()
        merged.setdefault(lowest.setdefault(single, wanted), []).extend(errors[wanted])
    return merged


def _number(text: str | None, name: str, where: str, decimal_comma: bool) -> float:
    """Return a conductance in uS; a comma is a point between semicolons or tabs."""
    plain = (text or "").strip()
    try:
        value = float(plain.replace(",", ".") if decimal_comma else plain)
    except ValueError:
        value = math.nan
    if not abs(value) <= _LARGEST:
        raise CnetError(
            f"{where} has {name} = {_shown(text)}; give a number in uS, at most {_LARGEST:g}.",
            key=where,
            value=name,
            expected=f"a number in uS, at most {_LARGEST:g}",
        )
    return value


def _shown(text: str | None) -> str:
    return repr(text if text is None or len(text) <= 40 else text[:37] + "...")
