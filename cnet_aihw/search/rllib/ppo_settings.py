"""Settings of the PPO agent, readable without Ray."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.typed import check_fields

POLICIES = ("mlp", "gru")


@dataclass
class PPOSettings:
    """Settings of the agent and of its training.

    Raises:
        CnetError: names the field, its value and the allowed values.
    """

    policy: str = "mlp"
    """"mlp", which sees all choices so far, or "gru", which remembers them."""

    hidden: int = 32
    """Width of the policy's hidden layer."""

    episodes_per_iteration: int = 8
    """Episodes of an iteration; their encodings are evaluated in parallel if possible."""

    model_iterations: int = 10
    """Iterations on model rollouts, which a model of the evaluations so far rewards, after each
    iteration on evaluated episodes; 0: the agent learns from evaluations alone."""

    exploration: float = 0.6
    """Distance of the model's rewards from its mean, 1 for draws from its posterior."""

    num_epochs: int = 8
    """Optimizer steps of an iteration, each on all its episodes."""

    lr: float = 1e-2
    """Learning rate of Adam."""

    entropy_coeff: float = 0.03
    """Weight of the policy's entropy."""

    clip: float = 0.2
    """Largest change of a choice's probability in an iteration, as a share."""

    value_coeff: float = 0.5
    """Weight of the loss of the values that serve as the baseline."""

    grad_clip: float = 10.0
    """Largest norm of a gradient."""

    patience: int = 10
    """Iterations on evaluated episodes without a new encoding after which the agent restarts."""

    give_up: int = 4
    """Restarts in a row without a new encoding after which the search ends."""

    num_env_runners: int = 0
    """Processes that play episodes; 0: this one. Their encodings are evaluated by the search's
    workers."""

    checkpoint_every: int = 5
    """Iterations on evaluated episodes between checkpoints of the agent."""

    def __post_init__(self) -> None:
        check_fields(self, "ppo.")
        if self.policy not in POLICIES:
            raise bad_value("ppo.policy", self.policy, f"one of {', '.join(POLICIES)}")
        least = {
            "hidden": 1,
            "episodes_per_iteration": 2,
            "model_iterations": 0,
            "num_epochs": 1,
            "patience": 1,
            "give_up": 1,
            "num_env_runners": 0,
            "checkpoint_every": 1,
        }
        for field, smallest in least.items():
            if getattr(self, field) < smallest:
                raise bad_value(f"ppo.{field}", getattr(self, field), f"at least {smallest}")
        for field in ("lr", "clip", "grad_clip"):
            if not (math.isfinite(getattr(self, field)) and getattr(self, field) > 0):
                raise bad_value(f"ppo.{field}", getattr(self, field), "a number above 0")
        for field in ("exploration", "value_coeff", "entropy_coeff"):
            if not (math.isfinite(getattr(self, field)) and getattr(self, field) >= 0):
                raise bad_value(f"ppo.{field}", getattr(self, field), "a number of at least 0")
        if self.episodes_per_iteration % max(1, self.num_env_runners):
            raise bad_value(
                "ppo.episodes_per_iteration",
                self.episodes_per_iteration,
                f"a multiple of ppo.num_env_runners={self.num_env_runners}",
            )
