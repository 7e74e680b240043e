"""Search with a model of the objective: what layers add, and what pairs of layers add together.

After BOCS (Baptista and Poloczek, ICML 2018): a Bayesian second-order model, a Thompson draw from
it, and the plan that the draw holds for the best. Kernel, optimisation and defaults are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.search.budgeted import Evaluations
from cnet_aihw.search.problem import PlacementProblem, Plan
from cnet_aihw.search.searchers.moves import (
    neighbours,
    no_compensation,
    perturbed,
    rewards_of,
    unseen,
)
from cnet_aihw.search.searchers.second_order import SecondOrderModel, Tables

Array = NDArray[np.float64]

_EQUAL = 1e-12  # a gain up to this is none


@dataclass
class SurrogateSearcher:
    """Fits a model to all evaluations, draws from it, and evaluates the best plan of the draw."""

    name: ClassVar[str] = "surrogate"

    initial: int = 5
    """Random plans, besides no compensation, before the model is asked."""

    batch: int = 1
    """Plans drawn from the same model, evaluated side by side where possible."""

    exploration: float = 0.6
    """How far draws are from the model's mean, 1 for those of its posterior, 0 for the mean."""

    starts: int = 6
    """Random plans, besides the best ones evaluated, from which each draw is climbed."""

    def __post_init__(self) -> None:
        if min(self.initial, self.batch, self.starts) < 1 or not self.exploration >= 0:
            raise CnetError(
                f"surrogate has initial={self.initial}, batch={self.batch}, starts={self.starts} "
                f"and exploration={self.exploration}; give at least 1 each, and no exploration "
                "below 0."
            )

    def search(
        self,
        problem: PlacementProblem,
        evaluations: Evaluations,
        rng: np.random.Generator,
        folder: Path | None,
    ) -> None:
        """Propose plans until the budget is spent."""
        first = {no_compensation(problem): None}
        while len(first) < min(self.initial + 1, evaluations.left):
            first[unseen(problem, first, rng)] = None
        rewards_of(evaluations, list(first))
        model = SecondOrderModel(len(problem.layers), len(problem.choices))
        while evaluations.left:
            rows = evaluations.rows
            plans = np.array([row.plan for row in rows])
            objective = np.array([row.reward + problem.overhead(row.plan) for row in rows])
            model.fit(plans, objective)
            proposed: dict[Plan, None] = {}
            while len(proposed) < min(self.batch, evaluations.left):
                tables = model.draw(rng, self.exploration)
                proposed[self._best_new(problem, evaluations, tables, proposed, rng)] = None
            rewards_of(evaluations, list(proposed))

    def _best_new(
        self,
        problem: PlacementProblem,
        evaluations: Evaluations,
        tables: Tables,
        proposed: dict[Plan, None],
        rng: np.random.Generator,
    ) -> Plan:
        """The plan that the tables hold for the best of those found that are not known yet."""
        known = {*proposed, *(row.plan for row in evaluations.rows)}
        leading = sorted(evaluations.rows, key=lambda row: -row.reward)[:3]
        starts = [row.plan for row in leading]
        starts += [unseen(problem, (), rng) for _ in range(self.starts)]
        costs = np.array(problem.costs)
        tables = Tables(tables.layers - costs, tables.pairs)
        tops = {climb(tables, costs, problem.limit, plan) for plan in starts}
        top = max(sorted(tops), key=tables.value)
        tops.update(neighbours(problem, top, range(len(top))))
        new = sorted(plan for plan in tops if plan not in known and problem.fits(plan))
        return max(new, key=tables.value) if new else perturbed(problem, top, known, rng)


def climb(tables: Tables, costs: Array, limit: float, plan: Plan) -> Plan:
    """Better a plan by the best change of one layer, or else of two, until none betters it.

    Args:
        tables: what is maximised.
        costs: overhead of each choice, [layers, choices].
        limit: largest overhead.
        plan: where to begin; it fits.
    """
    index, at = np.arange(len(plan)), np.array(plan)
    pairs = tables.pairs
    while True:
        left = limit - costs[index, at].sum()
        extra = costs - costs[index, at][:, None]
        here = pairs[index, :, at].transpose(1, 0, 2)  # [l, m, choice of l], m as it is
        single = tables.layers + here.sum(1)
        single = single - single[index, at][:, None]
        gain = np.where(extra <= left, single, -np.inf)
        layer, choice = np.unravel_index(gain.argmax(), gain.shape)
        if gain[layer, choice] > _EQUAL:
            at[layer] = choice
            continue
        # [l, m, choice of l, choice of m]: both changes, and how they act on each other
        both = pairs - here[..., None] - here.transpose(1, 0, 2)[:, :, None, :]
        both += here[index[:, None], index, at[:, None]][..., None, None]
        both += single[:, None, :, None] + single[None, :, None, :]
        both[extra[:, None, :, None] + extra[None, :, None, :] > left] = -np.inf
        both[index, index] = -np.inf
        layer, other, choice, other_choice = np.unravel_index(both.argmax(), both.shape)
        if both[layer, other, choice, other_choice] <= _EQUAL:
            return tuple(at.tolist())
        at[layer], at[other] = choice, other_choice
