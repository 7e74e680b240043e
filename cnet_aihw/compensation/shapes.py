"""What a layer looks like to a compensation: channels and dimensions."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from torch.nn.modules.conv import _ConvNd

from cnet_aihw.compensation.variants import CompensationVariant
from cnet_aihw.runtime.errors import CnetError


@dataclass(frozen=True)
class LayerShape:
    """Channels and dimensions of a layer."""

    dims: int
    """Dimensions it slides over: 0 linear, 1 to 3 convolution (3 cannot be compensated)."""

    in_channels: int
    """Channels (features) read."""

    out_channels: int
    """Channels (features) given, C."""

    def channels_read(self, variant: CompensationVariant) -> int:
        """Return how many channels a generator reads."""
        x, y = self.in_channels, self.out_channels
        return {"x": x, "y": y, "xy": x + y}[variant.reads]


def layer_shape(layer: nn.Module) -> LayerShape:
    """Return the shape of a linear layer or convolution, analog or digital.

    Raises:
        CnetError: if it is neither.
    """
    if isinstance(layer, _ConvNd) and len(layer.kernel_size) <= 2:
        return LayerShape(len(layer.kernel_size), layer.in_channels, layer.out_channels)
    if isinstance(layer, nn.Linear):
        return LayerShape(0, layer.in_features, layer.out_features)
    raise CnetError(
        f"{type(layer).__name__} cannot be compensated; a linear layer or a 1d or 2d convolution "
        "can."
    )


def filters(shape: LayerShape, ratio: float) -> int:
    """Return the number of generator filters m at a ratio: at least one, none at ratio 0."""
    return max(1, round(ratio * shape.out_channels)) if ratio > 0 else 0
