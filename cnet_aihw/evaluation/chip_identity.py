"""Provenance of chips: fingerprints of all that determines what is measured on them."""

from __future__ import annotations

from types import BuiltinFunctionType, FunctionType
from typing import Any

import torch
from aihwkit.inference.noise.base import BaseNoiseModel
from aihwkit.nn.modules.base import AnalogLayerBase
from torch import Tensor, nn

from cnet_aihw.evaluation.calibration import ChipCalibration
from cnet_aihw.evaluation.measurement import Measurement
from cnet_aihw.rram import analog_layers, has_read_noise, named_tiles, noise_model_id, snapshot
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.fingerprint import object_text, tensors_fingerprint, text_fingerprint
from cnet_aihw.runtime.parts import Part


def chip_provenance(
    model: nn.Module,
    part: Part,
    measurement: Measurement,
    *,
    noise_model: BaseNoiseModel | None,
    calibration: ChipCalibration | None,
    seed: int,
    batch_size: int,
    device: torch.device,
) -> dict[str, Any]:
    """Return what determines the results of each chip, as plain nested values.

    The batch size counts only where the periphery is not perfect or devices are read with noise:
    there noise is drawn batch by batch. Of the device the kind counts, because CUDA draws other
    noise and rounds otherwise.
    """
    perfect = all(
        tile.rpu_config.forward.is_perfect
        and not getattr(_charge(tile.rpu_config), "spike_noise", 0.0)
        and not has_read_noise(noise_model or tile.rpu_config.noise_model)
        for layer in analog_layers(model).values()
        for tile in layer.analog_tiles()
    )
    return {
        "weights": tensors_fingerprint(snapshot(model)),
        "network": text_fingerprint(describe_network(model)),
        "noise_model": text_fingerprint(describe_noise_models(model, noise_model)),
        "periphery": text_fingerprint(describe_periphery(model)),
        "data": part.fingerprint,
        "measurement": {"name": measurement.name, **measurement.describe()},
        "calibration": None if calibration is None else calibration.fingerprint(),
        "seed": seed,
        "batch_size": None if perfect else batch_size,
        "device": device.type,
        "tf32": False,  # measurements switch it off
    }


def chip_fingerprint(model: nn.Module) -> str:
    """Return the SHA-256 (hex) of the chip that is programmed, the same at any time of its life.

    Raises:
        CnetError: if no chip is programmed.
    """
    chips = {name: _as_programmed(tile) for name, tile in named_tiles(model)}
    tensors = {name: weight for name, weight in chips.items() if weight is not None}
    if not tensors:
        raise CnetError(
            "no chip is programmed; call program(model, seed) first.",
            key="model",
            value="not programmed",
            expected="a programmed chip",
            fix="call program(model, seed) first",
        )
    return tensors_fingerprint(tensors)


def _as_programmed(tile: Any) -> Tensor | None:
    """Return the weights of a tile just after programming; None where no chip is programmed."""
    chip = getattr(tile, "chip", None)
    found: Tensor | None = (
        getattr(tile, "programmed_weights", None) if chip is None else chip.programmed
    )
    return found


def describe_network(model: nn.Module) -> list[str]:
    """Return a line for each module: name, class, and what it says of itself (size, stride)."""
    lines = []
    for name, module in model.named_modules():
        if ".analog_module" in f".{name}":
            continue
        # an analog layer also prints its training settings; its shapes stand in the weights
        extra = "" if isinstance(module, AnalogLayerBase) else module.extra_repr()
        geometry = [
            str(module.__dict__[key])
            for key in ("stride", "padding", "dilation", "groups", "padding_mode")
            if key in module.__dict__
        ]
        geometry += [] if extra else _unsaid(module)
        lines.append(f"{name} {type(module).__name__} {extra} {' '.join(geometry)}")
    return lines


def _unsaid(module: nn.Module) -> list[str]:
    """Return functions and flags of a module that says nothing of itself, such as ``norm_first``.

    Numbers are left out, as they may count calls; networks of this package are told by their names.
    """
    ours = any(kind.__module__.startswith("cnet_aihw.") for kind in type(module).__mro__)
    if ours or (isinstance(module, AnalogLayerBase) and not module.IS_CONTAINER):
        return []
    own = {n: v for n, v in vars(module).items() if n[0] != "_" and n != "training"}
    functions = {n: v for n, v in own.items() if isinstance(v, FunctionType | BuiltinFunctionType)}
    return [f"{n}={object_text(v)}" for n, v in functions.items()] + [
        n for n, value in own.items() if value is True
    ]


def describe_noise_models(model: nn.Module, noise_model: BaseNoiseModel | None) -> list[str]:
    """Return a line for each tile: the noise model of its chips, whatever training injects."""
    return [
        f"{name} {noise_model_id(noise_model or tile.rpu_config.noise_model)}"
        for name, layer in analog_layers(model).items()
        for tile in layer.analog_tiles()
    ]


def describe_periphery(model: nn.Module) -> list[str]:
    """Return a line for each tile: periphery, mapping, drift compensation and charge read-out."""
    return [
        f"{name} {config.forward} {config.mapping} {config.drift_compensation}{_readout(config)}"
        for name, layer in analog_layers(model).items()
        for config in (tile.rpu_config for tile in layer.analog_tiles())
    ]


def _charge(config: Any) -> Any:
    """Return the charge read-out of a configuration, also aihwkit's own, or None."""
    return getattr(config, "readout", None)


def _readout(config: Any) -> str:
    charge = _charge(config)
    return "" if charge is None else f" {charge}"
