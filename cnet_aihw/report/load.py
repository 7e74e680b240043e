"""What a run left in its folder, as it stands there; nothing is measured or computed here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import read_json, read_records

Record = dict[str, Any]

SWEEP, SWEEP_SEARCHES = "sweep.json", "sweep-searches.json"
_TABLES = ("table.json", "searches.json")
_OF_A_TRAINING = ("run.json", "chips.json", "scan.json", "search.json")


@dataclass(frozen=True)
class Measurement:
    """One network on its chips: what chips.json, or chips-compensated.json, holds."""

    training: str
    """Name of the training."""

    record: Record
    """The file."""

    chips: list[Record]
    """One record for each chip and time."""

    @property
    def compensation(self) -> str | None:
        """What compensation it has; None without."""
        label: str | None = self.record.get("compensation", {}).get("label")
        return label

    @property
    def search(self) -> str | None:
        """Which searcher placed it; None where none did."""
        searcher: str | None = self.record.get("compensation", {}).get("search")
        return searcher


@dataclass(frozen=True)
class Search:
    """One search for a placement: search.jsonl and, once it is done, search.json."""

    folder: str
    """Name of its folder."""

    described: Record
    """search.json; empty where it is missing."""

    rows: list[Record]
    """One record for each placement evaluated."""

    @property
    def searcher(self) -> str:
        """Name of the searcher; of the folder where it is not told."""
        return str(self._identity.get("searcher", {}).get("name", self.folder))

    @property
    def seed(self) -> int | None:
        """Seed of the searcher."""
        seed: int | None = self._identity.get("seed")
        return seed

    @property
    def problem(self) -> Record:
        """The placement problem."""
        problem: Record = self._identity.get("problem", {})
        return problem

    @property
    def _identity(self) -> Record:
        identity: Record = self.described.get("search", {})
        return identity


@dataclass(frozen=True)
class Training:
    """The folder of one training; what is not there is None, or empty."""

    name: str
    run: Record | None
    """run.json: what the training was begun with."""
    result: Record | None
    """result.json: what it ended with."""
    epochs: list[Record]
    """epochs.jsonl."""
    scan: Record | None
    """scan.json: accuracy with variation in some layers only."""
    compensation: Record | None
    """compensation.json: where compensation stands and what it costs."""
    fit: list[Record]
    """compensation/epochs.jsonl: the course of its fit."""
    measurements: list[Measurement]
    """Without compensation first."""
    not_searched: str | None
    """Why its placement was not searched, from search.json; None where it was, or never was to."""
    searches: list[Search]
    """In the order of their folders' names."""


@dataclass(frozen=True)
class RunRecords:
    """All that a run left."""

    table: Record
    """table.json, or searches.json where only searches were made; empty where both are missing."""

    trainings: list[Training]
    """In the order of the table, then of their names, with ``plain`` first."""

    @property
    def measurements(self) -> list[Measurement]:
        """Those of all trainings."""
        return [m for training in self.trainings for m in training.measurements]


def read_run(folder: str | Path) -> RunRecords:
    """Read the records of a run, whole or not.

    Args:
        folder: the run's folder.

    Raises:
        CnetError: if no training lies in it, or a file is damaged.
    """
    folder = Path(folder)
    found = {
        path.name: path
        for path in sorted(folder.iterdir() if folder.is_dir() else ())
        if any((path / name).is_file() for name in _OF_A_TRAINING)
    }
    if not found:
        raise CnetError(
            f"{folder} holds no run: no training lies in it; give the folder of a run or of a "
            "sweep, such as run=outputs/mine."
        )
    table = next((read_json(p) for name in _TABLES if (p := folder / name).is_file()), {})
    in_table = dict.fromkeys(row["training"] for row in table.get("rows", ()))
    order = [*in_table, *sorted(found, key=lambda name: (name != "plain", name))]
    names = [name for name in dict.fromkeys(order) if name in found]
    return RunRecords(table, [_training(found[name], table) for name in names])


def _training(folder: Path, table: Record) -> Training:
    measurements = [
        Measurement(folder.name, read_json(path), read_records(path.with_suffix(".jsonl")))
        for path in sorted(folder.glob("chips*.json"), key=lambda path: path.stem)
    ]
    # where the table has the training, what it lacks of it is of an earlier job
    rows = [row for row in table.get("rows", ()) if row["training"] == folder.name]
    tabled = {row.get("compensation") for row in rows if "mean" in row}
    return Training(
        name=folder.name,
        run=_json(folder / "run.json"),
        result=_json(folder / "result.json"),
        epochs=read_records(folder / "epochs.jsonl"),
        scan=_json(folder / "scan.json"),
        compensation=_json(folder / "compensation.json"),
        fit=read_records(folder / "compensation" / "epochs.jsonl"),
        measurements=[m for m in measurements if not tabled or m.compensation in tabled],
        not_searched=(_json(folder / "search.json") or {}).get("reason"),
        searches=[
            Search(path.parent.name, _json(path.with_name("search.json")) or {}, read_records(path))
            for path in sorted(folder.rglob("search.jsonl"))
        ],
    )


def _json(path: Path) -> Record | None:
    return read_json(path) if path.is_file() else None
