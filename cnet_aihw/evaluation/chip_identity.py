"""Short fingerprints of all that determines the accuracy of a chip."""

from typing import Any

from aihwkit.inference.noise.base import BaseNoiseModel
from aihwkit.nn.modules.base import AnalogLayerBase
from torch import Tensor, nn

from cnet_aihw.rram import analog_layers, has_read_noise, noise_model_id, snapshot
from cnet_aihw.runtime.fingerprint import tensors_fingerprint, text_fingerprint


def chip_fingerprints(
    model: nn.Module,
    noise_model: BaseNoiseModel | None,
    data: tuple[Tensor, Tensor],
    seed: int,
    batch_size: int,
) -> dict[str, str]:
    """Fingerprints of what determines each chip's accuracy, by the user's word for it.

    The batch size counts only where the periphery is not perfect or devices are read with noise:
    there noise is drawn batch by batch.
    """
    x, y = data
    perfect = all(
        tile.rpu_config.forward.is_perfect
        and not has_read_noise(noise_model or tile.rpu_config.noise_model)
        for layer in analog_layers(model).values()
        for tile in layer.analog_tiles()
    )
    return {
        "weights": tensors_fingerprint(snapshot(model)),
        "network": text_fingerprint(describe_network(model)),
        "noise model": text_fingerprint(describe_hardware(model, noise_model)),
        "data": tensors_fingerprint({"x": x, "y": y}),
        "seed": str(seed),
        "batch size": "any" if perfect else str(batch_size),
    }


def describe_network(model: nn.Module) -> list[str]:
    """A line for each module: name, class, and what it says of itself (size, stride, ...)."""
    lines = []
    for name, module in model.named_modules():
        if ".analog_module" in f".{name}":
            continue
        # an analog layer also tells its training settings; its shapes stand in the weights
        extra = "" if isinstance(module, AnalogLayerBase) else module.extra_repr()
        geometry = [
            str(module.__dict__[key])
            for key in ("stride", "padding", "dilation", "groups", "padding_mode")
            if key in module.__dict__
        ]
        lines.append(f"{name} {type(module).__name__} {extra} {' '.join(geometry)}")
    return lines


def describe_hardware(model: nn.Module, noise_model: BaseNoiseModel | None) -> list[str]:
    """A line for each tile: noise model, periphery and mapping, but not what training injects."""
    lines = []
    for name, layer in analog_layers(model).items():
        for tile in layer.analog_tiles():
            config = tile.rpu_config
            noise = noise_model or config.noise_model
            parts: list[Any] = [
                noise_model_id(noise),
                config.forward,
                config.mapping,
                config.drift_compensation,
            ]
            lines.append(f"{name} " + " ".join(str(part) for part in parts))
    return lines
