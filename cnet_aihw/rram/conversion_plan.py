"""Plan of a conversion: which layers go on crossbars, which stay digital, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

from aihwkit.nn import AnalogSequential
from aihwkit.nn.conversion import _DEFAULT_CONVERSION_MAP
from aihwkit.nn.modules.base import AnalogLayerBase
from aihwkit.simulator.parameters.base import RPUConfigBase
from torch import nn

from cnet_aihw.rram.conversion_checks import reader, reason_to_stay_digital, weight_holders
from cnet_aihw.rram.crossbar.configs import RRAMRPUConfig
from cnet_aihw.rram.crossbar.convolutions import RRAMConv1d, RRAMConv2d
from cnet_aihw.rram.crossbar.layers import RRAMLinear
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.typed import checked

CONVERSION_MAP: dict[type[nn.Module], type] = {
    nn.Linear: RRAMLinear,
    nn.Conv1d: RRAMConv1d,
    nn.Conv2d: RRAMConv2d,
    nn.Sequential: AnalogSequential,
}
"""Digital layer -> analog layer; also for the stock function: ``convert_to_analog(...,
conversion_map=CONVERSION_MAP)``.
"""


@dataclass(frozen=True)
class LayerReport:
    """Outcome of conversion for one layer that holds weights.

    Attributes:
        name: dotted name in the digital network.
        kind: class of the digital layer.
        weights: number of its weights, biases excluded.
        analog: whether it goes on a crossbar.
        reason: why it stays digital, or a note; empty where there is nothing to say.
    """

    name: str
    kind: str
    weights: int
    analog: bool
    reason: str


@dataclass(frozen=True)
class ConversionReport:
    """Every layer with weights of at least two dimensions, in the order of the network."""

    layers: tuple[LayerReport, ...]

    @property
    def analog(self) -> tuple[str, ...]:
        """Names of the layers on crossbars."""
        return tuple(layer.name for layer in self.layers if layer.analog)

    @property
    def digital(self) -> dict[str, str]:
        """Layers with weights that stay digital: name -> reason."""
        return {layer.name: layer.reason for layer in self.layers if not layer.analog}

    @property
    def analog_share(self) -> float:
        """Share of the weights that lie on crossbars, in [0, 1]."""
        total = sum(layer.weights for layer in self.layers)
        return sum(layer.weights for layer in self.layers if layer.analog) / max(total, 1)

    def __str__(self) -> str:
        width = max((len(layer.name) for layer in self.layers), default=0)
        lines = [
            f"{layer.name:<{width}}  {'analog ' if layer.analog else 'digital'}  {layer.kind}"
            f" ({layer.weights:,} weights)" + (f": {layer.reason}" if layer.reason else "")
            for layer in self.layers
        ]
        total = f"{len(self.analog)} of {len(lines)} layers are analog"
        return "\n".join([*lines, f"{total}, with {100 * self.analog_share:.1f} % of the weights"])


@checked
def match_names(names: Sequence[str], patterns: Sequence[str], what: str) -> set[str]:
    """Return the names that one of the patterns matches.

    Args:
        names: dotted names of layers.
        patterns: names or shell patterns such as ``features.*``; a name also stands for all below
            it.
        what: where the patterns come from, for the message.

    Raises:
        CnetError: if a pattern matches nothing; the message gives the nearest names.
    """
    found: set[str] = set()
    for pattern in patterns:
        hits = {n for n in names if fnmatchcase(n, pattern) or n.startswith(f"{pattern}.")}
        if not hits:
            near = get_close_matches(pattern, names, n=3, cutoff=0.0)
            raise CnetError(
                f"{what} has {pattern!r}, which matches no layer; nearest: "
                f"{', '.join(map(repr, near))}.",
                key=what,
                value=pattern,
            )
        found |= hits
    return found


@checked
def plan_conversion(
    model: nn.Module,
    rpu_config: RPUConfigBase,
    exclude: Sequence[str] = (),
    conversion_map: Mapping[type[nn.Module], type] | None = None,
) -> ConversionReport:
    """Say which layers would become analog, which would stay digital, and why; nothing is changed.

    Args:
        model: the digital network.
        rpu_config: the configuration that would be used.
        exclude: layers to leave digital, names or patterns.
        conversion_map: as for :func:`convert_to_analog`.

    Raises:
        CnetError: if an excluded name matches no layer.
    """
    conversion_map = conversion_map_of(rpu_config, conversion_map)
    modules = dict(model.named_modules())
    excluded = match_names([n for n in modules if n], exclude, "exclude") if exclude else set()
    owners: dict[int, str] = {}
    rows: list[LayerReport] = []
    for name, module in modules.items():
        if isinstance(module, AnalogLayerBase) and not module.IS_CONTAINER:
            count = module.get_weights()[0].numel()
            kind = type(module).__name__
            rows.append(LayerReport(name, kind, count, True, "it is on a crossbar already"))
    for name, module, weights in weight_holders(model):
        reason = "named in exclude" if name in excluded else ""
        reason = reason or reason_to_stay_digital(module, conversion_map)
        if not reason and (parent := reader(model, name)):
            reason = f"{parent} computes with its weight itself, past any analog layer"
        for weight in weights:
            owner = owners.setdefault(id(weight), name)
            if owner != name and not reason:
                reason = f"its weight is shared with {owner}"
                if any(row.analog and row.name == owner for row in rows):
                    reason += ", which goes on a crossbar; from here on it has a copy"
        analog = not reason
        count = sum(weight.numel() for weight in weights)
        rows.append(LayerReport(name, type(module).__name__, count, analog, reason))
    order = {name: place for place, name in enumerate(modules)}
    return ConversionReport(tuple(sorted(rows, key=lambda row: order[row.name])))


def conversion_map_of(
    rpu_config: RPUConfigBase, further: Mapping[type[nn.Module], type] | None = None
) -> dict[type[nn.Module], type]:
    """Return digital class -> analog class for a configuration, with a user's further ones."""
    ours = isinstance(rpu_config, RRAMRPUConfig)
    return {**(CONVERSION_MAP if ours else _DEFAULT_CONVERSION_MAP), **(further or {})}
