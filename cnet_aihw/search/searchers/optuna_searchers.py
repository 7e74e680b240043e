"""Searchers whose proposals come from Optuna: TPE and a genetic algorithm."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.typed import check_fields
from cnet_aihw.search.budgeted import Evaluations
from cnet_aihw.search.problem import Encoding, PlacementProblem
from cnet_aihw.search.searchers.moves import (
    cut_to_fit,
    no_compensation,
    perturbed,
    rewards_of,
    unseen,
)
from cnet_aihw.search.searchers.protocol import SearchContext

if TYPE_CHECKING:
    from optuna import Study
    from optuna.samplers import BaseSampler


class OptunaSearcher:
    """Base of searchers that ask one of Optuna's samplers; needs the extra ``optuna``.

    The parameters are the indices of the choices. An encoding over the limit is cut down until it
    fits, and one that is known already is replaced by one near it; Optuna learns from the
    encoding that was evaluated. A search that was killed is replayed.
    """

    name: ClassVar[str]
    initial: int
    batch: int

    def sampler(self, seed: int) -> BaseSampler:
        """Return the sampler of a search."""
        raise NotImplementedError

    def search(
        self,
        problem: PlacementProblem,
        evaluations: Evaluations,
        rng: np.random.Generator,
        context: SearchContext,
    ) -> None:
        """Evaluate the sampler's proposals until the budget is spent."""
        study = _study(self.sampler(int(rng.integers(2**31))))
        first = {row.encoding: None for row in evaluations.rows}
        first[no_compensation(problem)] = None
        while len(first) < min(self.initial, evaluations.left):
            first[unseen(problem, first, rng)] = None
        _evaluate(study, problem, evaluations, list(first))
        while evaluations.left:
            proposed: dict[Encoding, None] = {}
            while len(proposed) < min(self.batch, evaluations.left):
                encoding = problem.canonical(cut_to_fit(problem, _proposal(study, problem), rng))
                if encoding in evaluations or encoding in proposed:
                    known = {*proposed, *(row.encoding for row in evaluations.rows)}
                    encoding = perturbed(problem, encoding, known, rng)
                proposed[encoding] = None
            _evaluate(study, problem, evaluations, list(proposed))


@dataclass
class TPESearcher(OptunaSearcher):
    """Multivariate tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011).

    Raises:
        CnetError: if Optuna is not installed, or for an impossible value.
    """

    name: ClassVar[str] = "tpe"

    initial: int = 11
    """Encodings before the estimator is asked: no compensation, and random ones."""

    batch: int = 1
    """Encodings proposed by the same estimator, evaluated in parallel if possible."""

    def __post_init__(self) -> None:
        _check_optuna(self.name)
        check_fields(self, "tpe.")
        for field in ("initial", "batch"):
            _check_least(f"tpe.{field}", getattr(self, field), 1)

    def sampler(self, seed: int) -> BaseSampler:
        """Return Optuna's TPE."""
        import optuna

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=1)


@dataclass
class EvolutionSearcher(OptunaSearcher):
    """Genetic algorithm whose parents are the best of all generations (Optuna's NSGA-II).

    Source: Deb et al., IEEE Transactions on Evolutionary Computation 6 (2002), with one objective.

    Raises:
        CnetError: if Optuna is not installed, or for an impossible value.
    """

    name: ClassVar[str] = "evolution"

    population: int = 16
    """Members of a generation; the first are no compensation and random encodings."""

    children: int = 4
    """Children that are evaluated in parallel if possible."""

    crossover: float = 0.9
    """Probability that a child has two parents."""

    def __post_init__(self) -> None:
        _check_optuna(self.name)
        check_fields(self, "evolution.")
        _check_least("evolution.population", self.population, 2)
        _check_least("evolution.children", self.children, 1)
        if not 0.0 <= self.crossover <= 1.0:
            raise bad_value("evolution.crossover", self.crossover, "a probability in [0, 1]")

    @property
    def initial(self) -> int:  # type: ignore[override]
        """Encodings before the sampler is asked: the first generation."""
        return self.population

    @property
    def batch(self) -> int:  # type: ignore[override]
        """Encodings proposed at once."""
        return self.children

    def sampler(self, seed: int) -> BaseSampler:
        """Return Optuna's NSGA-II."""
        import optuna

        return optuna.samplers.NSGAIISampler(
            seed=seed, population_size=self.population, crossover_prob=self.crossover
        )


def _check_optuna(name: str) -> None:
    if find_spec("optuna") is None:
        raise CnetError(
            f"the searcher {name} needs Optuna, which is not installed; install it with pip "
            "install 'cnet_aihw[optuna]', or take another searcher.",
            key="searcher",
            value=name,
            fix="pip install 'cnet_aihw[optuna]'",
        )


def _check_least(key: str, value: int, least: int) -> None:
    if value < least:
        raise bad_value(key, value, f"at least {least}")


def _study(sampler: BaseSampler) -> Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(direction="maximize", sampler=sampler)


def _distributions(problem: PlacementProblem) -> dict:
    from optuna.distributions import IntDistribution

    return {layer.name: IntDistribution(0, len(problem.choices) - 1) for layer in problem.layers}


def _proposal(study: Study, problem: PlacementProblem) -> Encoding:
    from optuna.trial import TrialState

    trial = study.ask(_distributions(problem))
    study.tell(trial, state=TrialState.FAIL)  # the encoding that is evaluated is added by itself
    return tuple(trial.params[layer.name] for layer in problem.layers)


def _evaluate(
    study: Study, problem: PlacementProblem, evaluations: Evaluations, encodings: list[Encoding]
) -> None:
    """Evaluate encodings and let the study learn from them, as members of its generation."""
    rewards = rewards_of(evaluations, encodings)
    for encoding, reward in zip(encodings, rewards, strict=True):
        names = (layer.name for layer in problem.layers)
        study.enqueue_trial(dict(zip(names, encoding, strict=True)))
        trial = study.ask(_distributions(problem))
        _ = trial.relative_params  # with which the sampler takes it into the present generation
        study.tell(trial, reward)
