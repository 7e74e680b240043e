"""Analog layers of a network, by name; and the base of what wraps one without changing its name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from aihwkit.nn.modules.base import AnalogLayerBase
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from cnet_aihw.rram.crossbar.keyword_input import KeywordInput
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.typed import checked

WRAPPED = "base_layer"


class LayerWrapper(KeywordInput, nn.Module):
    """Holds an analog layer and does something beside it.

    The layer counts under the wrapper's name everywhere (chips, snapshots, reports), so that
    wrapping changes no chip. Attributes that the wrapper does not have are the layer's.

    Args:
        base_layer: the analog layer.
    """

    base_layer: AnalogLayerBase

    def __init__(self, base_layer: AnalogLayerBase) -> None:
        super().__init__()
        self.base_layer = base_layer

    @property
    def on_crossbar(self) -> bool:
        """Whether the layer, as wrapped now, computes on a crossbar."""
        return True

    def base_output(self, x: Tensor, output_size: Any = None) -> Tensor:
        """Compute the layer where it is.

        Args:
            x: input of the layer.
            output_size: sizes wanted of a transposed convolution, where its stride leaves several.
        """
        output: Tensor = self.base_layer(x, **_sized(output_size))
        return output

    def digital_output(self, x: Tensor, output_size: Any = None) -> Tensor:
        """Compute the layer with its nominal weights, without variation and periphery."""
        layer: Any = self.base_layer
        if not isinstance(layer, AnalogLayerBase):  # plain torch, after conversion to digital
            return self.base_output(x, output_size)
        output: Tensor = layer.digital_forward(x, **_sized(output_size))
        return output

    def __getattr__(self, name: str) -> Any:
        """Look an attribute up here, then in the layer."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == WRAPPED:
                raise
            return getattr(self.base_layer, name)


def _sized(output_size: Any) -> dict[str, Any]:
    return {} if output_size is None else {"output_size": output_size}


def without_wrappers(model: nn.Module, name: str) -> str:
    """Return the name that something inside the model has without its wrappers.

    Neither a :class:`LayerWrapper` counts nor what torch puts around whole networks
    (``DataParallel``, ``torch.compile`` and the like), so that none of them changes a chip.

    Args:
        model: the model.
        name: dotted name of a module, parameter or buffer in it.
    """
    parts = []
    module: nn.Module | None = model
    for part in name.split("."):
        if part != _wrapped_in(module):
            parts.append(part)
        module = None if module is None else module._modules.get(part)
    return ".".join(parts)


def _wrapped_in(module: nn.Module | None) -> str | None:
    """Return the attribute of a wrapper that holds what it wraps; None for other modules."""
    if isinstance(module, LayerWrapper):
        return WRAPPED
    if isinstance(module, nn.DataParallel | DistributedDataParallel | AveragedModel):
        return "module"
    return "_orig_mod" if is_compiled(module) else None


def is_compiled(module: nn.Module | None) -> bool:
    """Return whether a module is what ``torch.compile`` put around another one."""
    # that imports much; where it was not done nothing is compiled
    dynamo: Any = sys.modules.get("torch._dynamo.eval_frame")
    return dynamo is not None and isinstance(module, dynamo.OptimizedModule)


@checked
def find_module(model: nn.Module, name: str) -> nn.Module:
    """Return a module by the name that it has without wrappers; of a wrapped one the wrapper.

    Raises:
        CnetError: if there is none of this name.
    """
    for own, module in model.named_modules():  # a wrapper comes before what it wraps
        if without_wrappers(model, own) == name:
            return module
    raise CnetError(
        f"{type(model).__name__} has no module {name!r}.", key=name, value=type(model).__name__
    )


@checked
def analog_layers(model: nn.Module) -> dict[str, AnalogLayerBase]:
    """Return the analog layers, name -> layer, in the order of registration; a shared layer once.

    A wrapped layer has the wrapper's name; one that its wrapper computes digitally is none.

    Raises:
        CnetError: if there is none.
    """
    layers = find_analog_layers(model)
    if not layers:
        raise CnetError(
            f"{type(model).__name__} has no analog layer; convert it first: "
            "cnet_aihw.convert_to_analog(model, RRAMRPUConfig()).",
            key="model",
            value=type(model).__name__,
            expected="analog layers",
            fix="convert it first: cnet_aihw.convert_to_analog(model, RRAMRPUConfig())",
        )
    return layers


def find_analog_layers(model: nn.Module) -> dict[str, AnalogLayerBase]:
    """Return the analog layers as :func:`analog_layers` does, also where there is none."""
    layers = {
        without_wrappers(model, name): module
        for name, module in model.named_modules()
        if isinstance(module, AnalogLayerBase) and not module.IS_CONTAINER
    }
    for name, module in model.named_modules():
        if isinstance(module, LayerWrapper) and not module.on_crossbar:
            layers.pop(name, None)
    return layers


def named_tiles(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield the tiles of all analog layers as ``layer/index``."""
    for name, layer in find_analog_layers(model).items():
        for index, tile in enumerate(layer.analog_tiles()):
            yield f"{name}/{index}", tile
