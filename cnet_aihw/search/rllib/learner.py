"""PPO's learner, which has the walks of an iteration valued all at once before it learns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner

from cnet_aihw.search.problem import Plan

ValueWalks = Callable[[Sequence[Plan]], Sequence[float]]
"""Gives the rewards of the plans that the walks of an iteration ended with."""


class PlacementLearner(PPOTorchLearner):
    """Learns from walks that environments did not value.

    Walks take milliseconds and evaluations minutes: here, in the process of the search, the plans
    of all walks of an iteration, from whichever process, are valued as one batch.
    """

    value_walks: ValueWalks
    """Set before each iteration."""

    def update(self, *args: Any, **kwargs: Any) -> Any:
        """Give the walks their rewards, then learn from them."""
        episodes = kwargs["training_data"].episodes
        plans = [tuple(int(choice) for choice in episode.get_actions()) for episode in episodes]
        for episode, reward in zip(episodes, self.value_walks(plans), strict=True):
            rewards = np.zeros(len(episode))
            rewards[-1] = reward
            episode.rewards.data = rewards  # anew: those of other processes cannot be written to
        return super().update(*args, **kwargs)
