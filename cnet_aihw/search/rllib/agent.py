"""The agent of a PPO search: RLlib's algorithm and learner, its randomness, its state on disk."""

from __future__ import annotations

import math
import os
import random
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ray.exceptions import RayError
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from cnet_aihw.cluster.session import log_to_file
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.runtime.records import read_json, write_json_atomic
from cnet_aihw.search.env import PlacementEnv
from cnet_aihw.search.known import ExhaustedPrefixes
from cnet_aihw.search.problem import Encoding, PlacementProblem
from cnet_aihw.search.rllib.model_rollouts import EpisodeRewards
from cnet_aihw.search.rllib.modules import GRUPolicy, MLPPolicy
from cnet_aihw.search.rllib.ppo_settings import PPOSettings

_POLICIES = {"mlp": MLPPolicy, "gru": GRUPolicy}
_STATE, _ALGORITHM = "state.json", "algorithm"


@dataclass
class Progress:
    """Position of a search, beside the agent's weights."""

    evaluations: int = 0
    """Evaluations that the agent has learned from."""

    iteration: int = 0
    """Iterations so far, those on model rollouts included."""

    rounds: int = 0
    """Iterations on evaluated episodes so far."""

    restarts: int = 0
    """Restarts of the agent."""

    stalled_restarts: int = 0
    """Restarts since the last new encoding."""

    idle: int = 0
    """Iterations on evaluated episodes since the last one with a new encoding."""


class PlacementLearner(PPOTorchLearner):
    """Learner that rewards the episodes of an iteration all at once before it learns from them.

    Episodes take milliseconds and evaluations minutes: here, in the process of the search, the
    encodings of all episodes of an iteration, from whichever process, are evaluated as one batch.
    """

    episode_rewards: EpisodeRewards
    """Set before each iteration."""

    def update(self, *args: Any, **kwargs: Any) -> Any:
        """Give the episodes their rewards, then learn from them."""
        episodes = kwargs["training_data"].episodes
        encodings = [tuple(int(choice) for choice in e.get_actions()) for e in episodes]
        for episode, reward in zip(episodes, self.episode_rewards(encodings), strict=True):
            rewards = np.zeros(len(episode))
            rewards[-1] = reward
            episode.rewards.data = rewards  # a new array: those of other processes are read-only
        return super().update(*args, **kwargs)


class Agent:
    """Plays episodes, has them rewarded, and learns.

    Each iteration draws from a seed of its own, in all processes, so that an agent that resumes
    from the disk draws what one that was never stopped does.

    Args:
        settings: settings of the agent.
        problem: the placement problem.
        seed: seed of the search.
    """

    def __init__(self, settings: PPOSettings, problem: PlacementProblem, seed: int) -> None:
        self._settings, self._problem, self._seed = settings, problem, seed
        self.known = ExhaustedPrefixes(problem)
        """Encodings that episodes do not end with again."""
        self.progress = Progress()
        self._build()

    def iterate(self, episode_rewards: EpisodeRewards) -> dict[str, float]:
        """Do one iteration: episodes, their rewards, and learning from them.

        Args:
            episode_rewards: rewards the episodes; an exception of it ends the iteration.

        Returns:
            Figures of the learning, such as the policy's entropy.

        Raises:
            CnetError: if a process that plays episodes has died.
        """
        self.progress.iteration += 1
        seed = derive_seed(self._seed, "iteration", self.progress.iteration)

        returns: list[float] = []

        def value(encodings: Sequence[Encoding]) -> Sequence[float]:
            returns[:] = episode_rewards(encodings)
            return returns

        def attach(learner: Any, _: Any = None) -> None:
            learner.episode_rewards = value

        learners, runners = self._algorithm.learner_group, self._algorithm.env_runner_group
        assert learners is not None and runners is not None
        learners.foreach_learner(attach)
        with _seeded(seed):
            runners.foreach_env_runner(_Tell(self.known))
            if self._settings.num_env_runners:
                runners.foreach_env_runner(_Reseed(seed), local_env_runner=False)
            try:
                learned = self._algorithm.train()["learners"]["default_policy"]
            except RayError as error:
                reason = str(error).strip().splitlines()[0]
                raise CnetError(
                    f"an environment runner died ({reason}); start the search again, and it "
                    "resumes from where it was.",
                    key="ppo.num_env_runners",
                    value=self._settings.num_env_runners,
                    fix="start the search again",
                ) from error
        names = {"entropy": "entropy", "vf_loss": "value_loss", "policy_loss": "policy_loss"}
        figures = {ours: float(learned[theirs]) for theirs, ours in names.items()}
        return {**figures, "return": math.fsum(returns) / len(returns)}

    def restart(self) -> None:
        """Forget all that was learned, and start again from other weights."""
        self.progress.restarts += 1
        self.progress.stalled_restarts += 1
        self.progress.idle = 0
        self.close()
        self._build()

    def save(self, folder: Path) -> None:
        """Write the agent to a folder; a kill leaves the old one or the new one."""
        new, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        self._algorithm.save_to_path(str((new / _ALGORITHM).resolve()))
        write_json_atomic(new / _STATE, asdict(self.progress))
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        shutil.rmtree(old, ignore_errors=True)

    def load(self, folder: Path) -> bool:
        """Resume from what :meth:`save` wrote; return whether there is anything."""
        for saved in (folder, folder.with_name(folder.name + ".old")):
            if (saved / _STATE).exists():
                self.progress = Progress(**read_json(saved / _STATE))
                self._algorithm.restore_from_path(str((saved / _ALGORITHM).resolve()))
                return True
        return False

    def close(self) -> None:
        """End the processes that play episodes."""
        self._algorithm.stop()

    def _build(self) -> None:
        with _seeded(derive_seed(self._seed, "start", self.progress.restarts)), _quiet():
            self._algorithm = self._config().build_algo()
        with suppress(OSError):  # RLlib makes an empty folder in ~/ray_results each time
            os.rmdir(self._algorithm.logdir)
            os.rmdir(Path(self._algorithm.logdir).parent)

    def _config(self) -> PPOConfig:
        s, layers = self._settings, len(self._problem.layers)
        runners = max(1, s.num_env_runners)
        environment = {"problem": self._problem, "history": s.policy == "mlp"}
        model = {"hidden": s.hidden, "max_seq_len": layers + 1}  # RLlib adds a step to each
        return (
            PPOConfig()
            .environment(PlacementEnv, env_config=environment, disable_env_checking=True)
            .env_runners(
                num_env_runners=s.num_env_runners,
                num_envs_per_env_runner=s.episodes_per_iteration // runners,
                batch_mode="complete_episodes",
                sample_timeout_s=None,
            )
            .rl_module(rl_module_spec=RLModuleSpec(_POLICIES[s.policy], model_config=model))
            .learners(num_learners=0, num_gpus_per_learner=0, learner_class=PlacementLearner)
            .training(
                train_batch_size_per_learner=s.episodes_per_iteration * layers,
                minibatch_size=None,
                num_epochs=s.num_epochs,
                lr=s.lr,
                entropy_coeff=s.entropy_coeff,
                clip_param=s.clip,
                vf_loss_coeff=s.value_coeff,
                vf_clip_param=float("inf"),
                grad_clip=s.grad_clip,
                gamma=1.0,
                lambda_=1.0,
                use_kl_loss=False,
            )
            .fault_tolerance(restart_failed_env_runners=False)
            .reporting(
                metrics_num_episodes_for_smoothing=s.episodes_per_iteration,
                min_time_s_per_iteration=0,
            )
            .debugging(log_level="ERROR", log_sys_usage=False)
        )


@contextmanager
def one_thread() -> Iterator[int]:
    """Let torch use one thread inside the block: a policy is too small for more.

    Yields:
        How many it used before.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield before
    finally:
        torch.set_num_threads(before)


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Let torch use so many threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Tell:
    """Lets the environments of an env runner know which encodings are known."""

    def __init__(self, known: ExhaustedPrefixes) -> None:
        self._known = known

    def __call__(self, runner: Any) -> None:
        if runner.env is not None:  # the local one has none where others play
            for env in runner.env.unwrapped.envs:
                env.unwrapped.known = self._known


class _Reseed:
    """Seeds the process of an env runner, each with its own number."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __call__(self, runner: Any) -> None:
        _seed_all(derive_seed(self._seed, "runner", int(runner.worker_index)))


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed all generators that RLlib draws from inside the block, and put them back afterwards."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    _seed_all(seed)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


def _seed_all(seed: int) -> None:
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep RLlib's messages off the terminal."""
    log_to_file("ray.rllib")
    log_to_file("ray.tune")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
