"""Tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011), as Optuna has it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.search.budgeted import Evaluations
from cnet_aihw.search.problem import PlacementProblem, Plan
from cnet_aihw.search.searchers.moves import (
    cut_to_fit,
    no_compensation,
    perturbed,
    rewards_of,
    unseen,
)

if TYPE_CHECKING:
    from optuna import Study


@dataclass
class TPESearcher:
    """Optuna's multivariate TPE over the indices of the choices; needs the extra ``tpe``.

    A plan over the limit is cut down until it fits, and one that is known already gives way to one
    near it; Optuna is told of the plan that was evaluated.

    Raises:
        CnetError: if Optuna is not installed.
    """

    name: ClassVar[str] = "tpe"

    initial: int = 10
    """Random plans, besides no compensation, before the estimator is asked."""

    def __post_init__(self) -> None:
        if find_spec("optuna") is None:
            raise CnetError(
                "the searcher tpe needs Optuna; install it with pip install 'cnet_aihw[tpe]', or "
                "take another searcher."
            )
        if self.initial < 1:
            raise CnetError(f"tpe.initial is {self.initial}; give at least 1 plan.")

    def search(
        self,
        problem: PlacementProblem,
        evaluations: Evaluations,
        rng: np.random.Generator,
        folder: Path | None,
    ) -> None:
        """Evaluate what the estimator proposes until the budget is spent."""
        study = _study(int(rng.integers(2**31)))
        first = {no_compensation(problem): None}
        while len(first) < min(self.initial + 1, evaluations.left):
            first[unseen(problem, first, rng)] = None
        for plan, reward in zip(first, rewards_of(evaluations, list(first)), strict=True):
            _tell(study, problem, plan, reward)
        while evaluations.left:
            plan = cut_to_fit(problem, _proposal(study, problem), rng)
            if plan in evaluations:
                plan = perturbed(problem, plan, evaluations, rng)
            _tell(study, problem, plan, evaluations(plan))


def _study(seed: int) -> Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=1)
    return optuna.create_study(direction="maximize", sampler=sampler)


def _distributions(problem: PlacementProblem) -> dict:
    from optuna.distributions import IntDistribution

    return {layer.name: IntDistribution(0, len(problem.choices) - 1) for layer in problem.layers}


def _proposal(study: Study, problem: PlacementProblem) -> Plan:
    from optuna.trial import TrialState

    trial = study.ask(_distributions(problem))
    study.tell(trial, state=TrialState.FAIL)  # what is evaluated in its place is told apart
    return tuple(trial.params[layer.name] for layer in problem.layers)


def _tell(study: Study, problem: PlacementProblem, plan: Plan, reward: float) -> None:
    from optuna.trial import create_trial

    params = {layer.name: choice for layer, choice in zip(problem.layers, plan, strict=True)}
    distributions = _distributions(problem)
    study.add_trial(create_trial(params=params, distributions=distributions, value=reward))
