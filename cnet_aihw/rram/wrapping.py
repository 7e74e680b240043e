"""The base of what wraps an analog layer, so that the layer keeps its name inside the wrapper."""

from __future__ import annotations

from typing import Any

from aihwkit.nn.modules.base import AnalogLayerBase
from torch import nn

WRAPPED = "base_layer"


class LayerWrapper(nn.Module):
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

    def __getattr__(self, name: str) -> Any:
        """Look an attribute up here, then in the layer."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == WRAPPED:
                raise
            return getattr(self.base_layer, name)


def without_wrappers(model: nn.Module, name: str) -> str:
    """Return the name that something inside the model has without its wrappers.

    Args:
        model: the model.
        name: dotted name of a module, parameter or buffer in it.
    """
    parts = []
    module: nn.Module | None = model
    for part in name.split("."):
        if not (isinstance(module, LayerWrapper) and part == WRAPPED):
            parts.append(part)
        module = None if module is None else module._modules.get(part)
    return ".".join(parts)
