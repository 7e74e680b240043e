"""Search with a model of the objective: a sum over layers and over pairs of layers.

After BOCS (Baptista and Poloczek, ICML 2018): a Bayesian second-order model, a Thompson draw from
it, and the best encoding of the draw. Kernel, optimisation and defaults are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.typed import check_fields
from cnet_aihw.runtime.values import check_count
from cnet_aihw.search.budgeted import Evaluations
from cnet_aihw.search.counting import TOLERANCE
from cnet_aihw.search.problem import Encoding, PlacementProblem
from cnet_aihw.search.searchers.moves import (
    neighbours,
    no_compensation,
    perturbed,
    rewards_of,
    unseen,
)
from cnet_aihw.search.searchers.protocol import SearchContext
from cnet_aihw.search.searchers.second_order import SecondOrderModel, Tables

Array = NDArray[np.float64]

_EQUAL = 1e-12  # a gain up to this is none


@dataclass
class SurrogateSearcher:
    """Fits a model to all evaluations, draws from it, and evaluates the best encoding."""

    name: ClassVar[str] = "surrogate"

    initial: int = 5
    """Random encodings, besides no compensation, before the model is asked."""

    batch: int = 1
    """Encodings drawn from the same model, evaluated in parallel if possible."""

    exploration: float = 0.6
    """Distance of draws from the model's mean, 1 for those of its posterior, 0 for the mean."""

    starts: int = 6
    """Random encodings, besides the best ones evaluated, from which each draw is climbed."""

    def __post_init__(self) -> None:
        check_fields(self, "surrogate.")
        for field in ("initial", "batch", "starts"):
            check_count(f"surrogate.{field}", getattr(self, field))
        if not self.exploration >= 0:
            raise bad_value("surrogate.exploration", self.exploration, "a number of at least 0")

    def search(
        self,
        problem: PlacementProblem,
        evaluations: Evaluations,
        rng: np.random.Generator,
        context: SearchContext,
    ) -> None:
        """Propose encodings until the budget is spent."""
        first = {no_compensation(problem): None}
        while len(first) < min(self.initial + 1, evaluations.left):
            first[unseen(problem, first, rng)] = None
        rewards_of(evaluations, list(first))
        model = SecondOrderModel(len(problem.layers), len(problem.choices))
        while evaluations.left:
            rows = evaluations.rows
            encodings = np.array([row.encoding for row in rows])
            objective = np.array([row.reward + problem.overhead(row.encoding) for row in rows])
            model.fit(encodings, objective)
            proposed: dict[Encoding, None] = {}
            while len(proposed) < min(self.batch, evaluations.left):
                tables = model.draw(rng, self.exploration)
                proposed[self._best_new(problem, evaluations, tables, proposed, rng)] = None
            rewards_of(evaluations, list(proposed))

    def _best_new(
        self,
        problem: PlacementProblem,
        evaluations: Evaluations,
        tables: Tables,
        proposed: dict[Encoding, None],
        rng: np.random.Generator,
    ) -> Encoding:
        """The best unknown encoding of the tables, of those found."""
        known = {*proposed, *(row.encoding for row in evaluations.rows)}
        leading = sorted(evaluations.rows, key=lambda row: -row.reward)[:3]
        starts = [row.encoding for row in leading]
        starts += [unseen(problem, (), rng) for _ in range(self.starts)]
        tables = Tables(tables.layers - np.array(problem.costs), tables.pairs)
        shape = len(problem.limits), len(problem.layers), len(problem.choices)
        costs = np.array([costs for costs, _ in problem.limits]).reshape(shape)
        limits = np.array([limit for _, limit in problem.limits])
        tops = {problem.canonical(climb(tables, costs, limits, start)) for start in starts}
        top = max(sorted(tops), key=tables.value)
        tops.update(neighbours(problem, top, range(len(top))))
        new = sorted(
            encoding for encoding in tops if encoding not in known and problem.fits(encoding)
        )
        return max(new, key=tables.value) if new else perturbed(problem, top, known, rng)


def climb(tables: Tables, costs: Array, limits: Array, encoding: Encoding) -> Encoding:
    """Improve an encoding by the best change of one layer, or else of two, until none improves it.

    Args:
        tables: what is maximised.
        costs: overhead of each choice, [measures, layers, choices].
        limits: largest overhead, [measures].
        encoding: where to begin; it fits.
    """
    index, at = np.arange(len(encoding)), np.array(encoding)
    pairs = tables.pairs
    while True:
        left = (limits + TOLERANCE - costs[:, index, at].sum(1))[:, None, None]
        extra = costs - costs[:, index, at][..., None]
        here = pairs[index, :, at].transpose(1, 0, 2)  # [l, m, choice of l], m as it is
        single = tables.layers + here.sum(1)
        single = single - single[index, at][:, None]
        gain = np.where((extra <= left).all(0), single, -np.inf)
        layer, choice = np.unravel_index(gain.argmax(), gain.shape)
        if gain[layer, choice] > _EQUAL:
            at[layer] = choice
            continue
        # [l, m, choice of l, choice of m]: both changes, and how they act on each other
        both = pairs - here[..., None] - here.transpose(1, 0, 2)[:, :, None, :]
        both += here[index[:, None], index, at[:, None]][..., None, None]
        both += single[:, None, :, None] + single[None, :, None, :]
        for more, rest in zip(extra, left, strict=True):
            both[more[:, None, :, None] + more[None, :, None, :] > rest] = -np.inf
        both[index, index] = -np.inf
        layer, other, choice, other_choice = np.unravel_index(both.argmax(), both.shape)
        if both[layer, other, choice, other_choice] <= _EQUAL:
            return tuple(at.tolist())
        at[layer], at[other] = choice, other_choice
