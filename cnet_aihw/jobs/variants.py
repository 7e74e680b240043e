"""From the composed configuration to the trainings it asks for, each checked before any work."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from cnet_aihw.attacks.settings import AttackSettings, validate_attack_settings
from cnet_aihw.bayes.settings import UncertaintySettings, validate_uncertainty_settings
from cnet_aihw.cluster.settings import RaySettings, validate_ray_settings
from cnet_aihw.compensation.settings import CompensationSettings
from cnet_aihw.evaluation.settings import (
    EvaluationSettings,
    SelectionSettings,
    validate_evaluation_settings,
    validate_selection_settings,
)
from cnet_aihw.jobs.composing import compared, compose_with, typed_words
from cnet_aihw.jobs.config_checks import (
    check_chips_differ,
    check_compensation_settings,
    check_rram_config,
    check_search_settings,
    check_seeds,
)
from cnet_aihw.jobs.schema import Config, DistillationConfig, TrainingConfig
from cnet_aihw.kernels.settings import KernelSettings, validate_kernel_settings
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.values import nearest
from cnet_aihw.search.settings import SearchSettings, SpaceSettings
from cnet_aihw.training.settings import (
    TrainingSettings,
    check_distillation,
    validate_training_settings,
)
from cnet_aihw.tuning.settings import TuningConfig, validate_tuning_settings

if TYPE_CHECKING:
    from cnet_aihw.compensation import Corrector, NetworkCost, Placement

_TYPED = (
    *("training", "training.lipschitz", "training.variation", "training.bayes"),
    *("training.distillation", "evaluation", "job", "select", "bayes", "kernel"),
    *("compensation", "compensation.scan", "compensation.per_chip", "compensation.shared"),
    *("compensation.shared.lipschitz", "compensation.shared.variation"),
    *("search", "search.objective", "search.evaluator", "ray", "attack", "tuning"),
)
_SIZES = (0, 1, 2, 4, 8, 16, 32, 64)
"""Numbers of filters that a search chooses from with a fit per chip."""
_FEW, _SHARE = 8, 8
"""So many filters any layer may be given; more, up to this share of the widest layer's channels."""
_PLACEMENT_FILES = (".yaml", ".yml", ".json")


@dataclass(frozen=True)
class Variant:
    """One training with everything that follows it."""

    name: str
    """Name of the training: in tables, and of the folder of its results."""

    config: DictConfig
    """The whole configuration, composed for this training."""

    training: TrainingSettings
    """Settings of the training."""

    start_from: str | None
    """Another training whose best weights it starts from."""

    distillation: DistillationConfig
    """Another training whose outputs it aims at, too."""

    evaluation: EvaluationSettings
    """Measurement over chips."""

    compensation: CompensationSettings
    """Compensation."""

    search: SearchSettings
    """Search for the placement."""

    select: SelectionSettings
    """Choice among the trained networks."""

    ray: RaySettings
    """Where Ray runs."""

    attack: AttackSettings
    """Attacks on its chips."""

    tuning: TuningConfig
    """Tuning on its chips."""

    bayes: UncertaintySettings
    """Uncertainty of its predictions."""

    kernel: KernelSettings
    """Kernel features on chips."""

    @property
    def searches(self) -> bool:
        """Say whether its placement is to be searched: where one is wanted and none is given."""
        wanted = self.compensation.enabled and self.search.searcher is not None
        return wanted and self.compensation.placement is None

    @property
    def per_chip(self) -> bool:
        """Say whether its compensation is fitted to each chip by itself."""
        return self.compensation.enabled and self.compensation.fit == "per_chip"

    @property
    def needs_scan(self) -> bool:
        """Say whether a scan decides on its placement: on the candidates, or on their order."""
        settings = self.compensation
        decides = not self.per_chip or (settings.fill == "digital" and not self.searches)
        return decides and settings.placement is None

    @cached_property
    def corrector(self) -> Corrector:
        """Return the kind of corrector of its compensation."""
        from cnet_aihw.compensation import Corrector
        from cnet_aihw.jobs.nodes import make

        made = make(self.config.compensation.corrector, "compensation.corrector")
        if not isinstance(made, Corrector):
            raise bad_value(
                "compensation.corrector", made, "a corrector, such as compensation/corrector=affine"
            )
        return made

    def space(self, network: NetworkCost) -> SpaceSettings:
        """Return the choices of each candidate layer of a network in a search.

        Unless they are given, with a fit per chip these are up to eight filters, and in networks
        with wide layers up to an eighth of the widest one's channels.
        """
        given, corrector = self.search, self.corrector
        if not self.per_chip or given.sizes or given.ratios != SpaceSettings().ratios:
            return given
        if not corrector.sized:
            return replace(given, sizes=[])
        shapes = [layer.shape for layer in network.layers.values() if layer.analog]
        widest = max((min(s.in_channels, s.out_channels) for s in shapes), default=0)
        most = max(_FEW, widest // _SHARE)
        return replace(given, sizes=[n for n in _SIZES if corrector.smallest <= n <= most])

    @cached_property
    def placement(self) -> Placement | None:
        """Return the placement given, if any."""
        given = self.compensation.placement
        if given is None:
            return None
        from cnet_aihw.compensation import Placement

        if isinstance(given, Mapping):  # a name such as 0 or 1.0 comes as a number
            return Placement({str(name): ratio for name, ratio in given.items()})
        text = str(given)
        return (
            Placement.read(Path(text)) if text.endswith(_PLACEMENT_FILES) else Placement.parse(text)
        )


def variants_of(config: DictConfig) -> list[Variant]:
    """Return the trainings that a configuration asks for.

    Where ``training.compare`` names several, the configuration is composed again for each, from the
    same command line with ``training=NAME`` instead: values of ``training`` in an experiment file
    or on the command line then hold for each of them. A command line with ``training=NAME`` alone
    has the trainings of that file, whatever an experiment compares.

    Args:
        config: the composed configuration of the running job.

    Returns:
        One variant for each training, in the order named.

    Raises:
        CnetError: for missing or impossible values, and repeated names.
    """
    names = compared(config)
    variants = [_variant(compose_with(name)) for name in names] if names else [_variant(config)]
    called = [variant.name for variant in variants]
    for name in called:
        if called.count(name) > 1:
            raise CnetError(
                f"training.compare names two trainings called {name!r}, whose results would share "
                "a folder; name each once, and give each file its own training.name.",
                key="training.compare",
                value=name,
            )
    return variants


def command_of_job() -> str:
    """Return the command line that makes the results of the running job, in any folder."""
    node = HydraConfig.get()
    words = ["cnet-aihw"]
    if node.job.config_name != "config":
        words += ["--config-name", str(node.job.config_name)]
    for source in node.runtime.config_sources:
        if source.provider == "command-line":
            words += ["--config-dir", source.path]
    return shlex.join(words + typed_words())


def _variant(config: DictConfig) -> Variant:
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise CnetError(
            f"{missing[0]} has no value; give it one: {missing[0]}=VALUE.", key=missing[0]
        )
    if not config.job.steps:
        raise bad_value("job.steps", [], "at least one step", "or choose a file of conf/job")
    _refuse_added_keys("", config)
    for name in _TYPED:
        _refuse_added_keys(name, OmegaConf.select(config, name))
    check_rram_config(config)
    check_seeds(config)
    training = cast(TrainingConfig, OmegaConf.to_object(config.training))
    settings = TrainingSettings(
        **{f.name: getattr(training, f.name) for f in fields(TrainingSettings)}
    )
    settings.lr *= training.lr_scale
    variant = Variant(
        training.name,
        config,
        settings,
        training.start_from,
        training.distillation,
        cast(EvaluationSettings, OmegaConf.to_object(config.evaluation)),
        cast(CompensationSettings, OmegaConf.to_object(config.compensation)),
        cast(SearchSettings, OmegaConf.to_object(config.search)),
        cast(SelectionSettings, OmegaConf.to_object(config.select)),
        _ray_of(config),
        cast(AttackSettings, OmegaConf.to_object(config.attack)),
        cast(TuningConfig, OmegaConf.to_object(config.tuning)),
        cast(UncertaintySettings, OmegaConf.to_object(config.bayes)),
        cast(KernelSettings, OmegaConf.to_object(config.kernel)),
    )
    _check(variant, training)
    return variant


def _ray_of(config: DictConfig) -> RaySettings:
    """Return the settings of Ray; the CPUs of a private one count for a cluster only as typed."""
    settings = cast(RaySettings, OmegaConf.to_object(config.ray))
    typed = HydraConfig.initialized() and any(
        word.lstrip("+").startswith("ray.num_cpus=") for word in typed_words()
    )
    if settings.address is not None and not typed:
        settings.num_cpus = None
    return settings


def _check(variant: Variant, training: TrainingConfig) -> None:
    compensation, evaluation, search = variant.compensation, variant.evaluation, variant.search
    if not training.lr_scale > 0:
        raise bad_value("training.lr_scale", training.lr_scale, "a number above 0")
    validate_training_settings(variant.training)
    distillation = variant.distillation
    check_distillation(distillation.share, distillation.temperature, "training.distillation.")
    validate_evaluation_settings(evaluation)
    check_compensation_settings(compensation)
    check_search_settings(search, compensation.fit if compensation.enabled else None)
    validate_selection_settings(variant.select)
    validate_ray_settings(variant.ray)
    validate_attack_settings(variant.attack)
    validate_tuning_settings(variant.tuning)
    validate_uncertainty_settings(variant.bayes)
    validate_kernel_settings(variant.kernel)
    _ = variant.placement
    if compensation.enabled:
        _check_fit(variant)
    if not re.fullmatch(r"[\w.+=-]*\w[\w.+=-]*", variant.name):
        expected = "letters, digits, and _ - + = . alone, as it also names a folder"
        raise bad_value("training.name", variant.name, expected)
    if variant.searches:
        judges = {
            "compensation.scan.seed": compensation.scan.seed,
            "evaluation.seed": evaluation.seed,
        }
        check_chips_differ("search.chips_seed", search.chips_seed, judges)


def _check_fit(variant: Variant) -> None:
    """Check that the fit can fit the corrector, and goes with the calibration."""
    from cnet_aihw.compensation import has_closed_form

    settings, corrector = variant.compensation, variant.corrector
    described = variant.search.searcher
    if described is not None and not isinstance(described, Mapping):
        expected = "the description of a target: _target_ and its arguments"
        raise bad_value("search.searcher", described, expected)
    searcher = str((described or {}).get("_target_", ""))
    if searcher.endswith(".SpectrumSearcher") and not variant.per_chip:
        expected = "another searcher, as this one needs compensation.fit=per_chip"
        raise bad_value("search.searcher", searcher, expected)
    if settings.fit == "per_chip":
        if not settings.per_chip.refine_steps and not has_closed_form(corrector):
            raise bad_value(
                "compensation.corrector",
                corrector.label(),
                "a corrector with a closed form, such as low_rank, as compensation.fit is per_chip",
                "or refine it with compensation.per_chip.refine_steps=300, or choose "
                "compensation.fit=shared",
            )
    elif settings.shared.batchnorm == "per_chip" and variant.evaluation.calibration == "affine":
        raise bad_value(
            "evaluation.calibration",
            "affine",
            "none or batchnorm, as compensation.shared.batchnorm is per_chip",
            "or fit with compensation.shared.batchnorm=frozen",
        )


def _refuse_added_keys(name: str, node: DictConfig) -> None:
    """Refuse ``+key=value`` beside typed values: nothing would read it."""
    kind = OmegaConf.get_type(node) if name else Config
    assert kind is not None
    prefix = f"{name}." if name else ""
    known = [f.name for f in fields(kind)]
    for key in map(str, node):
        if key not in known:
            near = nearest(key, known)
            hint = f"did you mean {prefix}{near}?" if near else f"there are {', '.join(known)}."
            raise CnetError(
                f"{prefix}{key} does not exist; {hint}", key=prefix + key, expected=near or known
            )
