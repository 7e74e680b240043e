"""Put correctors into a model, switch them off and on, and take them out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from cnet_aihw.compensation.corrector import Corrector, LayerShape, layer_shape
from cnet_aihw.compensation.digital import Digital
from cnet_aihw.compensation.generator import PAPER
from cnet_aihw.compensation.placement import DIGITAL, Placement, check_placement
from cnet_aihw.rram import LayerWrapper, analog_layers, snapshot, without_wrappers
from cnet_aihw.rram.references import exchange_references
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.origin import fault
from cnet_aihw.runtime.random_state import derive_seed, seeded_rng
from cnet_aihw.runtime.typed import checked


class CompensatedLayer(LayerWrapper):
    """Analog layer with a corrector.

    Args:
        base_layer: the analog layer.
        corrector: kind of corrector.
        corrector_module: module that the corrector built for this layer.
        ratio: ratio, size or ``"digital"``, as in the placement.

    Attributes:
        enabled: whether the output is corrected; if not, the base layer computes as it is.
    """

    def __init__(
        self,
        base_layer: Any,
        corrector: Corrector,
        corrector_module: nn.Module,
        ratio: float | str,
    ) -> None:
        super().__init__(base_layer)
        self.corrector, self.corrector_module = corrector, corrector_module
        self.ratio: float | str = ratio
        self.enabled = True

    @property
    def on_crossbar(self) -> bool:
        """Whether the layer computes on a crossbar."""
        return self.corrector.on_crossbar or not self.enabled

    @property
    def size(self) -> int:
        """Size of the corrector."""
        if self.ratio == DIGITAL:
            return 0
        return self.corrector.size(layer_shape(self.base_layer), self.ratio)

    def extra_repr(self) -> str:
        """Name the corrector, also for what decides whether a folder belongs to this network."""
        return self.corrector.label()

    def forward(self, x: Tensor, output_size: Any = None) -> Tensor:
        """Compute the layer, then correct its output.

        Args:
            x: input of the layer.
            output_size: sizes wanted of a transposed convolution, where its stride leaves several.
        """
        if not self.enabled:
            return self.base_output(x, output_size)
        of_layer = self.base_output if self.corrector.on_crossbar else self.digital_output
        corrected: Tensor = self.corrector_module(x, of_layer(x, output_size))
        return corrected


@checked
@torch.inference_mode(False)  # whose parameters could never be trained
def compensate(
    model: nn.Module, placement: Placement, corrector: Corrector = PAPER, seed: int = 0
) -> nn.Module:
    """Put correctors beside the layers of a placement; no output changes until they are fitted.

    Chips keep their seeds: a layer has the same part of a chip before and after.

    Args:
        model: converted model; changed in place.
        placement: layer -> ratio, size or ``"digital"``.
        corrector: kind of corrector of the layers with a ratio.
        seed: seed of the correctors' first weights; each layer's depend on its name alone.

    Returns:
        The model.

    Raises:
        CnetError: if the placement or the corrector does not fit the model, or the model is
            compensated already.
    """
    if compensated_layers(model):
        raise CnetError(
            "the model is compensated already; call remove_compensation(model) first.",
            key="model",
            fix="call remove_compensation(model) first",
        )
    check_placement(placement, model)
    layers = analog_layers(model)
    wrappers: dict[nn.Module, nn.Module] = {}
    for name, ratio in placement.items():
        if ratio == 0.0:
            continue
        layer = cast(nn.Module, layers[name])
        kind = Digital() if ratio == DIGITAL else corrector
        shape = layer_shape(layer)
        size = 0 if ratio == DIGITAL else kind.size(shape, ratio)
        with seeded_rng(derive_seed(seed, "compensation", name)):
            module = _built(kind, shape, size).to(next(layer.parameters()).device)
        wrapper = CompensatedLayer(layer, kind, module, ratio if kind.on_crossbar else DIGITAL)
        wrappers[layer] = wrapper.train(layer.training)
    replace_modules(model, wrappers)
    return model


def _built(corrector: Corrector, shape: LayerShape, size: int) -> nn.Module:
    kind = type(corrector).__name__
    try:
        module: Any = corrector.build(shape, size)
    except CnetError:
        raise
    except Exception as error:
        what = f"cannot build a module for {shape} of size {size} ({fault(error)}); mend it"
        raise CnetError(f"{kind} {what}.", key="corrector", value=kind) from error
    if not isinstance(module, nn.Module):
        expected = "a torch.nn.Module"
        raise CnetError(
            f"{kind}.build returns {type(module).__name__}; expected {expected}.",
            key="corrector",
            value=type(module).__name__,
            expected=expected,
        )
    return module


@checked
def remove_compensation(model: nn.Module) -> nn.Module:
    """Take all correctors out; the base model is back, bit for bit, under its old names.

    Args:
        model: a compensated model; changed in place.

    Returns:
        The model.
    """
    wrappers = compensated_layers(model).values()
    replace_modules(model, {wrapper: cast(nn.Module, wrapper.base_layer) for wrapper in wrappers})
    return model


@checked
def enable_compensation(model: nn.Module, enabled: bool = True) -> None:
    """Switch all correctors of a model on or off; off, the base model computes as it is."""
    for wrapper in compensated_layers(model).values():
        wrapper.enabled = enabled


@checked
@contextmanager
def compensation_disabled(model: nn.Module) -> Iterator[nn.Module]:
    """Switch all correctors off inside the block."""
    before = {wrapper: wrapper.enabled for wrapper in compensated_layers(model).values()}
    enable_compensation(model, False)
    try:
        yield model
    finally:
        for wrapper, enabled in before.items():
            wrapper.enabled = enabled


@checked
def compensated_layers(model: nn.Module) -> dict[str, CompensatedLayer]:
    """Return the layers with correctors by name."""
    return {
        without_wrappers(model, name): module
        for name, module in model.named_modules()
        if isinstance(module, CompensatedLayer)
    }


@checked
def compensation_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters of all correctors, such as ``layer.generator.weight``."""
    return {
        f"{name}.{parameter}": tensor
        for name, wrapper in compensated_layers(model).items()
        for parameter, tensor in wrapper.corrector_module.named_parameters()
    }


def base_snapshot(model: nn.Module) -> dict[str, Tensor]:
    """Return the snapshot of a model without what its correctors hold."""
    correctors = tuple(f"{name}.corrector_module." for name in compensated_layers(model))
    return {n: tensor for n, tensor in snapshot(model).items() if not n.startswith(correctors)}


@checked
def placement_of(model: nn.Module) -> Placement:
    """Return the placement of a model's correctors; empty without any."""
    return Placement({name: w.ratio for name, w in compensated_layers(model).items()})


def replace_modules(model: nn.Module, new_of: Mapping[nn.Module, nn.Module]) -> None:
    """Put modules in place of others wherever these are registered or kept in a list.

    The network is walked once, however many they are: this is done for each chip.

    Args:
        model: the network, changed in place.
        new_of: module -> the one that takes its place, which may hold it.
    """
    if not new_of:
        return
    inside = set(new_of.values())
    for parent in [m for m in model.modules() if m not in inside]:
        for name, child in parent._modules.items():
            if child is not None and child in new_of:
                parent._modules[name] = new_of[child]
    exchange_references(model, new_of)
