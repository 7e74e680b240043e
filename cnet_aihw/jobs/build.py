"""From configuration to objects: data set, network, analog network."""

from __future__ import annotations

from dataclasses import is_dataclass
from typing import Any, cast

import torch
from aihwkit.simulator.configs import InferenceRPUConfig
from aihwkit.simulator.parameters.base import RPUConfigBase
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn

from cnet_aihw.compensation import (
    check_placement,
    compensation_cost,
    network_cost,
    uniform_placement,
)
from cnet_aihw.evaluation.calibration import running_batchnorms
from cnet_aihw.evaluation.settings import times_of
from cnet_aihw.jobs.messages import one_sentence
from cnet_aihw.jobs.recipes import Recipe
from cnet_aihw.rram import RRAMRPUConfig, check_times, convert_to_analog
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.search import placement_problem
from cnet_aihw.search.searchers import Searcher
from cnet_aihw.zoo import Dataset, load_pretrained


def build_data(config: DictConfig) -> Dataset:
    """Load the data set that ``data`` describes.

    Raises:
        CnetError: when it cannot be had, or the target gives something else.
    """
    return _expect(make(config.data), Dataset, "data")


def build_network(config: DictConfig, data: Dataset) -> nn.Module:
    """Build the digital network that ``model`` describes, and see that it takes the data.

    The first weights come from ``seed`` alone: the same network is built for every training.

    Args:
        config: the whole configuration; its node ``inputs`` is filled here.
        data: the data set.

    Returns:
        The network, on the CPU, with the weights of ``pretrained`` where that is given.

    Raises:
        CnetError: when it cannot be built or loaded, or does not fit the data.
    """
    config.inputs.shape = list(data.input_shape)
    config.inputs.classes = data.classes
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        network = _expect(make(config.model), nn.Module, "model")
    if config.pretrained is not None:
        load_pretrained(network, config.pretrained)
    _check_fit(network, data)
    return network


def build_analog(config: DictConfig, rpu_config: RPUConfigBase, data: Dataset) -> nn.Module:
    """Build the network and put it on crossbars, but for the layers that ``rram.exclude`` names.

    Args:
        config: the whole configuration.
        rpu_config: what ``rram.rpu_config`` describes.
        data: the data set.

    Raises:
        CnetError: as `build_network`, where no layer would become analog, and where the device is
            not known at the times that are measured.
    """
    if isinstance(rpu_config, InferenceRPUConfig):
        check_times(rpu_config.noise_model, times_of(config.evaluation.t_inference))
        if isinstance(rpu_config, RRAMRPUConfig):
            check_times(rpu_config.noise_model, [rpu_config.variation.t_inference])
    network = build_network(config, data)
    return convert_to_analog(network, rpu_config, exclude=list(config.rram.exclude), inplace=True)


def build_searcher(config: DictConfig) -> Searcher:
    """Build what ``search.searcher`` describes.

    Raises:
        CnetError: when it cannot be built, or the target gives something else.
    """
    made = make(config.search.searcher)
    if not is_dataclass(made) or isinstance(made, type):
        raise CnetError(
            f"search.searcher._target_ gives {made!r}; name a searcher, such as "
            "cnet_aihw.search.searchers.RandomSearcher."
        )
    return cast(Searcher, made)


def check_compensation_fits(recipe: Recipe, model: nn.Module, data: Dataset) -> None:
    """See that a network can take the compensation asked for, before it is trained.

    Args:
        recipe: where compensation goes, how it is built and how its placement is searched.
        model: the analog network.
        data: the data set.

    Raises:
        CnetError: for a placement that does not fit, a limit that allows none, a policy for
            BatchNorm where there is none, and a searcher that cannot be.
    """
    settings = recipe.compensation
    if settings.fit.batchnorm == "per_chip" and not running_batchnorms(model):
        raise CnetError(
            "compensation.fit.batchnorm is per_chip, but the network has no BatchNorm with running "
            "statistics; leave it frozen."
        )
    placement, variant = settings.given_placement(), settings.variant()
    network = network_cost(model, data.val.x[:1])
    if placement is not None:
        check_placement(placement, model)
        compensation_cost(network, placement, variant)
    elif recipe.searches:
        build_searcher(recipe.config)
        analog = [name for name, layer in network.layers.items() if layer.analog]
        objective = recipe.search.objective
        placement_problem(network, analog, variant, settings.limit, recipe.search, objective)
    elif settings.scan.mode == "suffix":  # where there are candidates, the first layer is one
        first = [name for name, layer in network.layers.items() if layer.analog][:1]
        check_placement(uniform_placement(network, first, settings.limit, variant), model)


def make(node: DictConfig) -> Any:
    """Build what a Hydra target describes, with the objects it refers to.

    Raises:
        CnetError: with the reason that the target gives.
    """
    try:
        return instantiate(node, _convert_="object")
    except InstantiationException as error:
        raise CnetError(one_sentence(error)) from error


def _expect[Kind](made: object, kind: type[Kind], group: str) -> Kind:
    if not isinstance(made, kind):
        raise CnetError(
            f"{group}._target_ gives a {type(made).__name__}; name something that gives a "
            f"{kind.__module__.removesuffix('.dataset')}.{kind.__name__}."
        )
    return made


def _check_fit(network: nn.Module, data: Dataset) -> None:
    """Two samples through the network, so that a misfit is told before any work."""
    was_training = network.training
    try:
        with torch.no_grad():
            logits = network.eval()(data.val.x[:2])
    except RuntimeError as error:
        raise CnetError(
            f"{type(network).__name__} does not take inputs of shape {tuple(data.input_shape)} "
            f"({str(error).splitlines()[0]}); choose another model or data set."
        ) from error
    finally:
        network.train(was_training)
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if shape != (len(data.val.x[:2]), data.classes):
        raise CnetError(
            f"{type(network).__name__} gives {shape} for 2 samples; a network gives logits "
            f"[2, {data.classes}] for the {data.classes} classes of {data.name}."
        )
