"""The verbs: put compensation into a model, switch it off and on, take it out, save and load it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from aihwkit.nn.modules.base import AnalogLayerBase
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from cnet_aihw.compensation.modules import Compensation
from cnet_aihw.compensation.placement import DIGITAL, Placement, check_placement
from cnet_aihw.compensation.shapes import layer_shape
from cnet_aihw.compensation.variants import DEFAULT, CompensationVariant
from cnet_aihw.rram import LayerWrapper, analog_layers
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.random_state import derive_seed, seeded_rng
from cnet_aihw.runtime.records import replace_file

_HEADER = "cnet_aihw_compensation"


class CompensatedLayer(LayerWrapper):
    """An analog layer whose output a compensation corrects.

    Attributes:
        base_layer: the analog layer.
        compensation: generator and compensator.
        ratio: generator filters / layer filters.
        enabled: whether the output is corrected.
    """

    def __init__(self, base_layer: Any, compensation: Compensation, ratio: float) -> None:
        super().__init__(base_layer)
        self.compensation, self.ratio, self.enabled = compensation, ratio, True

    def forward(self, x: Tensor) -> Tensor:
        """Compute the layer, then correct its output."""
        y = self.base_layer(x)
        return self.compensation(x, y) if self.enabled else y


class DigitalLayer(LayerWrapper):
    """An analog layer that is computed digitally, with its wanted weights.

    Attributes:
        base_layer: the analog layer, back on the crossbar when not enabled.
        enabled: whether it is computed digitally.
    """

    def __init__(self, base_layer: Any) -> None:
        super().__init__(base_layer)
        self.enabled = True

    @property
    def on_crossbar(self) -> bool:
        """Whether the layer computes on a crossbar: where this is not enabled."""
        return not self.enabled

    def forward(self, x: Tensor) -> Tensor:
        """Compute the layer without variation and periphery."""
        if self.enabled and isinstance(self.base_layer, AnalogLayerBase):
            return self.base_layer.digital_forward(x)
        return self.base_layer(x)  # on the crossbar, or plain torch after conversion to digital


def compensate(
    model: nn.Module,
    placement: Placement,
    variant: CompensationVariant = DEFAULT,
    seed: int = 0,
) -> nn.Module:
    """Wrap the layers that a placement names; no output changes until compensation is fitted.

    Chips keep their seeds: a layer has the same part of a chip before and after.

    Args:
        model: converted model with nominal weights; changed in place.
        placement: layer -> ratio, or ``"digital"``.
        variant: how generators and compensators are built.
        seed: seed of the generators' first weights; each layer's depend on its name alone.

    Returns:
        The model.

    Raises:
        CnetError: if the placement does not fit the model, a chip is programmed, or the model is
            compensated already.
    """
    if _wrappers(model):
        raise CnetError("the model is compensated already; call remove_compensation(model) first.")
    check_placement(placement, model)
    layers = analog_layers(model)
    for name, ratio in placement.items():
        layer = cast(nn.Module, layers[name])
        if ratio == 0.0:
            continue
        if isinstance(ratio, str):
            replace_module(model, layer, DigitalLayer(layer).train(layer.training))
            continue
        with seeded_rng(derive_seed(seed, "compensation", name)):
            compensation = Compensation(layer_shape(layer), ratio, variant)
        compensation.to(next(layer.parameters()).device)
        wrapper = CompensatedLayer(layer, compensation, ratio)
        replace_module(model, layer, wrapper.train(layer.training))
    return model


def remove_compensation(model: nn.Module) -> nn.Module:
    """Take all compensation out; the base model is back, bit for bit, under its old names.

    Args:
        model: a compensated model; changed in place.

    Returns:
        The model.

    Raises:
        CnetError: if a chip is programmed and a layer is digital, which would be nominal then.
    """
    for wrapper in _wrappers(model).values():
        replace_module(model, wrapper, cast(nn.Module, wrapper.base_layer))
    return model


def enable_compensation(model: nn.Module, enabled: bool = True) -> None:
    """Switch all compensation of a model on or off; off, the base model computes as it is."""
    for wrapper in _wrappers(model).values():
        wrapper.enabled = enabled


@contextmanager
def compensation_disabled(model: nn.Module) -> Iterator[nn.Module]:
    """Switch all compensation off inside the block."""
    before = {name: wrapper.enabled for name, wrapper in _wrappers(model).items()}
    enable_compensation(model, False)
    try:
        yield model
    finally:
        for name, wrapper in _wrappers(model).items():
            wrapper.enabled = before[name]


def compensation_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters of all compensation, ``layer.generator.weight`` -> parameter."""
    return {
        f"{name}.{parameter}": tensor
        for name, wrapper in _wrappers(model).items()
        if isinstance(wrapper, CompensatedLayer)
        for parameter, tensor in wrapper.compensation.named_parameters()
    }


def placement_of(model: nn.Module) -> Placement:
    """Return the placement that a model is compensated by; empty without compensation."""
    return Placement(
        {
            name: wrapper.ratio if isinstance(wrapper, CompensatedLayer) else DIGITAL
            for name, wrapper in _wrappers(model).items()
        }
    )


def save_compensation(model: nn.Module, path: str | Path) -> None:
    """Save only the compensation: its weights, the placement and the variant (safetensors).

    Args:
        model: a compensated model.
        path: the file; a kill leaves the old one or the new one.

    Raises:
        CnetError: if the model is not compensated.
    """
    wrappers = _wrappers(model)
    if not wrappers:
        raise CnetError("the model has no compensation to save; call compensate(model, ...) first.")
    variants = [
        w.compensation.variant for w in wrappers.values() if isinstance(w, CompensatedLayer)
    ]
    variant = variants[0] if variants else DEFAULT
    meta = {"placement": dict(placement_of(model)), "variant": asdict(variant)}
    tensors = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in compensation_parameters(model).items()
    }
    header = {_HEADER: json.dumps(meta)}
    replace_file(Path(path), lambda temporary: save_file(tensors, temporary, header))


def load_compensation(model: nn.Module, path: str | Path) -> nn.Module:
    """Compensate a model as a file of :func:`save_compensation` says, fitted weights included.

    Args:
        model: the converted model, without compensation; changed in place.
        path: the file.

    Returns:
        The model.

    Raises:
        CnetError: if the file is no compensation or does not fit the model.
    """
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {})[_HEADER])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise CnetError(
            f"{path} is no compensation saved by cnet_aihw ({error}); give a file of "
            "save_compensation."
        ) from error
    compensate(model, Placement(meta["placement"]), CompensationVariant(**meta["variant"]))
    parameters = compensation_parameters(model)
    shapes = {name: tuple(p.shape) for name, p in parameters.items()}
    saved = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if shapes != saved:
        remove_compensation(model)
        name = next(n for n in {**shapes, **saved} if shapes.get(n) != saved.get(n))
        raise CnetError(
            f"{path} has {name!r} as {saved.get(name)} where this model needs {shapes.get(name)}; "
            "it belongs to another network."
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])
    return model


def _wrappers(model: nn.Module) -> dict[str, CompensatedLayer | DigitalLayer]:
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, CompensatedLayer | DigitalLayer)
    }


def _digital(model: nn.Module) -> list[DigitalLayer]:
    return [w for w in _wrappers(model).values() if isinstance(w, DigitalLayer)]


def replace_module(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put one module in place of another wherever it is registered."""
    parents = [m for m in model.modules() if m is not new]
    for parent in parents:
        for name, child in parent._modules.items():
            if child is old:
                parent._modules[name] = new
