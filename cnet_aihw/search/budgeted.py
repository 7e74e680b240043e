"""Budgeted, cached and resumable evaluation of placements, with a trace of one line each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from operator import index
from pathlib import Path
from typing import Any, Protocol

from cnet_aihw.compensation import Placement
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.records import append_record, read_records, write_records
from cnet_aihw.runtime.values import check_count
from cnet_aihw.search.problem import Choice, Encoding, PlacementProblem
from cnet_aihw.search.scores import Evaluation

Measure = Callable[[Sequence[Placement]], Iterable[tuple[Evaluation, bool]]]
"""Evaluates placements, possibly in parallel; yields, in their order and as soon as each is
available, its value and whether that was known already."""

Gains = Sequence[Sequence[float]]
"""Share of each layer's wanted output that its choices win back, [layers][choices]."""

PATIENCE = 10_000
"""Number of encodings asked for without a new one among them after which a searcher is stopped."""


class BudgetSpent(Exception):
    """End of a search: its budget is spent, or the searcher asks for nothing new any more."""


@dataclass(frozen=True)
class TraceRow:
    """One evaluation of a search."""

    evaluation: int
    """Its number, from 1."""

    placement: dict[str, Choice]
    """Layer -> ratio or ``"digital"``; layers with ratio 0 are left out."""

    encoding: Encoding
    """The same as indices of choices."""

    reward: float
    """Objective over chips - overhead."""

    score: float
    """Mean score over chips."""

    std: float
    """Standard deviation of the score over chips."""

    q05: float
    """Score that 95 % of the chips reach: the 5 % quantile, or the 95 % one if lower is better."""

    overhead_weights: float
    """Overhead in weights."""

    overhead_macs: float
    """Overhead in MACs."""

    best_reward: float
    """Highest reward up to here."""

    cached: bool
    """Whether the value was in the store already: another search's, or this one's if it was killed
    before it could write its trace."""

    seconds: float
    """Time that the evaluation took."""

    def as_record(self) -> dict[str, Any]:
        """Return plain values for a line of the trace."""
        return {**asdict(self), "encoding": list(self.encoding)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> TraceRow:
        """Return the row that :meth:`as_record` described."""
        return cls(**{**record, "encoding": tuple(record["encoding"])})


class Observer(Protocol):
    """Watches a search."""

    def evaluated(self, row: TraceRow, evaluations: Evaluations) -> None:
        """Take in one evaluation; those replayed from an earlier start come again."""

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Take in further figures of the searcher, after ``step`` evaluations."""

    def close(self) -> None:
        """The search ended, well or not."""


class Evaluations:
    """Evaluates encodings for a searcher: counts them, remembers them and writes the trace.

    Encodings of the same placement count as one.

    A searcher is deterministic. One that was killed therefore asks for the same encodings again:
    those in the trace are replayed from it, at no cost. If it asks for another encoding than the
    trace has, the trace is cut off there.

    Args:
        problem: the placement problem.
        measure: evaluates placements.
        budget: how many different encodings may be evaluated, those from the store included.
        trace: JSON lines file, one line for each evaluation; None writes none.
        observers: objects to which each evaluation is reported.
        gains: finds what choices win back; None where that is not known.

    Raises:
        CnetError: for a budget below 1, and a damaged trace.
    """

    def __init__(
        self,
        problem: PlacementProblem,
        measure: Measure,
        budget: int,
        trace: str | Path | None = None,
        observers: Sequence[Observer] = (),
        gains: Callable[[PlacementProblem], Gains] | None = None,
    ) -> None:
        check_count("budget", budget)
        self.problem, self.budget = problem, budget
        self.rows: list[TraceRow] = []
        """All evaluations so far."""
        self.best: TraceRow | None = None
        """The evaluation with the highest reward so far, the first of several."""
        self.replayed = 0
        """Number of rows that were replayed from the trace of an earlier start."""
        self.observers = list(observers)
        """Objects to which each evaluation is reported from now on; closed with the search."""
        self._measure, self._gains = measure, gains
        self._trace = None if trace is None else Path(trace)
        self._earlier = _read_trace(self._trace)
        self._rewards: dict[Encoding, float] = {}
        fitting = sum(1 for _ in islice(problem.encodings(), budget + 1))
        self.covers_all = fitting <= budget
        """Whether the budget covers every encoding that fits."""
        self._reachable = min(fitting, budget)
        self._idle = 0

    @property
    def spent(self) -> int:
        """Number of evaluations so far."""
        return len(self.rows)

    @property
    def left(self) -> int:
        """Number of evaluations left; 0 as well once every encoding is evaluated."""
        return self._reachable - self.spent

    def __contains__(self, encoding: object) -> bool:
        """Return whether an encoding, or one of the same placement, is evaluated already."""
        return isinstance(encoding, tuple) and self.problem.canonical(encoding) in self._rewards

    def __call__(self, encoding: Sequence[int]) -> float:
        """Return the reward of an encoding.

        One asked for before costs nothing; one over the limit costs nothing either, is never
        evaluated, and its reward is minus its overhead.

        Raises:
            BudgetSpent: when a new encoding is asked for and the budget is spent, and after very
                many requests without a new one.
            CnetError: if it is not an encoding of the problem, or cannot be evaluated.
        """
        reward = self.many([encoding])[0]
        if reward is None:
            raise BudgetSpent(f"all {self.budget} evaluations of the budget are spent.")
        return reward

    def many(self, encodings: Iterable[Sequence[int]]) -> list[float | None]:
        """Return the rewards of several encodings, which are evaluated in parallel if possible.

        Budget and trace are as if they had been asked for one after the other.

        Args:
            encodings: the encodings, repetitions allowed.

        Returns:
            Their rewards in their order; None for those that the budget does not cover any more.

        Raises:
            BudgetSpent: after very many requests without a new encoding.
            CnetError: if one is not an encoding of the problem, or cannot be evaluated.
        """
        asked = [self._checked(encoding) for encoding in encodings]
        fitting = [encoding for encoding in dict.fromkeys(asked) if self.problem.fits(encoding)]
        new = [encoding for encoding in fitting if encoding not in self][: self.left]
        self._count_idle(len(asked), bool(new))
        known = self._replay(new)
        placements = [self.problem.placement(encoding) for encoding in new[known:]]
        if placements:
            measured = self._measure(placements)
            for encoding, (evaluation, cached) in zip(new[known:], measured, strict=True):
                self._add(self._row(encoding, evaluation, cached))
        return [
            self._rewards.get(encoding)
            if self.problem.fits(encoding)
            else self.problem.reward(encoding, None)
            for encoding in asked
        ]

    def replay(self, rows: int) -> None:
        """Take over the first rows of the trace, for a searcher that resumes from its own state.

        Args:
            rows: number of evaluations that the state includes.

        Raises:
            CnetError: if the trace has fewer.
        """
        if len(self._earlier) < rows:
            raise CnetError(
                f"the trace {self._trace} has {len(self._earlier)} evaluations and the searcher's "
                f"checkpoint includes {rows}; delete the checkpoint to start again.",
                key=str(self._trace),
                value=len(self._earlier),
                expected=rows,
            )
        self._replay([row.encoding for row in self._earlier[self.spent : rows]])

    def gains(self) -> Gains:
        """Return the share of each layer's wanted output that its choices win back.

        It costs a forward pass of each chip, and no evaluation.

        Returns:
            Gains, [layers][choices]; 0 for no compensation.

        Raises:
            CnetError: if the evaluator does not know.
        """
        if self._gains is None:
            raise CnetError(
                "the evaluator cannot say what choices gain, which the searcher needs; take the "
                "evaluator that fits each chip (search.evaluator.kind=per_chip).",
                key="search.evaluator.kind",
                expected="per_chip",
                fix="search.evaluator.kind=per_chip",
            )
        return self._gains(self.problem)

    def scalars(self, values: Mapping[str, float]) -> None:
        """Report further figures to the observers, such as the entropy of a policy."""
        for observer in self.observers:
            observer.scalars(self.spent, dict(values))

    def finish(self) -> None:
        """Cut off what an earlier start evaluated beyond the end of this search."""
        self._cut()

    def close(self) -> None:
        """Close the observers."""
        for observer in self.observers:
            observer.close()

    def _checked(self, encoding: Sequence[int]) -> Encoding:
        choices = range(len(self.problem.choices))
        expected = f"{len(self.problem.layers)} whole numbers from 0 to {len(choices) - 1}"
        try:
            checked = tuple(index(choice) for choice in encoding)  # ratios are none
        except TypeError as error:
            raise bad_value("encoding", encoding, f"{expected}, indices of choices") from error
        if len(checked) != len(self.problem.layers) or any(c not in choices for c in checked):
            raise bad_value("encoding", checked, f"{expected}, indices of choices")
        return self.problem.canonical(checked)

    def _count_idle(self, asked: int, new: bool) -> None:
        self._idle = 0 if new else self._idle + max(asked, 1)
        if self._idle > PATIENCE:
            raise BudgetSpent(f"the last {PATIENCE} encodings asked for were all known.")

    def _replay(self, encodings: Sequence[Encoding]) -> int:
        """Take over the encodings that the trace has, in their order; return how many."""
        for known, encoding in enumerate(encodings):
            if self.spent >= len(self._earlier):
                return known
            row = self._earlier[self.spent]
            if row.encoding != encoding:
                self._cut()
                return known
            self.replayed += 1
            self._add(row)
        return len(encodings)

    def _cut(self) -> None:
        """Keep in the trace what is evaluated, and drop the rest."""
        if self.spent < len(self._earlier):
            assert self._trace is not None
            write_records(self._trace, [row.as_record() for row in self.rows])
            self._earlier = list(self.rows)

    def _row(self, encoding: Encoding, evaluation: Evaluation, cached: bool) -> TraceRow:
        problem, reward = self.problem, self.problem.reward(encoding, evaluation)
        return TraceRow(
            evaluation=self.spent + 1,
            placement=dict(problem.placement(encoding)),
            encoding=encoding,
            reward=reward,
            score=evaluation.mean,
            std=evaluation.std,
            q05=evaluation.bad_tail(higher_is_better=problem.higher_is_better),
            overhead_weights=problem.overhead_weights(encoding),
            overhead_macs=problem.overhead_macs(encoding),
            best_reward=reward if self.best is None else max(reward, self.best.reward),
            cached=cached,
            seconds=evaluation.seconds,
        )

    def _add(self, row: TraceRow) -> None:
        self.rows.append(row)
        self._rewards[row.encoding] = row.reward
        if self.best is None or row.reward > self.best.reward:
            self.best = row
        if self._trace is not None and row.evaluation > self.replayed:
            append_record(self._trace, row.as_record())
        for observer in self.observers:
            observer.evaluated(row, self)


def _read_trace(trace: Path | None) -> list[TraceRow]:
    try:
        return [] if trace is None else [TraceRow.from_record(r) for r in read_records(trace)]
    except (KeyError, TypeError) as error:
        raise CnetError(
            f"{trace} has a line that is not an evaluation of a search ({error}); give another "
            "folder.",
            key=str(trace),
            expected="lines of a search's trace",
        ) from error
