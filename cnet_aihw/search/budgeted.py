"""The book of a search: what a searcher asked for, within its budget, one line of trace each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from cnet_aihw.compensation import Placement
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import append_record, read_records, write_records
from cnet_aihw.search.problem import Choice, Evaluation, PlacementProblem, Plan

Measure = Callable[[Sequence[Placement]], Iterable[tuple[Evaluation, bool]]]
"""Evaluates placements, possibly side by side; gives, in their order and as soon as each is there,
its value and whether that was known already."""

PATIENCE = 10_000
"""Plans without anything new among them after which a searcher is stopped."""


class BudgetSpent(Exception):
    """The search is over: its budget is spent, or the searcher asks for nothing new any more."""


@dataclass(frozen=True)
class TraceRow:
    """One evaluation of a search."""

    evaluation: int
    """Its number, from 1."""

    placement: dict[str, Choice]
    """Layer -> ratio or ``"digital"``; layers that are left as they are do not stand in it."""

    plan: Plan
    """The same as indices of choices."""

    reward: float
    """Objective over chips - overhead."""

    accuracy: float
    """Mean accuracy over chips."""

    std: float
    """Standard deviation of the accuracy over chips."""

    q05: float
    """5 % quantile of the accuracy over chips."""

    overhead_weights: float
    """Overhead in weights."""

    overhead_macs: float
    """Overhead in MACs."""

    best_reward: float
    """Highest reward up to here."""

    cached: bool
    """Whether the value was in the store already: another search's, or this one's where it was
    killed before it could write its trace."""

    seconds: float
    """Time that the evaluation took, when it was done."""

    def as_record(self) -> dict[str, Any]:
        """Plain values for a line of the trace."""
        return {**asdict(self), "plan": list(self.plan)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> TraceRow:
        """Return what :meth:`as_record` wrote."""
        return cls(**{**record, "plan": tuple(record["plan"])})


class Observer(Protocol):
    """Watches a search."""

    def evaluated(self, row: TraceRow, evaluations: Evaluations) -> None:
        """Take in one evaluation; those replayed from an earlier start come again."""

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Take in further figures that the searcher gives, after ``step`` evaluations."""

    def close(self) -> None:
        """The search ended, well or not."""


class Evaluations:
    """Evaluates plans for a searcher: counts them, remembers them and writes the trace.

    A searcher is deterministic. One that was killed therefore asks for the same plans again: those
    that stand in the trace are taken from it, for nothing and without measuring. Where it asks for
    another plan than the trace has, the trace is cut off there.

    Args:
        problem: the placement problem.
        measure: evaluates placements.
        budget: how many different plans may be evaluated, those from the store included.
        trace: JSON lines file, one line for each evaluation; None writes none.
        observers: who is told of each evaluation.

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
    ) -> None:
        if budget < 1:
            raise CnetError(f"the budget of a search is {budget}; give at least 1 evaluation.")
        self.problem, self.budget = problem, budget
        self.rows: list[TraceRow] = []
        """All evaluations so far."""
        self.best: TraceRow | None = None
        """The one with the highest reward so far, the first of several."""
        self.replayed = 0
        """How many of the rows were taken from the trace of an earlier start."""
        self.observers = list(observers)
        """Who is told of each evaluation from now on; closed with the search."""
        self._measure = measure
        self._trace = None if trace is None else Path(trace)
        self._earlier = _read_trace(self._trace)
        self._rewards: dict[Plan, float] = {}
        self._reachable = sum(1 for _ in islice(problem.plans(), budget))
        self._idle = 0

    @property
    def spent(self) -> int:
        """Evaluations so far."""
        return len(self.rows)

    @property
    def left(self) -> int:
        """Evaluations that are still to be had: 0 as well where every plan is evaluated."""
        return self._reachable - self.spent

    def __contains__(self, plan: object) -> bool:
        """Whether a plan is evaluated already."""
        return plan in self._rewards

    def __call__(self, plan: Sequence[int]) -> float:
        """Return the reward of a plan.

        One asked for before costs nothing; one over the limit costs nothing either, is never
        evaluated, and its reward is minus its overhead.

        Raises:
            BudgetSpent: when a new plan is asked for and the budget is spent, and when for very
                long nothing new was asked for.
            CnetError: if it is no plan of the problem, or cannot be evaluated.
        """
        reward = self.many([plan])[0]
        if reward is None:
            raise BudgetSpent(f"all {self.budget} evaluations of the budget are spent.")
        return reward

    def many(self, plans: Iterable[Sequence[int]]) -> list[float | None]:
        """Return the rewards of several plans, which are evaluated side by side where possible.

        Budget and trace are as if they had been asked for one after the other.

        Args:
            plans: the plans; the same may stand among them more than once.

        Returns:
            Their rewards in their order; None for those that the budget does not cover any more.

        Raises:
            BudgetSpent: when for very long nothing new was asked for.
            CnetError: if one is no plan of the problem, or cannot be evaluated.
        """
        asked = [self._checked(plan) for plan in plans]
        fitting = [plan for plan in dict.fromkeys(asked) if self.problem.fits(plan)]
        new = [plan for plan in fitting if plan not in self][: self.left]
        self._count_idle(len(asked), bool(new))
        known = self._replay(new)
        placements = [self.problem.placement(plan) for plan in new[known:]]
        if placements:
            measured = self._measure(placements)
            for plan, (evaluation, cached) in zip(new[known:], measured, strict=True):
                self._add(self._row(plan, evaluation, cached))
        return [
            self._rewards.get(plan) if self.problem.fits(plan) else self.problem.reward(plan, None)
            for plan in asked
        ]

    def replay(self, rows: int) -> None:
        """Take over the first rows of the trace, for a searcher that goes on from its own state.

        Args:
            rows: how many evaluations that state knows of.

        Raises:
            CnetError: if the trace has fewer.
        """
        if len(self._earlier) < rows:
            raise CnetError(
                f"the trace {self._trace} has {len(self._earlier)} evaluations and the searcher's "
                f"checkpoint knows of {rows}; delete the checkpoint to begin anew."
            )
        self._replay([row.plan for row in self._earlier[self.spent : rows]])

    def scalars(self, values: Mapping[str, float]) -> None:
        """Show the observers further figures, such as the entropy of a policy."""
        for observer in self.observers:
            observer.scalars(self.spent, dict(values))

    def finish(self) -> None:
        """Cut off what an earlier start evaluated beyond where the search ended."""
        self._cut()

    def close(self) -> None:
        """Close the observers."""
        for observer in self.observers:
            observer.close()

    def _checked(self, plan: Sequence[int]) -> Plan:
        checked = tuple(int(choice) for choice in plan)
        choices = range(len(self.problem.choices))
        if len(checked) != len(self.problem.layers) or any(c not in choices for c in checked):
            raise CnetError(
                f"the searcher asks for the plan {checked}; a plan has {len(self.problem.layers)} "
                f"choices, each from 0 to {len(choices) - 1}."
            )
        return checked

    def _count_idle(self, asked: int, new: bool) -> None:
        self._idle = 0 if new else self._idle + max(asked, 1)
        if self._idle > PATIENCE:
            raise BudgetSpent(f"the last {PATIENCE} plans asked for had nothing new among them.")

    def _replay(self, plans: Sequence[Plan]) -> int:
        """Take over what stands in the trace of the plans, in their order; how many that are."""
        for known, plan in enumerate(plans):
            if self.spent >= len(self._earlier):
                return known
            row = self._earlier[self.spent]
            if row.plan != plan:
                self._cut()
                return known
            self.replayed += 1
            self._add(row)
        return len(plans)

    def _cut(self) -> None:
        """Leave in the trace what is evaluated, and drop the rest of it."""
        if self.spent < len(self._earlier):
            assert self._trace is not None
            write_records(self._trace, [row.as_record() for row in self.rows])
            self._earlier = list(self.rows)

    def _row(self, plan: Plan, evaluation: Evaluation, cached: bool) -> TraceRow:
        problem, reward = self.problem, self.problem.reward(plan, evaluation)
        return TraceRow(
            evaluation=self.spent + 1,
            placement=dict(problem.placement(plan)),
            plan=plan,
            reward=reward,
            accuracy=evaluation.mean,
            std=evaluation.std,
            q05=evaluation.q05,
            overhead_weights=problem.overhead_weights(plan),
            overhead_macs=problem.overhead_macs(plan),
            best_reward=reward if self.best is None else max(reward, self.best.reward),
            cached=cached,
            seconds=evaluation.seconds,
        )

    def _add(self, row: TraceRow) -> None:
        self.rows.append(row)
        self._rewards[row.plan] = row.reward
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
            f"{trace} has a line that is no evaluation of a search ({error}); give another folder."
        ) from error
