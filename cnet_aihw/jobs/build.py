"""From configuration to objects: data set, task, network on crossbars, searcher."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from cnet_aihw.compensation import (
    DIGITAL,
    check_placement,
    compensation_cost,
    network_cost,
    uniform_placement,
)
from cnet_aihw.compensation.trial import try_corrector
from cnet_aihw.evaluation import check_clipped, move_to_crossbars, perfect_periphery
from cnet_aihw.evaluation.adc import lacks_adc_range
from cnet_aihw.evaluation.calibration import running_batchnorms
from cnet_aihw.evaluation.settings import times_of
from cnet_aihw.jobs.fits import check_fit, check_fit_time, limits_of_job, try_chip
from cnet_aihw.jobs.nodes import make, plain_values
from cnet_aihw.jobs.per_layer import layer_config_of, layer_rpu_configs, network_rpu_config
from cnet_aihw.rram import (
    RRAMRPUConfig,
    analog_layers,
    check_times,
    convert_to_analog,
    make_binary,
    plan_conversion,
)
from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.inputs import Inputs
from cnet_aihw.runtime.parts import gathered
from cnet_aihw.tasks import Task
from cnet_aihw.zoo import Dataset, load_pretrained

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cnet_aihw.compensation import FitSettings, NetworkCost, Placement
    from cnet_aihw.jobs.variants import Variant
    from cnet_aihw.search import PlacementProblem
    from cnet_aihw.search.searchers import Searcher
    from cnet_aihw.training import TrainingSettings

log = logging.getLogger(__name__)


def build_data(config: DictConfig) -> Dataset:
    """Load the data set that ``data`` describes.

    Raises:
        CnetError: when it is not available, or the target gives something else.
    """
    return _expect(make(config.data, "data"), Dataset, "data")


def build_task(config: DictConfig) -> Task:
    """Build the task that ``task`` describes.

    Raises:
        CnetError: when it cannot be built.
    """
    return cast(Task, make(config.task, "task"))


def fill_inputs(config: DictConfig, data: Dataset) -> None:
    """Fill the node ``inputs``, to which networks refer, with the shape of the data.

    Raises:
        CnetError: where it was given, and is another one.
    """
    for key, given, found in (
        ("inputs.shape", config.inputs.shape, list(data.input_shape)),
        ("inputs.classes", config.inputs.classes, data.classes),
        ("inputs.mean", config.inputs.mean, list(data.mean)),
        ("inputs.std", config.inputs.std, list(data.std)),
    ):
        if given is not None and given != found:
            raise bad_value(key, given, f"{found}, as the data have it", "leave it out")
    config.inputs.shape = list(data.input_shape)
    config.inputs.classes = data.classes
    config.inputs.mean, config.inputs.std = list(data.mean), list(data.std)


def build_network(config: DictConfig, data: Dataset, task: Task) -> nn.Module:
    """Build the digital network that ``model`` describes, and check that it takes the data.

    The first weights come from ``seed`` alone: the same network is built for every training.

    Args:
        config: the whole configuration; its node ``inputs`` is filled here.
        data: the data set.
        task: checks outputs and targets.

    Returns:
        The network, on the CPU, with the weights of ``pretrained`` if given.

    Raises:
        CnetError: when it cannot be built or loaded, or does not fit the data.
    """
    fill_inputs(config, data)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        network = _expect(make(config.model, "model"), nn.Module, "model")
    if config.pretrained is not None:
        load_pretrained(network, config.pretrained)
    check_fit(network, data, task)
    return network


def build_analog(config: DictConfig, data: Dataset, task: Task) -> nn.Module:
    """Build the network on the crossbars that it is trained on.

    With ``rram.in_training`` false these have perfect periphery; see `on_crossbars`.

    Raises:
        CnetError: as `build_network`, where no layer would become analog, where the device is not
            known at the times that are measured, and for an ADC without a range.
    """
    rpu_config, own = network_rpu_config(config), layer_rpu_configs(config)
    if not _in_training(config):
        time = drift_time(config)
        rpu_config = perfect_periphery(rpu_config, time)
        own = {pattern: perfect_periphery(made, time) for pattern, made in own.items()}
    for made in (rpu_config, *own.values()):
        check_times(made.noise_model, times_of(config.evaluation.t_inference))
        check_fit_time(config, made.noise_model)
        if isinstance(made, RRAMRPUConfig):
            check_times(made.noise_model, [made.variation.t_inference])
    network = build_network(config, data, task)
    conversion = _conversion(config)
    names = plan_conversion(network, rpu_config, **conversion).analog
    model = convert_to_analog(
        network,
        rpu_config,
        inplace=True,
        layer_config=layer_config_of(own, names),
        **conversion,
    )
    if config.training.optimizer == "bayes_binary":
        make_binary(model)
    check_clipped(model, gathered(data.val, 2).x)
    if lacks_adc_range(model):
        fix = "or set rram.in_training=false, which calibrates it on the trained network"
        raise bad_value("rram.adc_range", None, "a number", fix)
    return model


def check_our_tiles(config: DictConfig, what: str, fix: str) -> None:
    """Check that layers are on tiles of this package, for a part of a job that needs them.

    Raises:
        CnetError: if they are on others; ``what`` says what needs ours, ``fix`` what else to do.
    """
    kind = network_rpu_config(config)
    if not isinstance(kind, RRAMRPUConfig):
        expected = f"an RRAMRPUConfig, which {what} needs"
        raise bad_value("rram.rpu_config", type(kind).__name__, expected, f"or {fix}")


def on_crossbars(config: DictConfig, model: nn.Module) -> nn.Module:
    """Return the network as it is measured: itself, or with ``in_training`` false a copy.

    Raises:
        CnetError: if it cannot be put there.
    """
    if _in_training(config):
        return model
    moved = move_to_crossbars(
        model,
        network_rpu_config(config),
        layer_config=layer_config_of(layer_rpu_configs(config), list(analog_layers(model))),
        **_conversion(config),
    )
    if config.training.optimizer == "bayes_binary":
        make_binary(moved, largest=1.0 - 1e-6)  # which no trained mean reaches
    return moved


def needs_adc_calibration(config: DictConfig) -> bool:
    """Say whether ``rram.adc_range`` is null, so that ranges are found on the trained network."""
    return OmegaConf.select(config, "rram.adc_range", default=0.0) is None


def drift_time(config: DictConfig) -> float | None:
    """Return the seconds after programming of the chips that all steps but evaluate see."""
    time: float | None = OmegaConf.select(config, "rram.t_inference", default=None)
    return time


def build_searcher(config: DictConfig) -> Searcher:
    """Build the searcher that ``search.searcher`` describes.

    Raises:
        CnetError: when it cannot be built, or the target gives something else.
    """
    from cnet_aihw.search.searchers.protocol import validate_searcher

    made = make(config.search.searcher, "search.searcher")
    validate_searcher(made)
    return cast("Searcher", made)


def with_noise_model[Settings: (TrainingSettings, FitSettings)](
    settings: Settings, node: DictConfig
) -> Settings:
    """Return settings with the noise model that their configuration describes, if any."""
    described = node.variation.noise_model
    if described is None:
        return settings
    made = make(described, f"{node._get_full_key(None)}.variation.noise_model")
    return replace(settings, variation=replace(settings.variation, noise_model=made))


def check_variant(variant: Variant, model: nn.Module, example: Inputs, task: Task) -> None:
    """Check a network against everything that follows its training, before it is trained.

    Args:
        variant: the training, its compensation, search and evaluation.
        model: the converted network.
        example: one input, for costs.
        task: direction of the score that a search is after.

    Raises:
        CnetError: for a calibration of BatchNorm without BatchNorm, crossbars that cannot take the
            network or its compensation, a placement that does not fit, a limit that allows none,
            and a searcher that cannot be built.
    """
    evaluation, settings, config = variant.evaluation, variant.compensation, variant.config
    without_batchnorm = not running_batchnorms(model)
    for key, value, asked in (
        ("evaluation.calibration", evaluation.calibration, evaluation.calibration == "batchnorm"),
        (
            "compensation.shared.batchnorm",
            settings.shared.batchnorm,
            settings.enabled and not variant.per_chip and settings.shared.batchnorm == "per_chip",
        ),
        (
            "compensation.per_chip.batchnorm",
            settings.per_chip.batchnorm,
            variant.per_chip and settings.per_chip.batchnorm,
        ),
    ):
        if asked and without_batchnorm:
            expected = "another value, as the network has no BatchNorm with running statistics"
            raise bad_value(key, value, expected)
    measured = on_crossbars(config, model)
    if measured is not model:
        if settings.enabled:
            check_our_tiles(config, "compensation", "choose compensation=none")
        check_clipped(measured, example)
    try_chip(measured, times_of(evaluation.t_inference)[-1])
    if settings.enabled:
        _check_compensation(variant, model, example, task)


def _check_compensation(variant: Variant, model: nn.Module, example: Inputs, task: Task) -> None:
    settings, placement = variant.compensation, variant.placement
    network = network_cost(model, example)
    if placement is not None:
        check_placement(placement, model)
        compensation_cost(network, placement, variant.corrector)
        given = [name for name, ratio in placement.items() if ratio not in (0.0, DIGITAL)]
        try_corrector(model, variant.corrector, given, example)
        return
    try_corrector(model, variant.corrector, network.correctable, example)
    if variant.searches:
        _check_search(variant, network, task)
    elif settings.fill == "uniform" and (variant.per_chip or settings.scan.mode == "suffix"):
        check_placement(uniform(variant, network, network.correctable), model)


def _check_search(variant: Variant, network: NetworkCost, task: Task) -> None:
    from cnet_aihw.search import placement_problem
    from cnet_aihw.search.searchers import ExhaustiveSearcher

    settings, search = variant.compensation, variant.search
    searcher = build_searcher(variant.config)

    def problem(layers: Sequence[str]) -> PlacementProblem:
        with limits_of_job():
            return placement_problem(
                network,
                layers,
                variant.corrector,
                settings.limit,
                variant.space(network),
                search.objective,
                limit_macs=settings.limit_macs,
                reference=1.0 if needs_reference(variant, task) else None,  # for the score to come
                higher_is_better=task.higher_is_better,
            )

    whole = problem(network.correctable)
    if not isinstance(searcher, ExhaustiveSearcher):
        return
    if variant.per_chip:  # all layers are candidates
        searcher.check(whole, search.budget)
    elif whole.count() > search.budget:
        log.warning(
            "an exhaustive search of %s has %d placements if the scan makes all layers candidates, "
            "and search.budget is %d; a search of more than that is refused after the scan",
            *(variant.name, whole.count(), search.budget),
        )


def needs_reference(variant: Variant, task: Task) -> bool:
    """Say whether the rewards of a search are relative to the network's clean score."""
    return not task.higher_is_better or variant.search.objective.direction == "cheapest"


def uniform(variant: Variant, network: NetworkCost, layers: Sequence[str]) -> Placement:
    """Return the placement with one ratio for all layers, within the limits of compensation.

    Raises:
        CnetError: if they allow none.
    """
    settings = variant.compensation
    with limits_of_job():
        return uniform_placement(
            *(network, layers, settings.limit, variant.corrector), limit_macs=settings.limit_macs
        )


def _conversion(config: DictConfig) -> dict[str, Any]:
    """Return which layers go on crossbars, and how."""
    converters = OmegaConf.select(config, "rram.converters", default=None)
    return {
        "exclude": list(config.rram.exclude),
        "converters": None if converters is None else plain_values(converters),
        "tied": OmegaConf.select(config, "rram.tied", default="keep_digital"),
    }


def _in_training(config: DictConfig) -> bool:
    return bool(OmegaConf.select(config, "rram.in_training", default=True))


def _expect[Kind](made: object, kind: type[Kind], group: str) -> Kind:
    if not isinstance(made, kind):
        name = f"{kind.__module__.removesuffix('.dataset')}.{kind.__name__}"
        raise bad_value(f"{group}._target_", type(made).__name__, f"a target that gives a {name}")
    return made
