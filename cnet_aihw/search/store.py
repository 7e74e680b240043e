"""Evaluations kept on disk: one file for each evaluator, shared by runs and processes."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

from cnet_aihw.compensation import Placement
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.locks import locked
from cnet_aihw.runtime.records import append_record, write_json_atomic
from cnet_aihw.search.evaluators.protocol import PlacementEvaluator
from cnet_aihw.search.problem import Evaluation


class EvaluationStore:
    """What an evaluator measured, by placement: append-only ``<key>.jsonl``, described beside it.

    ``<key>.json`` says what the evaluator is. Any number of processes may read and write; each
    placement is evaluated once: where a process is at it, the others wait for its value. A process
    that dies gives its placement free and loses nothing else.

    Args:
        folder: where the files are; made when missing. On a disk that several machines share, its
            locks (flock) must hold across machines.
        key: the evaluator's key.
    """

    def __init__(self, folder: str | Path, key: str) -> None:
        self.folder, self.key = Path(folder), key
        self.path = self.folder / f"{key}.jsonl"
        self._values: dict[str, Evaluation] = {}
        self._read = 0  # bytes of the file that are in _values

    def __len__(self) -> int:
        self._refresh()
        return len(self._values)

    def get(self, placement: Placement) -> Evaluation | None:
        """Return what is known of a placement; layers of ratio 0 and the order do not matter.

        Raises:
            CnetError: if the file is damaged.
        """
        name = _name(placement)
        if name not in self._values:
            self._refresh()
        return self._values.get(name)

    def measure(
        self, placement: Placement, evaluator: PlacementEvaluator
    ) -> tuple[Evaluation, bool]:
        """Return a placement's value, evaluating it where that was never done.

        Args:
            placement: what to evaluate.
            evaluator: the one whose key the store has.

        Returns:
            The value, and whether it was there already.

        Raises:
            CnetError: for an evaluator of another key, a damaged file, a folder that cannot be
                written to, or as the evaluator raises.
        """
        if evaluator.key() != self.key:
            raise CnetError(
                f"the store {self.path} holds values of another evaluator than this one "
                f"({evaluator.key()[:16]}); open EvaluationStore(folder, evaluator.key())."
            )
        found = self.get(placement)
        if found is not None:
            return found, True
        name = _name(placement)
        lock = f"{self.key[:16]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        with locked(self.folder, lock) as path:
            found = self.get(placement)  # another process may have just finished it
            if found is None:
                start = time.perf_counter()
                accuracies = evaluator.evaluate(placement)
                if not accuracies:
                    raise CnetError(
                        f"{type(evaluator).__name__}.evaluate gives nothing for {dict(placement)}; "
                        "an evaluator gives the accuracy of each chip, at least one."
                    )
                value = Evaluation(tuple(accuracies), time.perf_counter() - start)
                self._append(name, value, evaluator)
            # Whoever still waits for this lock, or makes it anew, finds the value first.
            path.unlink(missing_ok=True)
        return (value, False) if found is None else (found, True)

    def _append(self, name: str, value: Evaluation, evaluator: PlacementEvaluator) -> None:
        with locked(self.folder, f"{self.key[:16]}-writer"):
            description = self.path.with_suffix(".json")
            if not description.exists():
                write_json_atomic(description, {"key": self.key, **evaluator.describe()})
            append_record(self.path, {"placement": json.loads(name), **value.as_record()})
        self._refresh()

    def _refresh(self) -> None:
        """Read what was appended since the last time; a torn last line waits until it is whole."""
        size = self.path.stat().st_size if self.path.exists() else 0
        if size < self._read:  # deleted or replaced
            self._values.clear()
            self._read = 0
        if size == self._read:
            return
        with open(self.path, "rb") as file:
            file.seek(self._read)
            whole, newline, _ = file.read().rpartition(b"\n")
        for line in whole.split(b"\n") if newline else ():
            try:
                record = json.loads(line)
                name = _name(Placement(record["placement"]))
                self._values.setdefault(name, Evaluation.from_record(record))
            except (ValueError, KeyError, TypeError, CnetError) as error:
                raise CnetError(
                    f"{self.path} has a line that is no evaluation ({line[:40]!r}); delete that "
                    "line, or the file to evaluate everything again."
                ) from error
        self._read += len(whole) + len(newline)


def _name(placement: Placement) -> str:
    """One text for all placements that are the same."""
    return json.dumps({n: r for n, r in sorted(placement.items()) if r != 0.0})
