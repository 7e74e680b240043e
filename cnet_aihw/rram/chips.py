"""Chips: program one by its seed, put the nominal weights back, and set what training injects."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import fields, replace
from difflib import get_close_matches
from typing import Any

import torch
from aihwkit.inference.noise.base import BaseNoiseModel
from aihwkit.nn.modules.base import AnalogLayerBase
from aihwkit.simulator.parameters.enums import WeightModifierType
from aihwkit.simulator.tiles.inference import InferenceTile, InferenceTileWithPeriphery
from torch import Tensor, nn

from cnet_aihw.rram.conversion import analog_layers, find_analog_layers
from cnet_aihw.rram.crossbar.layers import _FastLayer
from cnet_aihw.rram.crossbar.perturbation import Perturbation
from cnet_aihw.rram.crossbar.tiles import RRAMInferenceTile
from cnet_aihw.rram.crossbar.variation import VariationParameter
from cnet_aihw.rram.devices.chip_scope import chip_scope
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.random_state import checked_seed, derive_seed, seeded_rng


def program(
    model: nn.Module,
    seed: int,
    noise_model: BaseNoiseModel | None = None,
    t_inference: float | None = None,
    layers: Collection[str] | None = None,
) -> None:
    """Program one chip: the analog weights become one sample of the noise model.

    The same seed gives the same chip, on every device, whatever was drawn before; each layer's part
    depends on the seed and the layer's name alone, and so does its read noise at each forward pass
    that follows. torch's random state is left as it was.
    Programming again starts from the nominal weights, in all layers. On failure the nominal weights
    are back.

    Args:
        model: an analog network; also one of stock aihwkit's inference tiles.
        seed: the chip's seed.
        noise_model: another noise model for this chip only; the configuration's by default.
        t_inference: seconds since programming, for noise models that drift; None: just programmed.
        layers: names of the analog layers that vary, as :func:`analog_layers` gives them; the
            others keep their nominal weights. None: all vary.

    Raises:
        CnetError: if the model has no analog layer or none of such a name, its tiles cannot be
            programmed, or the seed is no whole number.
    """
    seed = checked_seed(seed)
    _check_names(model, layers)
    tiles = []
    for name, tile in _named_tiles(model):
        if layers is None or name.rpartition("/")[0] in layers:
            _check_programmable(name, tile)
            tiles.append((name, tile))
    try:
        if layers is not None:
            restore(model)
        with chip_scope(seed):
            for name, tile in tiles:
                with seeded_rng(derive_seed(seed, name)):
                    _program_tile(tile, noise_model, t_inference)
                if isinstance(tile, RRAMInferenceTile):
                    tile.seed_reads(derive_seed(seed, name, "read noise"))
    except BaseException:
        restore(model)
        raise


def restore(model: nn.Module) -> None:
    """Put the nominal weights back, bit for bit, and forget the chip if there is one.

    Args:
        model: an analog network.
    """
    for _, tile in _named_tiles(model):
        if isinstance(tile, RRAMInferenceTile):
            tile.restore_weights()
        elif isinstance(tile, InferenceTileWithPeriphery):
            if tile.reference_combined_weights is not None:
                tile.tile.set_weights(tile.reference_combined_weights)
            tile.reference_combined_weights = None
            tile.programmed_weights = None
            tile.drift_noise_parameters = None
            tile.drift_baseline = None
            tile.alpha = torch.ones_like(tile.alpha)


@contextmanager
def programmed(
    model: nn.Module,
    seed: int,
    noise_model: BaseNoiseModel | None = None,
    t_inference: float | None = None,
    layers: Collection[str] | None = None,
) -> Iterator[nn.Module]:
    """Program one chip inside the block; afterwards, also after an exception, restore.

    Args:
        model: an analog network.
        seed: the chip's seed.
        noise_model: as in :func:`program`.
        t_inference: as in :func:`program`.
        layers: as in :func:`program`.

    Yields:
        The model.
    """
    program(model, seed, noise_model, t_inference, layers)
    try:
        yield model
    finally:
        restore(model)


@contextmanager
def nominal_inside(model: nn.Module) -> Iterator[nn.Module]:
    """Put the nominal weights in inside the block, and the same chip back after it, bit for bit.

    Args:
        model: an analog network, programmed or not.

    Yields:
        The model.
    """
    chip = [
        (tile, tile.tile.get_weights(), tile.alpha)
        for _, tile in _named_tiles(model)
        if isinstance(tile, InferenceTileWithPeriphery)
        and tile.reference_combined_weights is not None
    ]
    read = [(tile, tile.read_noise) for tile, *_ in chip if isinstance(tile, RRAMInferenceTile)]
    try:
        for tile, _ in read:
            tile.read_noise = None
        for tile, _, alpha in chip:
            tile.tile.set_weights(tile.reference_combined_weights)
            tile.alpha = torch.ones_like(alpha)
        yield model
    finally:
        for tile, weights, alpha in chip:
            tile.tile.set_weights(weights)
            tile.alpha = alpha
        for tile, read_noise in read:
            tile.read_noise = read_noise


def is_programmed(model: nn.Module) -> bool:
    """Say whether a chip is programmed on any tile of the model."""
    return any(
        isinstance(tile, InferenceTileWithPeriphery) and tile.reference_combined_weights is not None
        for _, tile in _named_tiles(model)
    )


def nominal_weight(layer: AnalogLayerBase) -> Tensor:
    """Return the wanted logical weights of a layer of ours, all scales applied.

    Args:
        layer: an RRAM layer.

    Returns:
        [out, in / groups * kernel]; part of the autograd graph unless a chip is programmed.

    Raises:
        CnetError: if it is another kind of layer.
    """
    if not isinstance(layer, _FastLayer):
        raise CnetError(
            f"{type(layer).__name__} is no RRAM layer; convert with cnet_aihw.convert_to_analog "
            "and an RRAMRPUConfig."
        )
    return layer.nominal_weight()


def effective_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of the logical weights as they are now: a chip's where one is programmed.

    Args:
        model: an analog network.

    Returns:
        Layer name -> [out, in / groups * kernel].
    """
    return {
        name: layer.get_weights()[0].detach().clone()
        for name, layer in analog_layers(model).items()
    }


def freeze_analog(model: nn.Module) -> None:
    """Stop training of all analog layers, weights and digital biases.

    Gradients still pass through them to other layers, and training forwards still inject
    variation.
    """
    _set_trainable(model, False)


def unfreeze_analog(model: nn.Module) -> None:
    """Undo :func:`freeze_analog`."""
    _set_trainable(model, True)


def set_noise_model(model: nn.Module, noise_model: BaseNoiseModel) -> None:
    """Give every tile a copy of a noise model, for training and programming.

    Tiles copy their configuration when they are made, so that changing the configuration object
    later does nothing.
    """
    for _, tile in _named_tiles(model):
        tile.rpu_config.noise_model = deepcopy(noise_model)


def set_variation(model: nn.Module, **changes: Any) -> None:
    """Change what training forwards inject; for example ``set_variation(model, enabled=False)``.

    Args:
        model: a network of RRAM layers.
        **changes: fields of :class:`~cnet_aihw.rram.VariationParameter`.

    Raises:
        CnetError: if a field is unknown or its value is impossible.
    """
    known = [f.name for f in fields(VariationParameter)]
    for name in changes:
        if name not in known:
            raise CnetError(f"variation has no field {name!r}; it has {', '.join(known)}.")
    for _, tile in _rram_tiles(model):
        tile.rpu_config.variation = replace(tile.rpu_config.variation, **changes)


def get_variation(model: nn.Module) -> VariationParameter:
    """Return a copy of what training forwards of the first tile inject."""
    return replace(next(_rram_tiles(model))[1].rpu_config.variation)


def resample_variation(model: nn.Module, seed: int) -> None:
    """Draw the chip that training holds while ``variation.hold`` is on.

    It is the same chip as ``program(model, seed)`` gives, as long as the nominal weights stay where
    they are.

    Args:
        model: a network of RRAM layers.
        seed: the chip's seed.

    Raises:
        CnetError: if the seed is no whole number.
    """
    seed = checked_seed(seed)
    with chip_scope(seed):
        for name, tile in _rram_tiles(model):
            weight = tile.tile.weight
            with seeded_rng(derive_seed(seed, name)):
                tile.tile.held = Perturbation.draw(
                    tile.rpu_config.noise_model,
                    weight.detach().cpu(),
                    tile.rpu_config.variation.t_inference,
                ).to(weight.device)


def _named_tiles(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield the tiles of all analog layers as ``layer/index``."""
    for name, layer in find_analog_layers(model).items():
        for index, tile in enumerate(layer.analog_tiles()):
            yield f"{name}/{index}", tile


def _rram_tiles(model: nn.Module) -> Iterator[tuple[str, RRAMInferenceTile]]:
    analog_layers(model)  # says to convert first, where there is none
    for name, tile in _named_tiles(model):
        if not isinstance(tile, RRAMInferenceTile):
            raise CnetError(
                f"layer {name.rpartition('/')[0]!r} is on {type(tile).__name__}, where variation "
                "cannot be injected; convert the model with an RRAMRPUConfig."
            )
        yield name, tile


def _check_names(model: nn.Module, names: Collection[str] | None) -> None:
    if isinstance(names, str):
        raise CnetError(f"layers is the text {names!r}; give a list of names: [{names!r}].")
    known = list(analog_layers(model))
    for name in names or ():
        if name not in known:
            near = get_close_matches(name, known, n=3, cutoff=0.0)
            raise CnetError(
                f"layers has {name!r}, which is no analog layer of the model; nearest: "
                f"{', '.join(map(repr, near))}."
            )


def _check_programmable(name: str, tile: Any) -> None:
    layer = name.rpartition("/")[0]
    if not isinstance(tile, InferenceTileWithPeriphery):
        raise CnetError(
            f"layer {layer!r} is on {type(tile).__name__}, which has no noise model to program "
            "with; convert the model with an inference configuration such as RRAMRPUConfig."
        )
    if isinstance(tile, InferenceTile) and tile.rpu_config.modifier.type not in (
        WeightModifierType.NONE,
        WeightModifierType.COPY,
    ):
        raise CnetError(
            f"layer {layer!r} has a weight modifier on the C++ tile, whose stale weights outlive "
            "programming; use RRAMRPUConfig, or set modifier.type to NONE."
        )


def _program_tile(tile: Any, noise_model: BaseNoiseModel | None, t_inference: float | None) -> None:
    own = tile.rpu_config.noise_model
    try:
        tile.program_weights(noise_model=noise_model)  # aihwkit keeps the model that it is given
        if t_inference is not None:
            tile.drift_weights(t_inference)
    finally:
        tile.rpu_config.noise_model = own


def _set_trainable(model: nn.Module, trainable: bool) -> None:
    for layer in analog_layers(model).values():
        for parameter in layer.parameters():
            parameter.requires_grad_(trainable)
