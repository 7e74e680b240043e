"""Variation in training forwards on a model's tiles, and freezing of its analog layers."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import fields, replace
from typing import Any

from aihwkit.inference.noise.base import BaseNoiseModel
from torch import nn

from cnet_aihw.rram.crossbar.layers import RRAMLayer
from cnet_aihw.rram.crossbar.perturbation import Perturbation
from cnet_aihw.rram.crossbar.refusals import not_rram
from cnet_aihw.rram.crossbar.tiles import RRAMInferenceTile
from cnet_aihw.rram.crossbar.variation import VariationParameter
from cnet_aihw.rram.devices.chip_scope import chip_scope
from cnet_aihw.rram.layer_names import analog_layers, named_tiles
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.random_state import checked_seed, derive_seed, seeded_rng
from cnet_aihw.runtime.typed import checked


@checked
def freeze_analog(model: nn.Module) -> None:
    """Stop training of all analog layers, weights and digital biases.

    Gradients still pass through them to other layers, and training forwards still inject
    variation.
    """
    _set_trainable(model, False)


@checked
def unfreeze_analog(model: nn.Module) -> None:
    """Let training change all analog layers, also those that were frozen one by one."""
    _set_trainable(model, True)


@checked
def set_noise_model(model: nn.Module, noise_model: BaseNoiseModel) -> None:
    """Give every tile a copy of a noise model, for training and programming.

    Tiles copy their configuration when they are made, so that changing the configuration object
    later does nothing.
    """
    for _, tile in named_tiles(model):
        tile.rpu_config.noise_model = deepcopy(noise_model)


@checked
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
            raise CnetError(
                f"variation has no field {name!r}; it has {', '.join(known)}.",
                key=f"variation.{name}",
                value=changes[name],
                expected=known,
            )
    for _, tile in rram_tiles(model):
        tile.rpu_config.variation = replace(tile.rpu_config.variation, **changes)


@checked
def get_variation(model: nn.Module) -> VariationParameter:
    """Return a copy of what training forwards of the first tile inject."""
    return replace(next(rram_tiles(model))[1].rpu_config.variation)


@checked
def resample_variation(model: nn.Module, seed: int) -> None:
    """Draw the chip that training holds while ``variation.hold`` is on.

    On a CPU it is the same chip as ``program(model, seed)`` gives, as long as the nominal weights
    stay where they are. Elsewhere the device's own generator draws, so that nothing waits for a
    copy: the same seed gives the same chip there too, but another one than on a CPU.

    Args:
        model: a network of RRAM layers.
        seed: the chip's seed.

    Raises:
        CnetError: if the seed is not a whole number.
    """
    seed = checked_seed(seed)
    with chip_scope(seed):
        for name, tile in rram_tiles(model):
            weight = tile.tile.crossbar_weight().detach()
            with seeded_rng(derive_seed(seed, name), weight.device):
                tile.tile.held = Perturbation.draw(
                    tile.rpu_config.noise_model, weight, tile.rpu_config.variation.t_inference
                )


def rram_tiles(model: nn.Module) -> Iterator[tuple[str, RRAMInferenceTile]]:
    """Yield the tiles of RRAM layers as ``layer/index``.

    Raises:
        CnetError: if no layer is analog, or one on another kind of tile.
    """
    analog_layers(model)  # says to convert first, where there is none
    for name, tile in named_tiles(model):
        if not isinstance(tile, RRAMInferenceTile):
            layer, expected = name.rpartition("/")[0], "an RRAM layer, where variation is injected"
            raise not_rram(f"layer {layer!r}", type(tile).__name__, layer, expected)
        yield name, tile


def check_rram_layers(model: nn.Module) -> None:
    """Refuse networks with analog layers of another kind than ours.

    Raises:
        CnetError: names the first one; or if no layer is analog.
    """
    for name, layer in analog_layers(model).items():
        if not isinstance(layer, RRAMLayer):
            raise not_rram(f"layer {name!r}", type(layer).__name__, name)


def _set_trainable(model: nn.Module, trainable: bool) -> None:
    for layer in analog_layers(model).values():
        for parameter in layer.parameters():
            parameter.requires_grad_(trainable)
