"""Chips: program one by its seed, walk over many, hold several; a chip never changes weights.

On aihwkit's own tiles, which overwrite their weights, the same verbs put the nominal ones back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from difflib import get_close_matches
from typing import Any

import torch
from aihwkit.inference.noise.base import BaseNoiseModel
from aihwkit.nn.modules.base import AnalogLayerBase
from aihwkit.simulator.parameters.enums import WeightModifierType
from aihwkit.simulator.tiles.inference import InferenceTile, InferenceTileWithPeriphery
from torch import Tensor, nn

from cnet_aihw.rram.conversion_checks import check_copyable
from cnet_aihw.rram.crossbar.layers import RRAMLayer
from cnet_aihw.rram.crossbar.refusals import not_rram
from cnet_aihw.rram.crossbar.tiles import RRAMInferenceTile
from cnet_aihw.rram.devices.chip_scope import chip_scope
from cnet_aihw.rram.layer_names import analog_layers, named_tiles
from cnet_aihw.rram.tile_chips import chips_of, note_chip, put_chip, put_chips, warn_of_changes
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.inputs import main_output
from cnet_aihw.runtime.random_state import checked_seed, derive_seed, seeded_rng
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import check_count


@checked
def program(
    model: nn.Module,
    seed: int,
    noise_model: BaseNoiseModel | None = None,
    t_inference: float | None = None,
    layers: Collection[str] | None = None,
) -> None:
    """Program one chip beside the nominal weights: one sample of the noise model.

    The same seed gives the same chip, on every device, whatever was drawn before: its weights are
    drawn on the CPU, and each layer's part depends on the seed and the layer's name alone. The read
    noise of the forwards that follow belongs to the seed too, on one kind of device (its numbers
    are drawn where the weights are). torch's random state is left as it was. On failure the chip
    that was there before is still there.

    Args:
        model: an analog network; also one of stock aihwkit's inference tiles.
        seed: the chip's seed.
        noise_model: another noise model for this chip only; the configuration's by default.
        t_inference: seconds since programming, for noise models that drift; None: just programmed.
        layers: names of the analog layers that vary, as :func:`analog_layers` gives them; the
            others compute with their nominal weights. None: all vary.

    Raises:
        CnetError: if the model has no analog layer or none of such a name, its tiles cannot be
            programmed, or the seed is not a whole number.
    """
    seed = checked_seed(seed)
    _check_names(model, layers)
    tiles, chosen, others = list(named_tiles(model)), [], []
    for name, tile in tiles:
        if layers is None or name.rpartition("/")[0] in layers:
            check_programmable(name, tile)
            chosen.append((name, tile))
        else:
            others.append(tile)
    before = chips_of(model)
    warn_of_changes(tiles)
    try:
        with chip_scope(seed):
            for name, tile in chosen:
                with seeded_rng(derive_seed(seed, name)):
                    _program_tile(tile, noise_model, t_inference)
                    note_chip(tile)
                if isinstance(tile, RRAMInferenceTile) and tile.chip is not None:
                    tile.chip.seed_reads(derive_seed(seed, name, "read noise"))
        for tile in others:
            put_chip(tile, None)
    except BaseException:
        put_chips(before)
        raise


@checked
def clear_chip(model: nn.Module) -> None:
    """Forget the chip: the model computes with its nominal weights again, bit for bit."""
    tiles = list(named_tiles(model))
    warn_of_changes(tiles)
    for _, tile in tiles:
        put_chip(tile, None)


@checked
@contextmanager
def programmed(
    model: nn.Module,
    seed: int,
    noise_model: BaseNoiseModel | None = None,
    t_inference: float | None = None,
    layers: Collection[str] | None = None,
) -> Iterator[nn.Module]:
    """Program one chip inside the block; afterwards, also after an exception, all is as before.

    Args:
        model: an analog network.
        seed: the chip's seed.
        noise_model: as in :func:`program`.
        t_inference: as in :func:`program`.
        layers: as in :func:`program`.

    Yields:
        The model.
    """
    before = chips_of(model)
    program(model, seed, noise_model, t_inference, layers)
    try:
        yield model
    finally:
        put_chips(before)


@checked
@contextmanager
def nominal_inside(model: nn.Module) -> Iterator[nn.Module]:
    """Compute with the nominal weights inside the block, and with the same chip again after it.

    Args:
        model: an analog network, programmed or not.

    Yields:
        The model.
    """
    before = chips_of(model)
    try:
        clear_chip(model)
        yield model
    finally:
        put_chips(before)


@checked
def chips(
    model: nn.Module,
    count: int,
    seed: int = 0,
    noise_model: BaseNoiseModel | None = None,
    t_inference: float | None = None,
    layers: Collection[str] | None = None,
) -> Iterator[tuple[int, int]]:
    """Walk over chips: the model is programmed as each of them inside the loop's body.

    Afterwards, also where the loop is left early, the model is as before.

    Args:
        model: an analog network.
        count: how many chips.
        seed: seed of the chips' seeds; more chips begin with the same ones.
        noise_model: as in :func:`program`.
        t_inference: as in :func:`program`.
        layers: as in :func:`program`.

    Yields:
        Number of the chip, from 0, and the chip's own seed.
    """
    for chip in range(count):
        chip_seed = derive_seed(seed, chip)
        with programmed(model, chip_seed, noise_model, t_inference, layers):
            yield chip, chip_seed


class ChipModel(nn.Module):
    """A frozen network that holds one or more chips and gives the mean of their outputs.

    It is differentiable in its inputs. Made by :func:`chip_model`.

    Attributes:
        seeds: the chips' seeds.
        readings: how often each chip is read in one forward.
    """

    def __init__(self, model: nn.Module, seeds: Sequence[int], readings: int) -> None:
        super().__init__()
        self.model, self.seeds, self.readings = model, tuple(seeds), readings
        self._chips: list[list[tuple[Any, Any]]] = []

    def members(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return the outputs of every reading of every chip, [chips * readings, N, ...]."""
        outputs = []
        for chip in self._chips:
            put_chips(chip)
            outputs += [main_output(self.model(*args, **kwargs)) for _ in range(self.readings)]
        return torch.stack(outputs)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return the mean over chips and readings, [N, ...]; of one reading its own output."""
        members = self.members(*args, **kwargs)
        return members[0] if len(members) == 1 else members.mean(0)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Move or cast all chips with the network, which itself has the last one alone."""
        super()._apply(fn, recurse)
        self._chips = [[(tile, part.apply(fn)) for tile, part in chip] for chip in self._chips]
        return self


@checked
@torch.inference_mode(False)  # whose tensors take part in no gradient
def chip_model(
    model: nn.Module,
    seeds: int | Sequence[int],
    readings: int = 1,
    noise_model: BaseNoiseModel | None = None,
    t_inference: float | None = None,
) -> ChipModel:
    """Return a frozen copy of a network that holds one or more chips, for what needs several.

    Args:
        model: a network of RRAM layers; left as it is.
        seeds: the chips' seeds, as for :func:`program`.
        readings: how often each chip is read in one forward.
        noise_model: as in :func:`program`.
        t_inference: as in :func:`program`.

    Returns:
        The module, in evaluation mode, without trainable parameters.

    Raises:
        CnetError: without seeds, for fewer than one reading, or as :func:`program`.
    """
    seeds = [seeds] if isinstance(seeds, int) else list(seeds)
    for key, value in (("seeds", len(seeds)), ("readings", readings)):
        check_count(key, value)
    check_copyable(model, "write a method in place of the function")
    frozen = deepcopy(model).eval().requires_grad_(False)
    held = ChipModel(frozen, seeds, readings)
    for name, tile in named_tiles(frozen):
        _check_holds_chips(name, tile)
    for seed in seeds:
        program(frozen, seed, noise_model, t_inference)
        held._chips.append(chips_of(frozen))
    return held.eval()


def is_programmed(model: nn.Module) -> bool:
    """Return whether a chip is programmed on any tile of the model."""
    return any(
        isinstance(tile, InferenceTileWithPeriphery) and tile.reference_combined_weights is not None
        for _, tile in named_tiles(model)
    )


def nominal_weight(layer: AnalogLayerBase) -> Tensor:
    """Return the nominal logical weights of a layer of ours, all scales applied.

    Args:
        layer: an RRAM layer.

    Returns:
        [out, in / groups * kernel]; part of the autograd graph.

    Raises:
        CnetError: if it is another kind of layer.
    """
    if not isinstance(layer, RRAMLayer):
        raise not_rram("layer", type(layer).__name__, "layer")
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


def _check_names(model: nn.Module, names: Collection[str] | None) -> None:
    if isinstance(names, str):
        raise CnetError(
            f"layers is the text {names!r}; give a list of names: [{names!r}].",
            key="layers",
            value=names,
            expected="a list of names",
        )
    known = list(analog_layers(model))
    for name in names or ():
        if name not in known:
            near = get_close_matches(name, known, n=3, cutoff=0.0)
            raise CnetError(
                f"layers has {name!r}, which is not an analog layer of the model; nearest: "
                f"{', '.join(map(repr, near))}.",
                key="layers",
                value=name,
                expected=near,
            )


def _check_holds_chips(name: str, tile: Any) -> None:
    if not isinstance(tile, RRAMInferenceTile):
        layer, expected = name.rpartition("/")[0], "an RRAM layer, which keeps its weights"
        raise not_rram(f"layer {layer!r}", type(tile).__name__, layer, expected)


def check_programmable(name: str, tile: Any) -> None:
    """Refuse a tile that holds no chips, or none that are right; its name is LAYER/NUMBER."""
    layer, kind = name.rpartition("/")[0], type(tile).__name__
    if not isinstance(tile, InferenceTileWithPeriphery):
        raise CnetError(
            f"layer {layer!r} is on {kind}, which trains on the device and has no noise model to "
            "program with; convert the digital network, convert_to_digital(model), with an "
            "RRAMRPUConfig.",
            key=layer,
            value=kind,
            expected="an inference tile",
        )
    if isinstance(tile, InferenceTile) and tile.rpu_config.modifier.type not in (
        WeightModifierType.NONE,
        WeightModifierType.COPY,
    ):
        raise CnetError(
            f"layer {layer!r} has a weight modifier on the C++ tile, whose stale weights outlive "
            "programming; use RRAMRPUConfig, or set modifier.type to NONE.",
            key="modifier.type",
            value=tile.rpu_config.modifier.type.name,
            expected="NONE",
        )


def _program_tile(tile: Any, noise_model: BaseNoiseModel | None, t_inference: float | None) -> None:
    own = tile.rpu_config.noise_model
    if not isinstance(tile, RRAMInferenceTile):
        put_chip(tile, None)  # weights that a stock tile was given since are the nominal ones
    try:
        tile.program_weights(noise_model=noise_model)  # aihwkit keeps the model that it is given
        if t_inference is not None:
            tile.drift_weights(t_inference)
    finally:
        tile.rpu_config.noise_model = own
