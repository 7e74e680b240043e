"""Report of a conversion: what lies on crossbars, what stays digital, and why."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerReport:
    """Outcome of conversion for one layer that holds weights.

    Attributes:
        name: dotted name in the converted network.
        kind: class of the digital module; of a part of a module that is taken apart (attention, a
            recurrent network), that module's.
        weights: number of its weights, biases excluded; those that stay shared count in the first
            layer that has them.
        analog: whether it goes on a crossbar.
        reason: why it stays digital, or a note; empty where there is nothing to say.
    """

    name: str
    kind: str
    weights: int
    analog: bool
    reason: str


@dataclass(frozen=True)
class KindReport:
    """Weights of all layers of one kind.

    Attributes:
        kind: class of the digital modules.
        weights: number of their weights, biases excluded.
        analog: how many of them lie on crossbars.
    """

    kind: str
    weights: int
    analog: int


@dataclass(frozen=True)
class ConversionReport:
    """Every layer with weights of at least two dimensions, in the order of the network.

    Attributes:
        layers: the layers.
        unfolded: names of the modules that are taken apart into layers of their own.
    """

    layers: tuple[LayerReport, ...]
    unfolded: tuple[str, ...] = ()

    @property
    def analog(self) -> tuple[str, ...]:
        """Names of the layers on crossbars."""
        return tuple(layer.name for layer in self.layers if layer.analog)

    @property
    def digital(self) -> dict[str, str]:
        """Layers with weights that stay digital: name -> reason."""
        return {layer.name: layer.reason for layer in self.layers if not layer.analog}

    @property
    def weights(self) -> int:
        """Number of all weights, biases excluded."""
        return sum(layer.weights for layer in self.layers)

    @property
    def analog_weights(self) -> int:
        """Number of the weights on crossbars."""
        return sum(layer.weights for layer in self.layers if layer.analog)

    @property
    def analog_share(self) -> float:
        """Share of the weights that lie on crossbars, in [0, 1]."""
        return self.analog_weights / max(self.weights, 1)

    @property
    def kinds(self) -> tuple[KindReport, ...]:
        """Weights by kind of layer, the kind with most weights first."""
        names = dict.fromkeys(layer.kind for layer in self.layers)
        found = []
        for name in names:
            rows = [layer for layer in self.layers if layer.kind == name]
            analog = sum(row.weights for row in rows if row.analog)
            found.append(KindReport(name, sum(row.weights for row in rows), analog))
        return tuple(sorted(found, key=lambda row: -row.weights))

    def __str__(self) -> str:
        width = max((len(layer.name) for layer in self.layers), default=0)
        lines = [
            f"{layer.name:<{width}}  {'analog ' if layer.analog else 'digital'}  {layer.kind}"
            f" ({layer.weights:,} weights)" + (f": {layer.reason}" if layer.reason else "")
            for layer in self.layers
        ]
        lines += [f"{row.kind}: {_of(row.analog, row.weights)}" for row in self.kinds]
        return "\n".join([*lines, f"{_of(self.analog_weights, self.weights)} on crossbars"])


def _of(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,} weights ({100 * part / max(whole, 1):.1f} %)"
