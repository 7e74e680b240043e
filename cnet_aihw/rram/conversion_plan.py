"""Plan of a conversion: which layers go on crossbars, which stay digital, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from aihwkit.nn.modules.base import AnalogLayerBase
from aihwkit.simulator.parameters.base import RPUConfigBase
from torch import nn

from cnet_aihw.rram.conversion_checks import reader, reason_to_stay_digital, weight_holders
from cnet_aihw.rram.conversion_report import ConversionReport, LayerReport
from cnet_aihw.rram.converters import Kind, converters_of, names_of, unfolded, unfolding
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import bad_choice

TIED = ("keep_digital", "untie")
"""Choices for layers whose weights are shared with others."""


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
    converters: Mapping[Any, Any] | None = None,
    tied: str = "keep_digital",
) -> ConversionReport:
    """Say which layers would become analog, which would stay digital, and why; nothing is changed.

    Args:
        model: the digital network.
        rpu_config: the configuration that would be used.
        exclude: layers to leave digital, names or patterns.
        converters: as for :func:`convert_to_analog`.
        tied: as for :func:`convert_to_analog`.

    Raises:
        CnetError: if an excluded name matches no layer, a name in ``converters`` no class of a
            layer, or ``tied`` is unknown.
    """
    if tied not in TIED:
        raise bad_choice("tied", tied, TIED)
    table = converters_of(rpu_config, converters)
    sharing = shared_parameters(model)
    apart = {
        name: parts
        for name, module in model.named_modules()
        if (parts := _parts(name, module, table, rpu_config, sharing)) is not None
    }
    _check_kinds(model, apart, table, rpu_config, converters or {})
    names = [n for n, _ in model.named_modules() if n]
    names += [part.name for parts in apart.values() for part in parts]
    excluded = match_names(names, exclude, "exclude") if exclude else set()
    rows: list[LayerReport] = []
    taken: list[str] = []
    for name, module in model.named_modules():
        if any(_is_below(name, other) for other in taken):
            continue
        if isinstance(module, AnalogLayerBase) and not module.IS_CONTAINER:
            count = module.get_weights()[0].numel()
            kind = type(module).__name__
            rows.append(LayerReport(name, kind, count, True, "it is on a crossbar already"))
        parts = [] if name in excluded else apart.get(name, [])
        found = [part.row(type(module).__name__, excluded) for part in parts]
        if any(row.analog for row in found):
            rows += found
            taken.append(name)
    seen: set[int] = set()
    for name, module, weights in weight_holders(model):
        if any(name == other or _is_below(name, other) for other in taken):
            continue
        reason = "named in exclude" if name in excluded else ""
        if not reason and name in apart:
            reason = "all of its parts stay digital"
        reason = reason or reason_to_stay_digital(module, table, rpu_config)
        if not reason and (parent := reader(model, name)):
            reason = f"{parent} computes with its weight itself, past any analog layer"
        if not reason and name in sharing and tied == "keep_digital":
            reason = _tie(sharing[name])
        if not reason and unfolding(module, table) is not None:
            reason = "it shares weights with others, so that it is not taken apart"
        new = weights if not reason else [w for w in weights if id(w) not in seen]
        if reason:
            seen |= {id(weight) for weight in weights}
        count = sum(weight.numel() for weight in new)
        rows.append(LayerReport(name, type(module).__name__, count, not reason, reason))
    order = {name: place for place, (name, _) in enumerate(model.named_modules())}
    owners = {row.name: _owner(row.name, taken) for row in rows}
    rows.sort(key=lambda row: order[owners[row.name]])  # parts stay in their own order
    return ConversionReport(tuple(rows), tuple(taken))


def _check_kinds(
    model: nn.Module,
    apart: Iterable[str],
    table: Mapping[Kind, Any],
    rpu_config: RPUConfigBase,
    converters: Mapping[Any, Any],
) -> None:
    """Refuse a name that no layer's class has; classes may stand for layers of other networks."""
    present = dict(model.named_modules())
    known = _kind_names(present.values())
    names = {kind for kind in converters if isinstance(kind, str)} - known
    for name in apart if names else ():
        made = unfolded(present[name], unfolding(present[name], table), rpu_config)
        known |= _kind_names(made.modules())
    for name in sorted(names - known):
        near = get_close_matches(name, known, n=3, cutoff=0.0)
        raise CnetError(
            f"converters has {name!r}, the class of no layer; nearest: "
            f"{', '.join(map(repr, near))}.",
            key=f"converters.{name}",
            value=name,
            expected=tuple(near),
        )


def _kind_names(modules: Iterable[nn.Module]) -> set[str]:
    return {name for module in modules for name in names_of(type(module))}


def shared_parameters(model: nn.Module) -> dict[str, tuple[str, str]]:
    """Return which modules share parameters of their own with others.

    Args:
        model: the network; a module that is registered under several names is one.

    Returns:
        Name of a module -> its first shared parameter's name, and that of the first other module.
    """
    holders: dict[int, list[tuple[str, str]]] = {}
    for name, module in model.named_modules():
        for part, parameter in module._parameters.items():
            if parameter is not None:
                holders.setdefault(id(parameter), []).append((name, part))
    found: dict[str, tuple[str, str]] = {}
    for same in holders.values():
        for name, part in same:
            other = next((n for n, _ in same if n != name), None)
            if other is not None:
                found.setdefault(name, (part, other))
    return found


@dataclass(frozen=True)
class _Part:
    """One layer of a module that is taken apart."""

    name: str
    """Name in the converted network."""

    weights: int
    """Number of its weights."""

    reason: str
    """Why it stays digital; empty where it does not."""

    def row(self, kind: str, excluded: set[str]) -> LayerReport:
        reason = "named in exclude" if self.name in excluded else self.reason
        return LayerReport(self.name, kind, self.weights, not reason, reason)


def _parts(
    name: str,
    module: nn.Module,
    table: Mapping[Kind, Any],
    rpu_config: RPUConfigBase,
    sharing: Mapping[str, Any],
) -> list[_Part] | None:
    """Return the layers of a module that can be taken apart; None of any other."""
    converter = unfolding(module, table)
    inside = {n for n in sharing if n == name or _is_below(n, name)}
    if converter is None or inside or reason_to_stay_digital(module, table, rpu_config):
        return None
    made = unfolded(module, converter, rpu_config)
    return [
        _Part(
            ".".join(filter(None, (name, part))),
            sum(weight.numel() for weight in weights),
            _reason_of_part(made, part, layer, table, rpu_config),
        )
        for part, layer, weights in weight_holders(made)
    ]


def _reason_of_part(
    made: nn.Module,
    part: str,
    layer: nn.Module,
    table: Mapping[Kind, Any],
    rpu_config: RPUConfigBase,
) -> str:
    if unfolding(layer, table) is not None:
        return "a module that is taken apart has one inside that would be, too"
    reason = reason_to_stay_digital(layer, table, rpu_config)
    if not reason and (parent := reader(made, part)):
        reason = f"{parent} computes with its weight itself, past any analog layer"
    return reason


def _tie(shared: tuple[str, str]) -> str:
    part, other = shared
    return (
        f"its {part} is shared with {other}, and tied='keep_digital'; tied='untie' puts a copy on "
        "a crossbar"
    )


def _is_below(name: str, other: str) -> bool:
    return other != name and name.startswith(f"{other}." if other else "")


def _owner(name: str, taken: Sequence[str]) -> str:
    """Return the name that a row's module has in the digital network."""
    return next((n for n in taken if n == name or _is_below(name, n)), name)


def tied_apart(model: nn.Module, report: ConversionReport) -> Iterator[tuple[str, str]]:
    """Yield each shared parameter that gets a crossbar of its own, and who has it too.

    Args:
        model: the digital network.
        report: its plan.
    """
    analog = set(report.analog)
    for name, (part, other) in shared_parameters(model).items():
        if name in analog:
            yield f"{name}.{part}".lstrip("."), other
