"""Figures of attacks on chips: success over budgets, and by source and target chip."""

from __future__ import annotations

from typing import Any

from cnet_aihw.report.figures.plot import Look, Plot, grouped, legend_below, percent
from cnet_aihw.report.style import QUIET, color_of, new_figure
from cnet_aihw.report.tables import Table, counted_in

_ATTACK = ("training", "compensation", "attack", "norm")
_THREATS = ("nominal", "other_chip", "other_chips_eot", "this_chip", "this_chip_eot")
_COLORS = {threat: color_of(index) for index, threat in enumerate(_THREATS)}


def success(attacks: Table) -> Plot | None:
    """Draw success over budgets by threat, one field an attack on a network."""
    rows = [row for row in attacks.rows if row["mean"] is not None]
    if not rows:
        return None
    groups = grouped(rows, *_ATTACK)
    figure, fields = new_figure(0.9 + 2.0 * len(groups), len(groups))
    shown: dict[str, Look] = {}
    for field, (attack, of_attack) in zip(fields, groups.items(), strict=True):
        for threat, line in grouped(of_attack, "threat").items():
            line = sorted(line, key=lambda row: float(row["eps"]))
            eps = [row["eps"] for row in line]
            look: Look = {"color": _COLORS.get(threat, QUIET), "marker": "o"}
            low, high = (percent(row[name] for row in line) for name in ("min", "max"))
            field.fill_between(eps, low, high, color=look["color"], alpha=0.15, linewidth=0)
            field.plot(eps, percent(row["mean"] for row in line), **look)
            shown[threat] = look
        noise = {row["eps"]: row["noise"] for row in of_attack if row["noise"] is not None}
        at = sorted(noise)
        look = {"color": QUIET, "linestyle": ":"}
        field.plot(at, percent(noise[eps] for eps in at), **look)
        shown["random noise"] = look
        field.set_title(_title(attack))
        field.set_ylabel("success, %")
        field.set_ylim(0.0, 102.0)
    fields[-1].set_xlabel("budget, in pixel units")
    legend_below(figure, shown.items())
    caption = (
        "Share of the inputs that a chip classifies correctly and misclassifies after the attack, "
        f"by what the attacker has. Lines are means over {counted_in(rows, 'chips', 'chip')}, "
        "bands reach from the least to the most fooled of them; the dotted line is random noise of "
        "the same size."
    )
    return Plot("attacks-success", "Success of attacks", caption, figure, attacks)


def matrix(rates: Table) -> Plot | None:
    """Draw success by the chip that an attack was made on, and the chip that it is used on."""
    if not rates.rows:
        return None
    groups = grouped(rates.rows, *_ATTACK)
    figure, fields = new_figure(0.5 + 2.6 * len(groups), len(groups))
    for field, (attack, rows) in zip(fields, groups.items(), strict=True):
        sources, targets = (1 + max(row[n] for row in rows) for n in ("source", "target"))
        cells: list[list[Any]] = [[float("nan")] * targets for _ in range(sources)]
        for row in rows:
            cells[row["source"]][row["target"]] = 100.0 * row["success"]
        image = field.imshow(cells, cmap="cividis", vmin=0.0, vmax=100.0, aspect="auto")
        figure.colorbar(image, ax=field, label="success, %")
        field.grid(visible=False)
        field.set_xticks(range(targets))
        field.set_yticks(range(sources))
        field.set_title(f"{_title(attack)}, eps {rows[0]['eps']:.3g}")
        field.set_xlabel("target chip")
        field.set_ylabel("source chip")
    caption = (
        "Success of changes that were made on one chip and are used on another; on the diagonal "
        "the attacker has the chip itself."
    )
    return Plot("attacks-matrix", "From chip to chip", caption, figure, rates)


def _title(attack: tuple[Any, ...]) -> str:
    training, compensation, name, norm = attack
    network = ", ".join(filter(None, (training, compensation)))
    return f"{network}: {name}, norm {norm}"
