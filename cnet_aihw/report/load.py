"""The records in a run's folder; those of earlier versions under today's names."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnet_aihw.report.tables import Metric
from cnet_aihw.runtime.epochs import read_epochs
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import read_json, read_records

Record = dict[str, Any]

_TABLES = ("table.json", "searches.json")
_OF_A_TRAINING = (
    *("run.json", "chips.json", "scan.json", "search.json", "compensation.json"),
    *("attack-*.json", "tuning-*.json", "uncertainty-*.json"),  # alone with source=
)

_FORMAT_1 = {
    "accuracy": "score",
    "accuracies": "scores",
    "clean_accuracy": "clean_score",
    "chip_accuracy": "chip_score",
    "train_accuracy": "train_score",
    "cross_entropy": "fit",
}
"""Names of the first format -> today's; its only metric was the accuracy."""

_EVALUATORS_1 = {"shared": "supernet", "fit": "per_placement"}


def current(record: Record) -> Record:
    """Return a record under today's names, whatever version wrote it."""
    renamed: Record = _renamed(record)
    renamed.pop("key", None)  # once on every line, now once in a file's header
    if "provenance" not in renamed and "config" in renamed:
        renamed["provenance"] = _provenance(renamed)
    evaluator = renamed.get("provenance", {}).get("config", {}).get("search", {}).get("evaluator")
    if isinstance(evaluator, dict) and evaluator.get("kind") in _EVALUATORS_1:
        evaluator["kind"] = _EVALUATORS_1[evaluator["kind"]]
    return renamed


def _renamed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_FORMAT_1.get(name, name): _renamed(inner) for name, inner in value.items()}
    return [_renamed(inner) for inner in value] if isinstance(value, list) else value


def _provenance(record: Record) -> Record:
    """Return what an artifact of the first format said of its making, as one nested record."""
    return {
        "training": record.get("training"),
        "choices": {g: record[g] for g in ("data", "model", "rram") if g in record},
        "noise_model": record.get("device"),
        "data": {"fingerprint": record.get("data_fingerprint")},
        "versions": record.get("versions", {}),
        "config": record["config"],
    }


@dataclass(frozen=True)
class Measurement:
    """One network on its chips: the content of a ``chips*.json``."""

    training: str
    """Name of the training."""

    record: Record
    """The file."""

    chips: list[Record]
    """One record for each chip and time."""

    @property
    def compensation(self) -> str | None:
        """Return the label of its compensation; None without any."""
        label: str | None = self.record.get("compensation", {}).get("label")
        return label

    @property
    def search(self) -> str | None:
        """Return the searcher that placed the compensation, if any."""
        searcher: str | None = self.record.get("compensation", {}).get("search")
        return searcher

    @property
    def provenance(self) -> Record:
        """Return what made it."""
        provenance: Record = self.record.get("provenance", {})
        return provenance


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
        """Return the searcher's name; that of the folder where it is not recorded."""
        return str(self._identity.get("searcher", {}).get("name", self.folder))

    @property
    def seed(self) -> int | None:
        """Return the searcher's seed."""
        seed: int | None = self._identity.get("seed")
        return seed

    @property
    def problem(self) -> Record:
        """Return the placement problem."""
        problem: Record = self._identity.get("problem", {})
        return problem

    @property
    def _identity(self) -> Record:
        identity: Record = self.described.get("provenance") or self.described.get("search", {})
        return identity


@dataclass(frozen=True)
class Training:
    """The folder of one training; missing files are None or empty."""

    name: str
    run: Record | None
    """run.json: what the training was started with."""
    result: Record | None
    """result.json: what it ended with."""
    epochs: list[Record]
    """epochs.jsonl."""
    scan: Record | None
    """scan.json: score with variation in some layers only."""
    compensation: Record | None
    """compensation.json: the placement and its cost."""
    fit: list[Record]
    """compensation/epochs.jsonl: the course of its fit."""
    measurements: list[Measurement]
    """Without compensation first."""
    attacks: list[Record]
    """attack-*.json: attacks on its chips."""
    tunings: list[Record]
    """tuning-*.json: tuning on its chips."""
    uncertainties: list[Record]
    """uncertainty-*.json: uncertainty of its predictions."""
    not_searched: str | None
    """Why its placement was not searched, from search.json; None without a reason."""
    searches: list[Search]
    """In the order of their folders' names."""

    @property
    def settings(self) -> Record | None:
        """Return the settings of the training, from its measurements or from run.json."""
        for measured in self.measurements:
            found: Record | None = measured.provenance.get("config", {}).get("training")
            if found is not None:
                return found
        run = self.run or {}
        made: Record = run.get("provenance") or run.get("identity", {})
        return made.get("training")


@dataclass(frozen=True)
class RunRecords:
    """All records of a run."""

    table: Record
    """table.json, or searches.json where only searches were made; empty where both are missing."""

    selected: Record | None
    """select.json: the choice among the trained networks, if one was made."""

    trainings: list[Training]
    """In the order of the table, then of their names, with ``plain`` first."""

    kernels: Record | None = None
    """kernels.json: kernel features on chips, if any were measured."""

    tunings: Record | None = None
    """tunings.json: the table of tuning on chips, which names the metric, if any was tuned."""

    @property
    def measurements(self) -> list[Measurement]:
        """Return those of all trainings."""
        return [m for training in self.trainings for m in training.measurements]

    @property
    def metric(self) -> Metric:
        """Return the metric that the run's records name."""
        statistics = [s for m in self.measurements for s in m.record["statistics"]]
        epochs = [epoch for t in self.trainings for epoch in t.epochs[:1]]
        others = [r for t in self.trainings for r in (t.result, t.scan)]
        tables = (self.kernels, self.tunings)
        return Metric.of(*statistics, self.table, *others, *epochs, *tables)


def read_run(folder: str | Path) -> RunRecords:
    """Read the records of a run, finished or not.

    Args:
        folder: the run's folder.

    Raises:
        CnetError: if no training lies in it, or a file is damaged.
    """
    folder = Path(folder)
    found = {
        path.name: path
        for path in sorted(folder.iterdir() if folder.is_dir() else ())
        if any(inner.is_file() for pattern in _OF_A_TRAINING for inner in path.glob(pattern))
    }
    kernels = _json(folder / "kernels.json")
    if not found and kernels is None:
        raise CnetError(
            f"{folder} is not the folder of a run: it holds no training; give the folder of a run "
            "or of a sweep, such as run=outputs/mine.",
            key="run",
            value=str(folder),
            expected="the folder of a run or of a sweep",
        )
    table = next((current(read_json(p)) for n in _TABLES if (p := folder / n).is_file()), {})
    in_table = dict.fromkeys(row["training"] for row in table.get("rows", ()))
    order = [*in_table, *sorted(found, key=lambda name: (name != "plain", name))]
    names = [name for name in dict.fromkeys(order) if name in found]
    selected = _json(folder / "select.json")
    trainings = [_training(found[name], table) for name in names]
    tunings = _json(folder / "tunings.json")
    return RunRecords(table, selected, trainings, kernels, tunings)


def read_table(path: Path) -> Record:
    """Read a table of a sweep; an empty one where the file is missing."""
    return current(read_json(path)) if path.is_file() else {"varied": [], "rows": []}


def _training(folder: Path, table: Record) -> Training:
    measurements = [_measurement(path) for path in _named(folder, "chips*.json")]
    # where the table has the training, a measurement that it lacks is of an earlier job
    rows = [row for row in table.get("rows", ()) if row["training"] == folder.name]
    tabled = {row.get("compensation") for row in rows if "mean" in row}
    return Training(
        name=folder.name,
        run=_json(folder / "run.json"),
        result=_json(folder / "result.json"),
        epochs=_epochs(folder),
        scan=_json(folder / "scan.json"),
        compensation=_json(folder / "compensation.json"),
        fit=_epochs(folder / "compensation"),
        measurements=first_of_each(
            [m for m in measurements if not tabled or m.compensation in tabled],
            lambda measured: measured.record,
        ),
        tunings=[read_json(path) for path in _named(folder, "tuning-*.json")],
        uncertainties=[read_json(path) for path in _named(folder, "uncertainty-*.json")],
        attacks=[read_json(path) for path in _named(folder, "attack-*.json")],
        not_searched=(_json(folder / "search.json") or {}).get("reason"),
        searches=[
            Search(path.parent.name, _json(path.with_name("search.json")) or {}, _records(path))
            for path in sorted(folder.rglob("search.jsonl"))
        ],
    )


def _named(folder: Path, pattern: str) -> list[Path]:
    """Return the files of a pattern, a name before those that begin with it."""
    return sorted(folder.glob(pattern), key=lambda path: path.stem)


def first_of_each[Measured](
    measurements: Sequence[Measured], record_of: Callable[[Measured], Mapping[str, Any]]
) -> list[Measured]:
    """Leave out a network that was selected and then measured on the same chips again."""
    kept: dict[str, Measured] = {}
    for measured in measurements:
        record = record_of(measured)
        same = [record.get(n) for n in ("training", "statistics", "calibration", "compensation")]
        kept.setdefault(json.dumps(same, sort_keys=True), measured)
    return list(kept.values())


def _measurement(path: Path) -> Measurement:
    record = current(read_json(path))
    records = path.with_name(record.get("records", path.with_suffix(".jsonl").name))
    return Measurement(path.parent.name, record, _records(records))


def _json(path: Path) -> Record | None:
    return current(read_json(path)) if path.is_file() else None


def _epochs(folder: Path) -> list[Record]:
    """Return each epoch of the training or the fit in a folder."""
    ended = (_json(folder / "result.json") or {}).get("epochs")
    return [current(record) for record in read_epochs(folder / "epochs.jsonl", ended)]


def _records(path: Path) -> list[Record]:
    return [current(record) for record in read_records(path)]
