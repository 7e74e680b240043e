"""The placement problem as a gymnasium environment: one step and one choice for each layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from cnet_aihw.runtime.typed import check_type, checked
from cnet_aihw.search.known import ExhaustedPrefixes
from cnet_aihw.search.problem import KINDS, CandidateLayer, Encoding, PlacementProblem

Observation = dict[str, NDArray[np.float32]]

EvaluateEncoding = Callable[[Encoding], float | None]
"""Returns the reward of an encoding that fits; None for one that the budget no longer covers."""

_BOUND = 10.0  # of what is observed; costs far over the limit are all the same


class PlacementEnv(gymnasium.Env[Observation, np.int64]):
    """An episode is an encoding: in the order of execution, each candidate layer gets a choice.

    The reward comes at the end: that of :meth:`PlacementProblem.reward`. An encoding over the limit
    is never evaluated. An observation has

    - ``"observations"``: index of the layer, its kind, channels and outputs, its depth and
      sensitivity, the cost of each choice in weights and in MACs, and what is used and left of
      both limits (all as shares of the limits; 0 where there is none), the previous choice and,
      with history, all choices so far;
    - ``"action_mask"``: 1 for choices that stay within the limits. With the objective's
      ``over_limit`` "penalty", those over a limit are 1 too, and end with minus the overhead.
      Choices behind which every encoding that fits is known (``known``) are 0.

    The last step's info has the encoding, its reward, its overhead and whether it was evaluated
    (False over the limit, and once the budget is spent, which gives a reward of 0).
    Source: CorrectNet (DATE 2023), step 3, as we read the paper; the observations are ours.

    Args:
        config: ``problem``, a :class:`PlacementProblem`; ``evaluate``, a function that returns the
            reward of an encoding, or None (default) for episodes that are rewarded elsewhere and
            give 0 here; ``history``, whether all choices so far are observed, which a recurrent
            policy does not need (default True).
    """

    metadata = {"render_modes": []}  # noqa: RUF012, as gymnasium has it

    @checked
    def __init__(self, config: Mapping[str, Any]) -> None:
        problem: Any = config.get("problem")
        check_type("problem", problem, PlacementProblem)
        self.problem: PlacementProblem = problem
        self._evaluate: EvaluateEncoding | None = config.get("evaluate")
        self._history: bool = config.get("history", True)
        self.known = ExhaustedPrefixes(self.problem)
        """Encodings that an episode need not end with again; to be set from outside."""
        self._chosen: list[int] = []
        choices = len(self.problem.choices)
        shape = self._observe()["observations"].shape
        self.observation_space = spaces.Dict(
            {
                "observations": spaces.Box(-_BOUND, _BOUND, shape, np.float32),
                "action_mask": spaces.Box(0.0, 1.0, (choices,), np.float32),
            }
        )
        self.action_space = spaces.Discrete(choices)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an encoding."""
        super().reset(seed=seed)
        self._chosen = []
        return self._observe(), {}

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Give the next layer a choice; after the last one, the encoding is rewarded."""
        self._chosen.append(int(action))
        if len(self._chosen) < len(self.problem.layers):
            return self._observe(), 0.0, False, False, {}
        encoding = tuple(self._chosen)
        fits = self.problem.fits(encoding)
        value = self._value(encoding) if fits else self.problem.reward(encoding, None)
        reward = 0.0 if value is None else value
        info = {
            "encoding": encoding,
            "reward": reward,
            "overhead": self.problem.overhead(encoding),
            "evaluated": fits and value is not None,
        }
        return self._observe(), reward, True, False, info

    def _value(self, encoding: Encoding) -> float | None:
        return None if self._evaluate is None else self._evaluate(encoding)

    def _observe(self) -> Observation:
        problem, encoding = self.problem, self._chosen
        shape = len(problem.layers), len(problem.choices)
        chosen = np.zeros(shape)
        chosen[range(len(encoding)), encoding] = 1
        previous = chosen[len(encoding) - 1] if encoding else np.zeros(shape[1])
        place, kind, features = np.zeros(shape[0]), np.zeros(len(KINDS)), [0.0] * 5
        measures = (problem.weights, problem.limit), (problem.macs, problem.limit_macs)
        costs, mask = [0.0] * 2 * shape[1], [True] * shape[1]
        if len(encoding) < shape[0]:  # after the last layer there is none to show
            layer = problem.layers[len(encoding)]
            place[len(encoding)] = 1
            kind[KINDS.index(layer.kind)] = 1
            features = _features(layer)
            costs = [_share(c, limit) for rows, limit in measures for c in rows[len(encoding)]]
            mask = list(self.known.mask(tuple(encoding)))
            if problem.objective.over_limit == "penalty":
                within = problem.within(encoding, len(encoding))
                mask = [new or not fits for new, fits in zip(mask, within, strict=True)]
        totals = problem.overhead_weights(encoding), problem.overhead_macs(encoding)
        used = [_share(total, limit) for total, (_, limit) in zip(totals, measures, strict=True)]
        parts = [place, kind, features, costs, used, [1 - share for share in used], previous]
        if self._history:
            parts.append(chosen.ravel())
        observed = np.concatenate(parts).clip(-_BOUND, _BOUND)
        return {
            "observations": observed.astype(np.float32),
            "action_mask": np.array(mask, dtype=np.float32),
        }


def _share(cost: float, limit: float | None) -> float:
    """Return a cost as a share of its limit; 0 without one."""
    if limit is None or cost == 0.0:
        return 0.0
    return cost / limit if limit > 0.0 else _BOUND


def _features(layer: CandidateLayer) -> list[float]:
    """Five numbers of about one; counts by their order of magnitude."""
    counts = layer.in_channels, layer.out_channels, layer.positions
    return [*(math.log2(n) / 10 for n in counts), layer.depth, layer.sensitivity]
