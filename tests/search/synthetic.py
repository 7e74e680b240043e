"""Placement problems with a known optimum, in place of networks: seconds of work for each of ours.

Run as a script, it compares the searchers at equal budget:
python tests/search/synthetic.py [seeds] [searcher ...]
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from cnet_aihw.compensation import Placement
from cnet_aihw.search import CandidateLayer, ObjectiveSettings, PlacementProblem, SearchContext

RATIOS = (0.0, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
# channels read, channels given, taps
SMALL = [(3, 8, 9), (8, 8, 9), (8, 16, 9)]
FIVE = [(3, 32, 9), (32, 32, 9), (32, 64, 9), (64, 64, 9), (64, 128, 9)]
VGG16 = [
    *[(3, 64, 9), (64, 64, 9), (64, 128, 9), (128, 128, 9), (128, 256, 9), (256, 256, 9)],
    *[(256, 256, 9), (256, 512, 9), *[(512, 512, 9)] * 5],
]


def placement_problem(
    layers: Sequence[tuple[int, int, int]],
    limit: float,
    sensitivities: Sequence[float] | None = None,
    objective: ObjectiveSettings | None = None,
) -> PlacementProblem:
    """A problem with the costs of a 1x1 generator and a 1x1 compensator at each layer."""
    total = sum(read * given * taps for read, given, taps in layers)
    costs = []
    for read, given, _ in layers:
        filters = [max(1, round(r * given)) if r else 0 for r in RATIOS]
        costs.append(
            tuple(((read + given) * m + (given + m) * given * (m > 0)) / total for m in filters)
        )
    sensitivities = sensitivities or [0.0] * len(layers)
    candidates = tuple(
        CandidateLayer(f"layer{i}", "conv2d", read, given, 1, i / len(layers), sensitivities[i])
        for i, (read, given, _) in enumerate(layers)
    )
    return PlacementProblem(
        candidates,
        RATIOS,
        tuple(costs),
        tuple(costs),
        limit,
        None,
        objective or ObjectiveSettings(),
    )


@dataclass
class Synthetic:
    """Accuracy: what layers add each, what pairs of them add, and frozen noise of each encoding.

    Args:
        layers: channels and taps of the layers.
        limit: overhead limit.
        seed: seed of the problem.
        rugged: standard deviation of what a pair of layers adds at most.
        noise: standard deviation of the frozen noise.
        saturating: the gains of layers overlap, as those of a network do.
    """

    layers: Sequence[tuple[int, int, int]]
    limit: float
    seed: int = 3
    rugged: float = 0.0
    noise: float = 0.0
    saturating: bool = False

    def __post_init__(self) -> None:
        rng, n, choices = np.random.default_rng(self.seed), len(self.layers), len(RATIOS)
        gain = np.exp(-np.arange(n) / (n / 2.5)) * rng.uniform(0.4, 1.6, n)  # early ones matter
        gain *= 0.5 / gain.sum()
        peak = rng.integers(2, choices, n)  # the best ratio differs from layer to layer
        share = np.exp(-(((np.arange(choices) - peak[:, None]) / 1.5) ** 2))
        share[:, 0] = 0.0
        self.gain = gain[:, None] * share
        self.share = share / share.max(1, keepdims=True)
        self.pairs = np.triu(rng.normal(0, self.rugged, (n, n)), 1)
        known = gain * rng.lognormal(0, 0.5, n)  # what a layer alone loses tells but roughly
        self.problem = placement_problem(self.layers, self.limit, known.tolist())
        self.evaluated: list[Placement] = []

    def accuracy(self, encoding: Sequence[int], noise: bool = True) -> float:
        index = np.arange(len(encoding)), np.array(encoding)
        gain = float(self.gain[index].sum())
        if self.saturating:
            gain = 0.5 * (1 - np.exp(-6 * gain))
        share = self.share[index]
        accuracy = 0.4 + gain + float(share @ self.pairs @ share)
        if noise and self.noise:
            digest = hashlib.sha256(bytes(encoding)).digest()
            frozen = np.random.default_rng([self.seed, *digest[:8]])
            accuracy += frozen.normal(0, self.noise)
        return accuracy

    def reward(self, encoding: Sequence[int]) -> float:
        """Return the worth of an encoding without the noise."""
        return self.accuracy(encoding, noise=False) - self.problem.overhead(encoding)

    # What makes it an evaluator.

    def key(self) -> str:
        return hashlib.sha256(repr(self.describe()).encode()).hexdigest()

    def describe(self) -> dict:
        names = ("layers", "limit", "seed", "rugged", "noise", "saturating")
        return {"evaluator": "synthetic", **{name: getattr(self, name) for name in names}}

    def evaluate(self, placement: Placement) -> tuple[float, ...]:
        self.evaluated.append(placement)
        return (self.accuracy(self.problem.encode(placement)),)

    def gains(self, problem: PlacementProblem) -> list[list[float]]:
        return [[float(value) for value in row] for row in self.gain]

    @cached_property
    def best(self) -> float:
        """The highest reward without noise: of all encodings, or the best found of many."""
        if len(self.layers) <= 5:
            return max(map(self.reward, self.problem.encodings()))
        rng = np.random.default_rng(0)
        return max(self._climb(rng) for _ in range(30))

    def _climb(self, rng: np.random.Generator) -> float:
        """Local search over changes of one and of two layers."""
        n, r = self.gain.shape
        costs = np.array(self.problem.costs)
        encoding = np.zeros(n, int)
        for layer in rng.permutation(n):
            used = costs[np.arange(n), encoding].sum()
            encoding[layer] = rng.choice(np.flatnonzero(costs[layer] + used <= self.limit))
        moves = np.array([(i, a, j, b) for i in range(n) for a in range(r) for j in range(i)
                          for b in range(r)])  # fmt: skip
        both = self.pairs + self.pairs.T
        value = self._values(encoding[None], costs, both)[0]
        while True:
            encodings = np.repeat(encoding[None], len(moves), 0)
            rows = np.arange(len(moves))
            encodings[rows, moves[:, 0]], encodings[rows, moves[:, 2]] = moves[:, 1], moves[:, 3]
            values = self._values(encodings, costs, both)
            if values.max() <= value + 1e-12:
                return float(value)
            encoding, value = encodings[values.argmax()], values.max()

    def _values(self, encodings: np.ndarray, costs: np.ndarray, both: np.ndarray) -> np.ndarray:
        index = np.arange(encodings.shape[1])
        gain, cost = self.gain[index, encodings].sum(1), costs[index, encodings].sum(1)
        if self.saturating:
            gain = 0.5 * (1 - np.exp(-6 * gain))
        share = self.share[index, encodings]
        values = 0.4 + gain + 0.5 * np.einsum("nl,lm,nm->n", share, both, share) - cost
        return np.where(cost <= self.limit + 1e-12, values, -np.inf)


PROBLEMS: dict[str, Callable[[int], Synthetic]] = {
    "5x5 additive": lambda seed: Synthetic(FIVE, 0.15, seed),
    "5x5 rugged": lambda seed: Synthetic(FIVE, 0.15, seed, rugged=0.04, noise=0.01),
    "13x5 additive": lambda seed: Synthetic(VGG16, 0.05, seed),
    "13x5 rugged": lambda seed: Synthetic(VGG16, 0.05, seed, rugged=0.04, noise=0.01),
    "13x5 saturating": lambda seed: Synthetic(VGG16, 0.05, seed, noise=0.005, saturating=True),
}


def compare(searchers: Sequence[tuple[str, Any]], seeds: int, budget: int = 200) -> None:
    """Print mean regret / share of seeds within 0.01 of the optimum, each seed another problem."""
    from cnet_aihw.search import Evaluation
    from cnet_aihw.search.budgeted import BudgetSpent, Evaluations

    points = [n for n in (25, 50, 100, 200) if n <= budget]
    for title, make in PROBLEMS.items():
        problems = [make(3 + seed) for seed in range(seeds)]
        print(f"# {title}: regret / share within 0.01 after", *points, "evaluations")
        for label, searcher in searchers:
            regrets, begin = np.zeros((seeds, len(points))), time.perf_counter()
            for seed, synthetic in enumerate(problems):

                def measure(placements: Sequence[Placement], s: Synthetic = synthetic) -> list:
                    return [(Evaluation(s.evaluate(p), 0.0), False) for p in placements]

                evaluations = Evaluations(synthetic.problem, measure, budget)
                with suppress(BudgetSpent):
                    rng = np.random.default_rng(seed)
                    searcher.search(synthetic.problem, evaluations, rng, SearchContext())
                for column, n in enumerate(points):
                    best = max(evaluations.rows[:n], key=lambda row: row.reward)
                    regrets[seed, column] = synthetic.best - synthetic.reward(best.encoding)
            cells = [f"{r.mean():.3f}/{np.mean(r < 0.01) * 100:3.0f}%" for r in regrets.T]
            spent = (time.perf_counter() - begin) / seeds
            print(f"{label:22s}", "  ".join(cells), f" {spent:5.1f} s", flush=True)


if __name__ == "__main__":
    from cnet_aihw.search import searchers as room

    names = sys.argv[2:] or [n for n in room.__all__ if n not in ("ExhaustiveSearcher", "Searcher")]
    compare([(n, getattr(room, n)()) for n in names], int(sys.argv[1]) if sys.argv[1:] else 6)
