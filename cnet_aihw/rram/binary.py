"""Networks of binary weights: their layers' scales, and the means that stochastic cells sample."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cnet_aihw.rram.devices.stochastic_cell import cell_of
from cnet_aihw.rram.layer_names import analog_layers
from cnet_aihw.rram.programming import clear_chip, nominal_weight
from cnet_aihw.rram.training_variation import rram_tiles
from cnet_aihw.runtime.errors import bad_value
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import check_number


@dataclass(frozen=True)
class BinaryWeights:
    """The weights of one tile, which are means of binary ones."""

    mean: nn.Parameter
    """Means times ``scale``, [out, in]: the nominal weights."""

    scale: float
    """Value of a binary weight of +1 in the network's units."""


@checked
def make_binary(model: nn.Module, gain: float = math.sqrt(2.0), largest: float = 0.9) -> None:
    """Let the weights of all RRAM layers stand for means of binary weights, in place.

    A weight of layer l then is -s or +s, with s = gain / sqrt(inputs of an output), as He et al.
    2015 scale real ones, so that activations neither grow nor vanish from layer to layer; s is a
    digital factor of the outputs. Means begin with the weights that the network has, clipped; a
    chip, which holds others, is forgotten.

    Args:
        model: a network on stochastic cells; of others the weights are means of +-s as well.
        gain: factor of all scales, above 0.
        largest: means begin within -largest and largest, in (0, 1).

    Raises:
        CnetError: for values out of range, or layers other than RRAM layers.
    """
    for key, value, high in (("gain", gain, 1e3), ("largest", largest, 1.0)):
        check_number(key, value, 0.0, high)
        if value in (0.0, 1.0) and not (key == "gain" and value == 1.0):
            raise bad_value(key, value, "a number above 0 (and below 1 for means)")
    scales = {name: _scale(layer, gain) for name, layer in analog_layers(model).items()}
    tiles = list(rram_tiles(model))
    clear_chip(model)
    for name, tile in tiles:
        scale = scales[name.rpartition("/")[0]]
        weight = tile.tile.weight
        tile.set_mapping_scales(torch.full((1,), scale, dtype=weight.dtype, device=weight.device))
        weight.data.clamp_(-largest * scale, largest * scale)


def binary_weights(model: nn.Module) -> list[BinaryWeights]:
    """Return the weights of each tile of a network of binary weights.

    Raises:
        CnetError: if a layer is not on stochastic cells, or real-valued.
    """
    found = []
    for name, tile in rram_tiles(model):
        scales: Tensor | None = tile.tile.scales
        if cell_of(tile.rpu_config.noise_model) is None or scales is None or scales.numel() > 1:
            layer = name.rpartition("/")[0]
            fix = "convert with rram=stochastic_cell and call cnet_aihw.rram.make_binary(model)"
            raise bad_value("model", layer, "binary weights on stochastic cells", fix)
        found.append(BinaryWeights(tile.tile.weight, float(scales)))
    return found


def has_cells(model: nn.Module) -> bool:
    """Return whether any layer of a network is on stochastic cells."""
    return any(
        cell_of(getattr(tile.rpu_config, "noise_model", None)) is not None
        for layer in analog_layers(model).values()
        for tile in layer.analog_tiles()
    )


def _scale(layer: nn.Module, gain: float) -> float:
    return gain / math.sqrt(nominal_weight(layer).shape[1])
