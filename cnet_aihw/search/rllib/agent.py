"""The agent of a PPO search: RLlib's algorithm, its randomness, and its state on disk."""

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
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ray.exceptions import RayError
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.runtime.records import read_json, write_json_atomic
from cnet_aihw.search.env import PlacementEnv
from cnet_aihw.search.problem import PlacementProblem, Plan
from cnet_aihw.search.rllib.learner import PlacementLearner, ValueWalks
from cnet_aihw.search.rllib.modules import GRUPolicy, MLPPolicy
from cnet_aihw.search.rllib.session import log_to_file

if TYPE_CHECKING:
    from cnet_aihw.search.rllib.ppo import PPOSearcher

POLICIES = {"mlp": MLPPolicy, "gru": GRUPolicy}
_STATE, _ALGORITHM = "state.json", "algorithm"


@dataclass
class Progress:
    """Where a search is, beside the agent's weights."""

    evaluations: int = 0
    """Evaluations that the agent has learned from."""

    iteration: int = 0
    """Iterations so far, imagined ones included."""

    rounds: int = 0
    """Iterations on evaluated walks so far."""

    restarts: int = 0
    """How often the agent began anew."""

    barren: int = 0
    """How often it did so since the last new plan."""

    idle: int = 0
    """Iterations on evaluated walks since the last one with a new plan."""


class Agent:
    """Walks, is told what the walks are worth, and learns.

    Each iteration draws from a seed of its own, in all processes, so that one that goes on from the
    disk draws what one that was never stopped does.

    Args:
        settings: the searcher's settings.
        problem: the placement problem.
        seed: seed of the search.
    """

    def __init__(self, settings: PPOSearcher, problem: PlacementProblem, seed: int) -> None:
        self._settings, self._problem, self._seed = settings, problem, seed
        self.progress = Progress()
        self._build()

    def iterate(self, value_walks: ValueWalks) -> dict[str, float]:
        """Do one iteration: walks, their values, and learning from them.

        Args:
            value_walks: what values the walks; what it raises ends the iteration.

        Returns:
            Figures of the learning, such as the policy's entropy.
        """
        self.progress.iteration += 1
        seed = derive_seed(self._seed, "iteration", self.progress.iteration)

        returns: list[float] = []

        def value(plans: Sequence[Plan]) -> Sequence[float]:
            returns[:] = value_walks(plans)
            return returns

        def attach(learner: Any, _: Any = None) -> None:
            learner.value_walks = value

        learners, runners = self._algorithm.learner_group, self._algorithm.env_runner_group
        assert learners is not None and runners is not None
        learners.foreach_learner(attach)
        with _seeded(seed):
            if self._settings.num_env_runners:
                runners.foreach_env_runner(_Reseed(seed), local_env_runner=False)
            try:
                learned = self._algorithm.train()["learners"]["default_policy"]
            except RayError as error:
                raise CnetError(
                    f"a process that walks has died ({str(error).strip().splitlines()[0]}); start "
                    "the search again, and it goes on from where it was."
                ) from error
        names = {"entropy": "entropy", "vf_loss": "value_loss", "policy_loss": "policy_loss"}
        figures = {ours: float(learned[theirs]) for theirs, ours in names.items()}
        return {**figures, "return": math.fsum(returns) / len(returns)}

    def begin_anew(self) -> None:
        """Forget all that was learned; another start than before."""
        self.progress.restarts += 1
        self.progress.barren += 1
        self.progress.idle = 0
        self.close()
        self._build()

    def save(self, folder: Path) -> None:
        """Write the agent to a folder that is either the old one or the new one, never a part."""
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
        """Go on from what :meth:`save` wrote; whether there is something."""
        for saved in (folder, folder.with_name(folder.name + ".old")):
            if (saved / _STATE).exists():
                self.progress = Progress(**read_json(saved / _STATE))
                self._algorithm.restore_from_path(str((saved / _ALGORITHM).resolve()))
                return True
        return False

    def close(self) -> None:
        """End the processes that walk."""
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
        model = {"hidden": s.hidden, "max_seq_len": layers + 1}  # RLlib adds a step to each walk
        return (
            PPOConfig()
            .environment(PlacementEnv, env_config=environment, disable_env_checking=True)
            .env_runners(
                num_env_runners=s.num_env_runners,
                num_envs_per_env_runner=s.episodes_per_iteration // runners,
                batch_mode="complete_episodes",
                sample_timeout_s=None,
            )
            .rl_module(rl_module_spec=RLModuleSpec(POLICIES[s.policy], model_config=model))
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
    """Keep RLlib's words about itself off the terminal."""
    log_to_file("ray.rllib")
    log_to_file("ray.tune")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
