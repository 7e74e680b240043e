"""Proximal policy optimisation with RLlib: an agent that walks over the layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.search.budgeted import BudgetSpent, Evaluations
from cnet_aihw.search.problem import PlacementProblem, Plan
from cnet_aihw.search.rllib.session import check_cpus, start_ray
from cnet_aihw.search.settings import RaySettings

if TYPE_CHECKING:
    from cnet_aihw.search.rllib.agent import Agent
    from cnet_aihw.search.rllib.learner import ValueWalks
    from cnet_aihw.search.rllib.model_rollouts import Imagination

CHECKPOINT = "ppo"
"""Folder of the agent's state, within that of the search."""

POLICIES = ("mlp", "gru")


@dataclass
class PPOSearcher:
    """An agent walks over the layers, gives each its choice, and learns from the walks' rewards.

    Source: CorrectNet (DATE 2023), step 3, as we read the paper, has a recurrent policy and policy
    gradients (``policy="gru"``, ``imagined_iterations=0``); PPO, imagined walks (DyNA-PPO,
    Angermueller et al., ICLR 2020) and all defaults are ours.
    """

    name: ClassVar[str] = "ppo"

    policy: str = "mlp"
    """"mlp", which sees all choices so far, or "gru", which remembers them."""

    hidden: int = 32
    """Width of the policy's hidden layer."""

    episodes_per_iteration: int = 8
    """Walks of an iteration; their plans are evaluated side by side where possible."""

    imagined_iterations: int = 10
    """Iterations on walks valued by a model of the evaluations so far, after each on evaluated
    walks; 0: the agent learns from evaluations alone."""

    exploration: float = 0.6
    """How far imagined rewards are from the model's mean, 1 for draws from its posterior."""

    num_epochs: int = 8
    """Steps of learning in an iteration, each on all its walks."""

    lr: float = 1e-2
    """Learning rate of Adam."""

    entropy_coeff: float = 0.03
    """Weight of the policy's entropy."""

    clip: float = 0.2
    """How far the probability of a choice may change in an iteration, as a share."""

    value_coeff: float = 0.5
    """Weight of the loss of the values that serve as the baseline."""

    grad_clip: float = 10.0
    """Largest norm of a gradient."""

    patience: int = 10
    """Iterations on evaluated walks without a new plan after which the agent begins anew."""

    give_up: int = 4
    """How often in a row the agent may begin anew without a new plan before the search ends."""

    num_env_runners: int = 0
    """Processes that walk; 0: this one. Their plans are evaluated by the search's workers."""

    checkpoint_every: int = 5
    """Iterations on evaluated walks after which the agent's state is written."""

    def __post_init__(self) -> None:
        self._ray = RaySettings()
        if self.policy not in POLICIES:
            raise CnetError(f"ppo.policy is {self.policy!r}; give one of {', '.join(POLICIES)}.")
        least = {
            "hidden": 1,
            "episodes_per_iteration": 2,
            "imagined_iterations": 0,
            "num_epochs": 1,
            "patience": 1,
            "give_up": 1,
            "num_env_runners": 0,
            "checkpoint_every": 1,
        }
        for field, smallest in least.items():
            if vars(self)[field] < smallest:
                raise CnetError(f"ppo.{field} is {vars(self)[field]}; give at least {smallest}.")
        for field in ("lr", "clip", "grad_clip"):
            if not (math.isfinite(vars(self)[field]) and vars(self)[field] > 0):
                raise CnetError(f"ppo.{field} is {vars(self)[field]}; give a number above 0.")
        for field in ("exploration", "value_coeff", "entropy_coeff"):
            if not (math.isfinite(vars(self)[field]) and vars(self)[field] >= 0):
                raise CnetError(f"ppo.{field} is {vars(self)[field]}; give a number of at least 0.")
        if self.episodes_per_iteration % max(1, self.num_env_runners):
            raise CnetError(
                f"ppo.episodes_per_iteration is {self.episodes_per_iteration}, which "
                f"{self.num_env_runners} env runners cannot share; give a multiple."
            )

    def start_ray(self, settings: RaySettings) -> None:
        """Say where Ray runs, and start it there.

        Raises:
            CnetError: as :func:`cnet_aihw.search.rllib.start_ray`, and if the private Ray has too
                few CPUs.
        """
        self._ray = settings
        start_ray(settings)
        busy = settings.workers * settings.cpus_per_worker
        if self.num_env_runners:
            purpose = f"{settings.workers} workers and {self.num_env_runners} env runners"
            check_cpus(busy + self.num_env_runners, purpose)

    def search(
        self,
        problem: PlacementProblem,
        evaluations: Evaluations,
        rng: np.random.Generator,
        folder: Path | None,
    ) -> None:
        """Walk and learn until the budget is spent, or nothing new is found any more."""
        self.start_ray(self._ray)
        from cnet_aihw.search.rllib.agent import Agent, one_thread
        from cnet_aihw.search.rllib.model_rollouts import Imagination

        seed = int(rng.integers(2**62))
        imagination = Imagination(problem, self.exploration)
        with one_thread() as usual, closing(Agent(self, problem, seed)) as agent:
            if folder is not None and agent.load(folder / CHECKPOINT):
                evaluations.replay(agent.progress.evaluations)
            evaluated = _evaluated_walks(evaluations, usual)
            while evaluations.left and agent.progress.barren < self.give_up:
                self._learn(agent, evaluations, evaluated)
                self._practise(agent, evaluations, imagination, seed)
                progress = agent.progress
                progress.evaluations = evaluations.spent
                if folder is not None and progress.rounds % self.checkpoint_every == 0:
                    agent.save(folder / CHECKPOINT)

    def _learn(self, agent: Agent, evaluations: Evaluations, evaluated: ValueWalks) -> None:
        """One iteration on evaluated walks."""
        before, progress = evaluations.spent, agent.progress
        figures = agent.iterate(evaluated)
        progress.rounds += 1
        progress.idle += 1
        if evaluations.spent > before:
            progress.idle = progress.barren = 0
        if progress.idle == self.patience:
            agent.begin_anew()
        evaluations.scalars({**figures, "restarts": float(progress.restarts)})

    def _practise(
        self, agent: Agent, evaluations: Evaluations, imagination: Imagination, seed: int
    ) -> None:
        """Iterations on imagined walks."""
        if not self.imagined_iterations or evaluations.spent < 2:
            return
        rng = np.random.default_rng(derive_seed(seed, "imagined", agent.progress.rounds))
        imagined = imagination.draw(evaluations.rows, rng)
        for _ in range(self.imagined_iterations):
            agent.iterate(imagined)


def _evaluated_walks(evaluations: Evaluations, usual_threads: int) -> ValueWalks:
    """What has walks evaluated; raises BudgetSpent where the budget does not cover all."""
    from cnet_aihw.search.rllib.agent import threads

    def value_walks(plans: Sequence[Plan]) -> list[float]:
        with threads(usual_threads):
            rewards = evaluations.many(plans)
        known = [reward for reward in rewards if reward is not None]
        if len(known) < len(rewards):
            raise BudgetSpent(f"all {evaluations.budget} evaluations of the budget are spent.")
        return known

    return value_walks
