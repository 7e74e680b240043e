"""From the composed configuration to the trainings it asks for, each checked before any work."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, fields
from difflib import get_close_matches

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from cnet_aihw.evaluation.settings import EvaluationSettings, validate_evaluation_settings
from cnet_aihw.jobs.compensation import CompensationConfig, validate_compensation
from cnet_aihw.jobs.messages import one_sentence
from cnet_aihw.jobs.search import SearchConfig, check_chips_are_new, validate_search
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.search.settings import RaySettings, validate_ray_settings
from cnet_aihw.training.settings import TrainingSettings, validate_training_settings

_TYPED = (
    *("training", "training.lipschitz", "training.variation", "evaluation", "job"),
    *("compensation", "compensation.scan", "compensation.fit"),
    *("compensation.fit.lipschitz", "compensation.fit.variation"),
    *("search", "search.objective", "search.evaluator", "ray"),
)


@dataclass(frozen=True)
class Recipe:
    """One training with all it needs."""

    name: str
    """What the training is called: in tables, and as the folder of its results."""

    config: DictConfig
    """The whole configuration, composed for this training."""

    training: TrainingSettings
    """How it is trained."""

    evaluation: EvaluationSettings
    """How it is measured."""

    compensation: CompensationConfig
    """How it is compensated."""

    search: SearchConfig
    """How the placement of its compensation is searched."""

    ray: RaySettings
    """Where Ray runs, for what uses it."""

    @property
    def searches(self) -> bool:
        """Whether its placement is to be searched: where one is wanted and none is given."""
        wanted = self.compensation.enabled and self.search.searcher is not None
        return wanted and self.compensation.placement is None


def recipes_of(config: DictConfig) -> list[Recipe]:
    """The trainings that a configuration asks for.

    Where ``training.compare`` names several, the configuration is composed anew for each, from the
    same command line with ``training=NAME`` instead: what an experiment file or the command line
    says of the values of ``training`` so holds for each of them.

    Args:
        config: what Hydra composed for the running job.

    Returns:
        One recipe for each training, in the order named.

    Raises:
        CnetError: for values that are missing or impossible, and names that stand twice.
    """
    names = list(config.training.compare)
    recipes = [_recipe(_compose_with(name)) for name in names] if names else [_recipe(config)]
    called = [recipe.name for recipe in recipes]
    for name in called:
        if called.count(name) > 1:
            raise CnetError(
                f"two of the trainings compared are called {name!r}, and their results would fall "
                "into one folder; name each once, and give each file a training.name of its own."
            )
    return recipes


def command_of_job() -> str:
    """The command line that makes the results of the running job, whatever their folder."""
    node = HydraConfig.get()
    words = ["cnet-aihw"]
    if node.job.config_name != "config":
        words += ["--config-name", str(node.job.config_name)]
    for source in node.runtime.config_sources:
        if source.provider == "command-line":
            words += ["--config-dir", source.path]
    return shlex.join(words + list(node.overrides.task))


def _compose_with(training: str) -> DictConfig:
    node = HydraConfig.get()
    name, chosen = node.job.config_name, f"training={training}"
    replaced = ("training", "training.compare")
    kept = [text for text in node.overrides.task if text.partition("=")[0] not in replaced]
    try:
        config = hydra.compose(name, [*kept, chosen])
        # An experiment may set it too, which does not count; the file by itself decides.
        compares = config.training.compare and hydra.compose(name, [chosen]).training.compare
    except HydraException as error:
        raise CnetError(one_sentence(error)) from error
    if compares:
        raise CnetError(
            f"training.compare names {training!r}, which itself compares several trainings; "
            "name single ones."
        )
    return config


def _recipe(config: DictConfig) -> Recipe:
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise CnetError(f"{missing[0]} has no value; give it one: {missing[0]}=VALUE.")
    if not config.job.steps:
        raise CnetError("job.steps is empty; name a step, or choose a file of conf/job.")
    for name in _TYPED:
        _refuse_added_keys(name, OmegaConf.select(config, name))
    typed = OmegaConf.to_object(config.training)
    training = TrainingSettings(
        **{f.name: getattr(typed, f.name) for f in fields(TrainingSettings)}
    )
    evaluation = OmegaConf.to_object(config.evaluation)
    assert isinstance(evaluation, EvaluationSettings)
    compensation = OmegaConf.to_object(config.compensation)
    assert isinstance(compensation, CompensationConfig)
    search, ray = OmegaConf.to_object(config.search), OmegaConf.to_object(config.ray)
    assert isinstance(search, SearchConfig)
    assert isinstance(ray, RaySettings)
    validate_training_settings(training)
    validate_evaluation_settings(evaluation)
    validate_compensation(compensation)
    validate_search(search)
    validate_ray_settings(ray)
    per_chip = compensation.enabled and compensation.fit.batchnorm == "per_chip"
    if per_chip and evaluation.calibration == "affine":
        raise CnetError(
            "compensation.fit.batchnorm is per_chip and evaluation.calibration is affine, but such "
            "compensation works with BatchNorm re-estimated on each chip; leave "
            "evaluation.calibration as it is, or fit with batchnorm=frozen."
        )
    if not re.fullmatch(r"[\w.+=-]*\w[\w.+=-]*", training.name):
        raise CnetError(
            f"training.name is {training.name!r}, which also names a folder; give letters, digits, "
            "and _ - + = . alone."
        )
    recipe = Recipe(training.name, config, training, evaluation, compensation, search, ray)
    if recipe.searches:
        check_chips_are_new(search, compensation.scan.seed, evaluation.seed)
    return recipe


def _refuse_added_keys(name: str, node: DictConfig) -> None:
    """Refuse what ``+key=value`` put beside the typed values: nothing would read it."""
    kind = OmegaConf.get_type(node)
    assert kind is not None
    known = [f.name for f in fields(kind)]
    for key in map(str, node):
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f"did you mean {name}.{near[0]}" if near else f"there are {', '.join(known)}"
            raise CnetError(f"there is no {name}.{key}; {hint}{'?' if near else '.'}")
