"""Variation in training: switched on for the steps, and put back as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from aihwkit.simulator.parameters.base import RPUConfigBase
from aihwkit.simulator.parameters.enums import WeightClipType, WeightRemapType
from torch import Tensor, nn

from cnet_aihw.rram import (
    analog_layers,
    find_analog_layers,
    resample_variation,
    set_noise_model,
    set_variation,
)
from cnet_aihw.rram.crossbar.perturbation import Perturbation
from cnet_aihw.rram.crossbar.read_noise import ReadNoise
from cnet_aihw.rram.crossbar.tiles import RRAMInferenceTile
from cnet_aihw.runtime.random_state import derive_seed, forked_random_state
from cnet_aihw.runtime.torch_device import device_of
from cnet_aihw.training.settings import TrainingSettings

_READ = "#read"  # behind a tile's name: standard deviations of its read noise
_FACTOR = "#factor"  # the same: factors, which may depend on the signs that weights had


def has_analog_layers(model: nn.Module) -> bool:
    """Say whether any layer of the model is analog."""
    return bool(find_analog_layers(model))


def injected_time(model: nn.Module) -> float | None:
    """Return the seconds after programming of chips in training; None: just programmed."""
    times = (tile.rpu_config.variation.t_inference for tile in _tiles(model).values())
    return next(times, None)


@contextmanager
def training_variation(model: nn.Module, settings: TrainingSettings) -> Iterator[None]:
    """Inject the settings' variation inside the block; the model's own variation afterwards."""
    tiles = _tiles(model)
    variation = settings.variation
    configs = [tile.rpu_config for tile in tiles.values()]
    own = [(config, config.variation, config.noise_model) for config in configs]
    try:
        if variation.enabled:
            hold = variation.steps_per_chip > 0
            set_variation(
                model,
                enabled=True,
                hold=hold,
                gradient=variation.gradient,
                strength=1.0,
                table=variation.table,
            )
            if variation.noise_model is not None:
                set_noise_model(model, variation.noise_model)
        elif tiles:
            set_variation(model, enabled=False)
        yield
    finally:
        for config, own_variation, own_noise_model in own:
            config.variation, config.noise_model = own_variation, own_noise_model


def try_variation(model: nn.Module, settings: TrainingSettings) -> None:
    """Draw the variation of one step, so that errors come before anything is written.

    Raises:
        CnetError: if the noise model cannot be injected as the settings say.
    """
    if not settings.variation.enabled:
        return
    with training_variation(model, settings), forked_random_state(device_of(model)):
        if settings.variation.steps_per_chip:
            hold_chip(model, settings, 0)
        for tile in _tiles(model).values():
            tile.tile.set_config(tile.rpu_config)
            tile.tile.mvm_weight(is_test=False)
    let_chip_go(model)


def changes_after_steps(config: RPUConfigBase) -> bool:
    """Say whether a configuration asks for weights to be clipped or remapped after each step."""
    clip, remap = getattr(config, "clip", None), getattr(config, "remap", None)
    clips = clip is not None and clip.type != WeightClipType.NONE
    return clips or (remap is not None and remap.type != WeightRemapType.NONE)


def clip_after_steps(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Let each step clip and remap the trained tiles whose configurations ask for it."""
    tiles = [
        tile
        for tile in _tiles(model).values()
        if tile.tile.weight.requires_grad and changes_after_steps(tile.rpu_config)
    ]

    def clip(*_: object) -> None:
        for tile in tiles:
            tile.post_update_step()

    if tiles:
        optimizer.register_step_post_hook(clip)


def hold_chip(model: nn.Module, settings: TrainingSettings, step: int) -> None:
    """Draw the chip that training holds at a step."""
    number = step // settings.variation.steps_per_chip
    resample_variation(model, derive_seed(settings.seed, "chip", number))


def set_share(model: nn.Module, settings: TrainingSettings, step: int, epoch_steps: int) -> None:
    """Set the share of the deviation that is injected at a step of the whole run: ramp and draw.

    It depends on nothing but its arguments, so that a resumed run has the same.
    """
    variation = settings.variation
    ramp, least = variation.ramp_epochs * epoch_steps, variation.least_share
    if not variation.enabled or (least == 1.0 and (not ramp or step >= ramp + 1)):
        return
    share = min(1.0, step / ramp) if ramp else 1.0
    if least < 1.0:
        chip = step // (variation.steps_per_chip or 1)
        generator = torch.Generator().manual_seed(derive_seed(settings.seed, "share", chip))
        share *= torch.empty(()).uniform_(least, 1.0, generator=generator).item()
    set_variation(model, strength=min(1.0, share))


def held_chip(model: nn.Module) -> dict[str, Tensor]:
    """Return the effect of the held chip, which belongs to weights that have moved since."""
    held = {
        name: tile.tile.held for name, tile in _tiles(model).items() if tile.tile.held is not None
    }
    tensors = {name: chip.offset for name, chip in held.items() if chip.offset is not None}
    tensors |= {f"{name}{_FACTOR}": c.factor for name, c in held.items() if c.factor is not None}
    for name, chip in held.items():
        stds = [] if chip.read_noise is None else chip.read_noise.stds
        tensors |= {f"{name}{_READ}{number}": std for number, std in enumerate(stds)}
    return tensors


def put_held_chip(model: nn.Module, effect: dict[str, Tensor]) -> None:
    """Give the chip that is held the effect of :func:`held_chip`."""
    tiles = _tiles(model)
    stds: dict[str, list[Tensor]] = {}
    for name in sorted(name for name in effect if _READ in name):
        stds.setdefault(name.partition(_READ)[0], []).append(effect[name])
    for key, tensor in effect.items():
        if _READ in key:
            continue
        name, is_factor, _ = key.partition(_FACTOR)
        held = Perturbation(tensor, None) if is_factor else Perturbation(None, tensor)
        held.read_noise = ReadNoise(stds[name]) if name in stds else None
        present, weight = tiles[name].tile.held, tiles[name].tile.weight
        held.temperature = None if present is None else present.temperature
        tiles[name].tile.held = held.to(weight.device, weight.dtype)


def hold_again(
    model: nn.Module, settings: TrainingSettings, step: int, held: dict[str, Tensor]
) -> None:
    """Hold a chip whose weights have moved since it was drawn, where a step is in its middle.

    Args:
        model: the network.
        settings: of these the variation.
        step: number of the step in the run.
        held: its :func:`held_chip`.
    """
    per_chip = settings.variation.steps_per_chip
    if settings.variation.enabled and per_chip and step % per_chip:
        with training_variation(model, settings):
            hold_chip(model, settings, step)
        put_held_chip(model, held)


def let_chip_go(model: nn.Module) -> None:
    """Forget the chip that training held."""
    for tile in _tiles(model).values():
        tile.tile.held = None


def _tiles(model: nn.Module) -> dict[str, RRAMInferenceTile]:
    if not has_analog_layers(model):
        return {}
    return {
        f"{name}/{number}": tile
        for name, layer in analog_layers(model).items()
        for number, tile in enumerate(layer.analog_tiles())
        if isinstance(tile, RRAMInferenceTile)
    }
