"""Evaluations kept on disk in one SQLite file, shared by runs and processes."""

from __future__ import annotations

import json
import math
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cnet_aihw.compensation import Placement
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.locks import locked
from cnet_aihw.runtime.processes import is_alive, this_process
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.waiting import Patience
from cnet_aihw.search.evaluators.protocol import PlacementEvaluator
from cnet_aihw.search.scores import Evaluation, scores_of

FILE = "evaluations.sqlite3"

_TABLES = """
CREATE TABLE IF NOT EXISTS evaluators (key TEXT PRIMARY KEY, description TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS evaluations (
    key TEXT NOT NULL, placement TEXT NOT NULL, scores TEXT NOT NULL, seconds REAL NOT NULL,
    PRIMARY KEY (key, placement)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS claims (
    key TEXT NOT NULL, placement TEXT NOT NULL, owner TEXT NOT NULL,
    PRIMARY KEY (key, placement)
) WITHOUT ROWID;
"""
_BUSY_SECONDS = 60.0  # longest wait for another process's commit, which takes milliseconds
_POLL_SECONDS = 0.05  # between looks at an evaluation that another process has claimed
CLAIM_SECONDS = 3600.0
"""Longest wait for an evaluation that another process has claimed; then it is made here too."""


class EvaluationStore:
    """Values of an evaluator by placement; any number of processes of one machine share the file.

    Each placement is evaluated once: a process claims it, and others that need it wait for the
    value. A claim names its process and lapses when that is dead, so that a kill locks nothing and
    loses nothing but its own evaluation. The file is in SQLite's write-ahead mode, which needs a
    local disk. Delete it only while nothing uses it.

    Args:
        folder: folder of the file; made when missing.
        key: the evaluator's key.
    """

    @checked
    def __init__(self, folder: str | Path, key: str) -> None:
        self.folder, self.key = Path(folder), key
        self.path = self.folder / FILE
        self._open: tuple[int, sqlite3.Connection] | None = None

    def __len__(self) -> int:
        (count,) = self._select("SELECT COUNT(*) FROM evaluations WHERE key = ?", self.key)[0]
        return int(count)

    def get(self, placement: Placement) -> Evaluation | None:
        """Return the value of a placement, or None; ratios of 0 and the order do not matter.

        Raises:
            CnetError: if the file is damaged.
        """
        rows = self._select(
            "SELECT scores, seconds FROM evaluations WHERE key = ? AND placement = ?",
            self.key,
            _name(placement),
        )
        if not rows:
            return None
        scores, seconds = rows[0]
        return Evaluation.from_record({"scores": json.loads(scores), "seconds": seconds})

    def claim(self, placement: Placement, take_over: bool = False) -> bool:
        """Claim a placement for this process.

        Args:
            placement: the placement.
            take_over: whether a living process loses its claim, because it takes too long.

        Returns:
            False if it is evaluated already, or a living process is evaluating it.
        """
        name = _name(placement)
        with self._writing() as connection:
            known = "SELECT 1 FROM evaluations WHERE key = ? AND placement = ?"
            if connection.execute(known, (self.key, name)).fetchone():
                return False
            claimed = "SELECT owner FROM claims WHERE key = ? AND placement = ?"
            row = connection.execute(claimed, (self.key, name)).fetchone()
            if row is not None and is_alive(row[0]) and not take_over:
                return False
            connection.execute(
                "INSERT OR REPLACE INTO claims VALUES (?, ?, ?)", (self.key, name, this_process())
            )
        return True

    def release(self, placements: Sequence[Placement]) -> None:
        """Give up claims of this process, whose placements were not evaluated."""
        with self._writing() as connection:
            connection.executemany(
                "DELETE FROM claims WHERE key = ? AND placement = ? AND owner = ?",
                [(self.key, _name(placement), this_process()) for placement in placements],
            )

    def put(
        self, placement: Placement, evaluation: Evaluation, evaluator: PlacementEvaluator
    ) -> None:
        """Keep a value and end its claim; a value that is there already stays.

        Args:
            placement: the placement.
            evaluation: its value.
            evaluator: the evaluator, which is described beside its values.

        Raises:
            CnetError: for an evaluation without scores, or with one that is not finite.
        """
        if not evaluation.finite or not all(map(math.isfinite, evaluation.finite)):
            raise CnetError(
                f"{type(evaluator).__name__}.evaluate returns the scores {evaluation.scores} for "
                f"{dict(placement)}; an evaluator returns a finite score, or None, for each chip, "
                "and at least one score.",
                key="scores",
                value=evaluation.scores,
                expected="a finite score, or None, for each chip, and at least one score",
            )
        name, scores = _name(placement), json.dumps(list(evaluation.scores), allow_nan=False)
        description = json.dumps(evaluator.describe(), sort_keys=True, default=str)
        with self._writing() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO evaluators VALUES (?, ?)", (self.key, description)
            )
            connection.execute(
                "INSERT OR IGNORE INTO evaluations VALUES (?, ?, ?, ?)",
                (self.key, name, scores, evaluation.seconds),
            )
            connection.execute(
                "DELETE FROM claims WHERE key = ? AND placement = ?", (self.key, name)
            )

    def measure(
        self, placement: Placement, evaluator: PlacementEvaluator
    ) -> tuple[Evaluation, bool]:
        """Return a placement's value, evaluating it in this process if that was never done.

        Args:
            placement: the placement.
            evaluator: the evaluator whose key the store has.

        Returns:
            The value, and whether it was known already.

        Raises:
            CnetError: for an evaluator of another key, a damaged file, a folder that cannot be
                written to, or as the evaluator raises.
        """
        self.check_evaluator(evaluator)
        patience = self.patience()
        while (found := self.get(placement)) is None:
            if not self.claim(placement, take_over=patience.is_over()):
                time.sleep(_POLL_SECONDS)
                continue
            try:
                start = time.perf_counter()
                scores = scores_of(evaluator, placement)
                value = Evaluation(scores, time.perf_counter() - start)
                self.put(placement, value, evaluator)
            finally:
                self.release([placement])
            return value, False
        return found, True

    def patience(self) -> Patience:
        """Begin to wait for an evaluation of another process."""
        return Patience(f"an evaluation of another process, shared in {self.path}", CLAIM_SECONDS)

    def check_evaluator(self, evaluator: PlacementEvaluator) -> None:
        """Check that values of an evaluator belong here.

        Raises:
            CnetError: if it has another key.
        """
        if evaluator.key() != self.key:
            raise CnetError(
                f"the store {self.path} was opened for another evaluator than this one "
                f"({evaluator.key()[:16]}); open EvaluationStore(folder, evaluator.key()).",
                key="evaluator",
                value=evaluator.key(),
                expected=self.key,
            )

    def description(self) -> dict[str, object] | None:
        """Return the description of the evaluator beside its values, or None."""
        rows = self._select("SELECT description FROM evaluators WHERE key = ?", self.key)
        return json.loads(rows[0][0]) if rows else None

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        if self._open is not None and self._open[0] == os.getpid():
            self._open[1].close()
        self._open = None

    def _connection(self) -> sqlite3.Connection:
        """The connection of this process; one may not be carried through a fork."""
        if self._open is None or self._open[0] != os.getpid():
            with locked(self.folder, FILE):  # SQLite does not wait for a change of the mode
                connection = sqlite3.connect(self.path, _BUSY_SECONDS, isolation_level=None)
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                connection.executescript(_TABLES)
            self._open = os.getpid(), connection
        return self._open[1]

    def _select(self, query: str, *values: str) -> list[tuple]:
        with self._errors():
            return self._connection().execute(query, values).fetchall()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction, which no other process writes beside."""
        with self._errors():
            connection = self._connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.OperationalError, OSError) as error:
            raise CnetError(
                f"{self.path} cannot be written to ({error}); make room or give another folder.",
                key=str(self.path),
                expected="a folder on a local disk that can be written to",
            ) from error
        except sqlite3.DatabaseError as error:
            raise CnetError(
                f"{self.path} is damaged ({error}); delete it to evaluate everything again.",
                key=str(self.path),
                expected="a file of evaluations",
                fix="delete it",
            ) from error

    def __getstate__(self) -> dict[str, object]:
        """Leave the connection out."""
        return {**self.__dict__, "_open": None}


def _name(placement: Placement) -> str:
    """One text for all placements that are the same."""
    return json.dumps({n: r for n, r in sorted(placement.items()) if r != 0.0})
