"""Proximal policy optimisation with RLlib: an agent that chooses layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from cnet_aihw.cluster.session import check_cpus, start_ray
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.search.budgeted import BudgetSpent, Evaluations
from cnet_aihw.search.problem import Encoding, PlacementProblem
from cnet_aihw.search.rllib.ppo_settings import PPOSettings
from cnet_aihw.search.searchers.protocol import SearchContext

if TYPE_CHECKING:
    from cnet_aihw.search.rllib.agent import Agent
    from cnet_aihw.search.rllib.model_rollouts import EpisodeRewards, ModelRollouts

CHECKPOINT = "ppo"
"""Folder of the agent's state, within that of the search."""


@dataclass
class PPOSearcher(PPOSettings):
    """An agent gives each layer in turn its choice, and learns from the rewards of its episodes.

    No episode ends with an encoding that is known already: choices that lead to nothing new are
    masked. Where the budget covers every encoding and iterations bring little new, the rest is
    evaluated without the agent.

    Source: CorrectNet (DATE 2023), step 3, as we read the paper, has a recurrent policy and policy
    gradients (``policy="gru"``, ``model_iterations=0``); PPO, model rollouts (DyNA-PPO,
    Angermueller et al., ICLR 2020) and all defaults are ours.
    """

    name: ClassVar[str] = "ppo"
    needs_ray: ClassVar[bool] = True

    def search(
        self,
        problem: PlacementProblem,
        evaluations: Evaluations,
        rng: np.random.Generator,
        context: SearchContext,
    ) -> None:
        """Play and learn until the budget is spent, or nothing new is found any more.

        Raises:
            CnetError: as :func:`cnet_aihw.search.rllib.start_ray`, and if the private Ray has too
                few CPUs.
        """
        self._start(context)
        from cnet_aihw.search.rllib.agent import Agent, one_thread
        from cnet_aihw.search.rllib.model_rollouts import ModelRollouts

        seed = int(rng.integers(2**62))
        rollouts = ModelRollouts(problem, self.exploration)
        checkpoint = None if context.folder is None else context.folder / CHECKPOINT
        with one_thread() as usual, closing(Agent(self, problem, seed)) as agent:
            if checkpoint is not None and agent.load(checkpoint):
                evaluations.replay(agent.progress.evaluations)
            agent.known.add(row.encoding for row in evaluations.rows)
            evaluated = _evaluated_episodes(evaluations, usual)
            while evaluations.left and agent.progress.stalled_restarts < self.give_up:
                new = self._learn(agent, evaluations, evaluated)
                if evaluations.covers_all and new < self.episodes_per_iteration / 2:
                    evaluations.many(problem.encodings())  # all that is left is asked for anyway
                    return
                self._learn_from_model(agent, evaluations, rollouts, seed)
                progress = agent.progress
                progress.evaluations = evaluations.spent
                if checkpoint is not None and progress.rounds % self.checkpoint_every == 0:
                    agent.save(checkpoint)

    def _start(self, context: SearchContext) -> None:
        ray = context.ray
        start_ray(ray)
        if self.num_env_runners:
            purpose = f"{ray.workers} workers and {self.num_env_runners} env runners"
            check_cpus(ray.workers * ray.cpus_per_worker + self.num_env_runners, purpose)
        context.on_ray()

    def _learn(self, agent: Agent, evaluations: Evaluations, evaluated: EpisodeRewards) -> int:
        """One iteration on evaluated episodes; return how many encodings were new."""
        before, progress = evaluations.spent, agent.progress
        figures = agent.iterate(evaluated)
        agent.known.add(row.encoding for row in evaluations.rows[before:])
        progress.rounds += 1
        progress.idle += 1
        if evaluations.spent > before:
            progress.idle = progress.stalled_restarts = 0
        if progress.idle == self.patience:
            agent.restart()
        evaluations.scalars({**figures, "restarts": float(progress.restarts)})
        return evaluations.spent - before

    def _learn_from_model(
        self, agent: Agent, evaluations: Evaluations, rollouts: ModelRollouts, seed: int
    ) -> None:
        """Iterations on episodes that the model rewards."""
        if not self.model_iterations or evaluations.spent < 2:
            return
        rng = np.random.default_rng(derive_seed(seed, "imagined", agent.progress.rounds))
        rewards = rollouts.draw(evaluations.rows, rng)
        for _ in range(self.model_iterations):
            agent.iterate(rewards)


def _evaluated_episodes(evaluations: Evaluations, usual_threads: int) -> EpisodeRewards:
    """Rewards from evaluations; raises BudgetSpent if the budget does not cover all."""
    from cnet_aihw.search.rllib.agent import threads

    def rewards(encodings: Sequence[Encoding]) -> list[float]:
        with threads(usual_threads):
            found = evaluations.many(encodings)
        known = [reward for reward in found if reward is not None]
        if len(known) < len(found):
            raise BudgetSpent(f"all {evaluations.budget} evaluations of the budget are spent.")
        return known

    return rewards
