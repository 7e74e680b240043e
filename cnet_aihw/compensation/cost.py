"""Costs of compensation, from shapes alone: the one place where overhead is computed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cnet_aihw.compensation.corrector import CORRECTABLE, Corrector, cost_of, with_size
from cnet_aihw.compensation.digital import Digital
from cnet_aihw.compensation.generator import PAPER
from cnet_aihw.compensation.network import LayerCost, NetworkCost, OtherCost
from cnet_aihw.compensation.placement import DIGITAL, Placement
from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.typed import checked


@dataclass(frozen=True)
class CompensationCost:
    """Cost of a placement."""

    weights: dict[str, int]
    """Digital weights by layer, biases included."""

    macs: dict[str, int]
    """Digital multiply-accumulates per sample by layer."""

    overhead_weights: float
    """All weights added / weights of the network."""

    overhead_macs: float
    """All multiply-accumulates added / those of the network."""


@checked
def compensation_cost(
    network: NetworkCost, placement: Placement, corrector: Corrector = PAPER
) -> CompensationCost:
    """Count what a placement adds, from shapes alone: nothing is built or run.

    Args:
        network: costs of the network.
        placement: layer -> ratio or size, or ``"digital"``, which costs the layer itself.
        corrector: kind of corrector of the layers with a ratio.

    Raises:
        CnetError: if the placement names a layer that the network does not run, or gives a ratio to
            a convolution over three dimensions.
    """
    weights, macs = {}, {}
    _check_known(network, placement)
    for name, ratio in placement.items():
        layer = network.layers[name]
        kind = Digital() if ratio == DIGITAL else corrector
        if ratio != DIGITAL and not layer.shape.correctable:
            raise CnetError(
                f"the placement gives {name!r} the ratio {ratio}, but it is a convolution over "
                f"{layer.shape.dims} dimensions; expected {CORRECTABLE}.",
                key=f"placement.{name}",
                value=ratio,
                expected=CORRECTABLE,
            )
        weights[name] = macs[name] = 0
        if ratio != 0.0:
            size = 0 if ratio == DIGITAL else kind.size(layer.shape, ratio)
            cost = cost_of(kind, layer.shape, size)
            weights[name], macs[name] = cost.weights, cost.macs * layer.positions
            if not kind.on_crossbar:
                macs[name] = layer.macs
    return CompensationCost(
        weights,
        macs,
        sum(weights.values()) / network.weights,
        sum(macs.values()) / network.macs,
    )


@dataclass(frozen=True)
class OffCrossbarCost:
    """Cost of the weights that are not on crossbars."""

    weights: dict[str, int]
    """Weights by module, biases included."""

    macs: dict[str, int | None]
    """Multiply-accumulates per sample by module; None: unknown."""

    overhead_weights: float
    """All of these weights / weights of the network."""

    overhead_macs: float | None
    """All of these multiply-accumulates / those of the network; None where any are unknown."""

    @property
    def unknown(self) -> list[str]:
        """Names of the modules whose multiply-accumulates are unknown."""
        return [name for name, macs in self.macs.items() if macs is None]


@checked
def off_crossbar_cost(network: NetworkCost) -> OffCrossbarCost:
    """Count the weights that a network does not have on crossbars, each once.

    Args:
        network: costs of the network.

    Returns:
        Costs of linear layers, convolutions and all other modules with weight matrices that are not
        analog, by name.
    """
    digital = {name: layer for name, layer in network.layers.items() if not layer.analog}
    parts: dict[str, LayerCost | OtherCost] = {**digital, **network.others}
    weights = {name: part.weights for name, part in parts.items()}
    macs = {name: part.macs for name, part in parts.items()}
    known = [count for count in macs.values() if count is not None]
    overhead = sum(known) / network.macs if network.macs else 0.0
    return OffCrossbarCost(
        weights,
        macs,
        sum(weights.values()) / network.weights,
        overhead if len(known) == len(macs) else None,
    )


@checked
def calibration_overhead(network: NetworkCost, added_weights: int) -> float:
    """Return the overhead in weights of a calibration.

    Args:
        network: costs of the network without compensation.
        added_weights: digital weights that the calibration adds, ``ChipCalibration.cost(model)``.
    """
    return added_weights / network.weights


@checked
def total_overhead(parts: Iterable[float | None]) -> float | None:
    """Add the overheads of compensation, calibration and layers off the crossbars.

    Args:
        parts: overhead of each part; None for one that is absent.

    Returns:
        Their sum; None if all are absent or 0.
    """
    added = [part for part in parts if part]
    return sum(added) if added else None


@checked
def uniform_placement(
    network: NetworkCost,
    layers: Sequence[str],
    limit: float | None,
    corrector: Corrector = PAPER,
    min_ratio: float = 0.0,
    *,
    limit_macs: float | None = 0.05,
) -> Placement:
    """Give layers one common ratio, as large as the overhead limits allow.

    It is one of the ratios k / C of whole filters of the layers' widths C (1 for a corrector
    without a size). Layers are taken in the order given, each that still fits with the smallest
    ratio (at least one filter). Where none fits with a filter, and something is left of the
    corrector without filters, layers get that: ``"size 0"``.

    Args:
        network: costs of the network.
        layers: the layers, the most important first.
        limit: largest overhead in weights, such as 0.05; None: no limit.
        corrector: kind of corrector.
        min_ratio: smallest ratio worth taking: rather fewer layers than a smaller one.
        limit_macs: largest overhead in MACs; None: no limit.

    Raises:
        CnetError: if no layer is given, one is unknown, or none stays within the limits.
    """
    _check_given(network, layers)

    def cost(names: Sequence[str], ratio: float | str) -> CompensationCost:
        return compensation_cost(network, Placement(dict.fromkeys(names, ratio)), corrector)

    def fits(names: Sequence[str], ratio: float | str) -> bool:
        return over_limit(cost(names, ratio), limit, limit_macs) is None

    def fitting(ratio: float | str) -> list[str]:
        chosen: list[str] = []
        for name in layers:
            if fits([*chosen, name], ratio):
                chosen.append(name)
        return chosen

    widths = {network.layers[name].shape.out_channels for name in layers}
    # one filter of the widest layer, where no smallest ratio is given
    least = max(min_ratio, 1 / max(widths)) if corrector.sized else 1.0
    chosen = fitting(least)
    if not chosen:
        bare = corrector.sized and not corrector.smallest and not min_ratio
        smallest = with_size(0) if bare else least
        if bare and (chosen := fitting(smallest)):
            return Placement(dict.fromkeys(chosen, smallest))
        advice = f"take a cheaper corrector than {corrector.label()}"
        costs = {name: cost([name], smallest) for name in layers}
        raise _none_fits(costs, limit, limit_macs, advice)
    ratios = {least}
    if corrector.sized:
        widths = {network.layers[name].shape.out_channels for name in chosen}
        ratios |= {k / c for c in widths for k in range(1, c + 1)}
    return Placement(
        dict.fromkeys(chosen, max(r for r in ratios if r >= least and fits(chosen, r)))
    )


@checked
def digital_placement(
    network: NetworkCost,
    layers: Sequence[str],
    limit: float | None,
    *,
    limit_macs: float | None = 0.05,
) -> Placement:
    """Keep layers digital within the overhead limits: in the order given, each that still fits.

    Args:
        network: costs of the network.
        layers: the layers, the most sensitive first.
        limit: largest overhead in weights; None: no limit.
        limit_macs: largest overhead in MACs; None: no limit.

    Raises:
        CnetError: if no layer is given, one is unknown, or none fits.
    """
    _check_given(network, layers)

    def cost(names: Iterable[str]) -> CompensationCost:
        return compensation_cost(network, Placement(dict.fromkeys(names, DIGITAL)))

    chosen: list[str] = []
    for name in layers:
        if over_limit(cost([*chosen, name]), limit, limit_macs) is None:
            chosen.append(name)
    if not chosen:
        raise _none_fits({n: cost([n]) for n in layers}, limit, limit_macs, "give other layers")
    return Placement(dict.fromkeys(chosen, DIGITAL))


@dataclass(frozen=True)
class OverLimit:
    """A limit that is passed."""

    key: str
    """"limit" (weights) or "limit_macs"."""

    limit: float
    """The limit, a share of the network's."""

    overhead: float
    """The overhead that passes it."""

    def __str__(self) -> str:
        measure = "weights" if self.key == "limit" else "MACs"
        over = self.overhead - self.limit
        return (
            f"{self.overhead:.4g} of the network's {measure}, {over:.4g} over the limit of "
            f"{self.limit:.4g}"
        )


def is_within(overhead: float, limit: float | None) -> bool:
    """Say whether an overhead keeps a limit, from which sums may differ in their last bits."""
    return limit is None or overhead <= limit + 1e-12


@checked
def over_limit(
    cost: CompensationCost, limit: float | None, limit_macs: float | None
) -> OverLimit | None:
    """Return the limit that a cost passes, the one passed by the larger factor; None if none.

    Args:
        cost: cost of a placement.
        limit: largest overhead in weights; None: no limit.
        limit_macs: largest overhead in MACs; None: no limit.
    """
    found = ("limit", limit, cost.overhead_weights), ("limit_macs", limit_macs, cost.overhead_macs)
    passed = [
        OverLimit(key, most, overhead)
        for key, most, overhead in found
        if most is not None and not is_within(overhead, most)
    ]
    return max(passed, key=_factor, default=None)


def _factor(passed: OverLimit) -> float:
    return passed.overhead / max(passed.limit, 1e-12)


def _none_fits(
    costs: dict[str, CompensationCost],
    limit: float | None,
    limit_macs: float | None,
    advice: str,
) -> CnetError:
    """Return the error of limits within which none of the costs stays."""
    passed = {name: over_limit(cost, limit, limit_macs) for name, cost in costs.items()}
    name, least = min(
        ((name, over) for name, over in passed.items() if over is not None),
        key=lambda item: _factor(item[1]),
    )
    return CnetError(
        f"the overhead limits allow no compensation: the least, at {name!r}, costs {least}; raise "
        f"the limit or {advice}.",
        key=least.key,
        value=least.limit,
        expected=f"at least {least.overhead:.4g}",
    )


def _check_known(network: NetworkCost, layers: Iterable[str]) -> None:
    for name in layers:
        if name not in network.layers:
            known = ", ".join(network.layers)
            raise CnetError(
                f"the network does not run a layer {name!r}; it runs {known}.",
                key=name,
                expected=tuple(network.layers),
            )


def _check_given(network: NetworkCost, layers: Sequence[str]) -> None:
    if not layers:
        raise CnetError(
            "no layer is given to compensate; name layers, or choose more candidates.",
            key="layers",
            value=list(layers),
            expected="at least one layer",
        )
    _check_known(network, layers)
    analog = [name for name, layer in network.layers.items() if layer.analog]
    for name in layers:
        if analog and name not in analog:
            expected = f"layers on crossbars: {', '.join(analog)}"
            raise bad_value("layers", name, expected, "give network_cost(...).correctable")
