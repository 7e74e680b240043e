"""Figures of searches for a placement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cnet_aihw.report.figures.plot import (
    Look,
    Plot,
    Row,
    colors_of,
    grouped,
    legend_below,
    percent,
    whole_numbers,
)
from cnet_aihw.report.load import Search
from cnet_aihw.report.search_tables import evaluations_table, limit_of
from cnet_aihw.report.style import INK, QUIET, new_figure
from cnet_aihw.report.tables import ACCURACY, Metric, Table

_ROUNDING = 1e-9  # by which means of the same scores may differ
_MEASURES = {"weights": "weights added, %", "macs": "MACs added, %"}


def both(name: str, what: str, searches: Sequence[Search], metric: Metric = ACCURACY) -> list[Plot]:
    """Draw the two figures of some searches for one network; none without evaluations.

    Args:
        name: for their files.
        what: the compensated network, in words.
        searches: with any searchers and seeds.
        metric: the score.
    """
    evaluations = evaluations_table(name, searches, metric)
    measure, limit = limit_of(searches)
    plots = (progress(what, evaluations), trade_off(what, evaluations, measure, limit, metric))
    return [plot for plot in plots if plot is not None]


def progress(what: str, evaluations: Table) -> Plot | None:
    """Draw the best reward so far against evaluations, a line for each search.

    Args:
        what: the compensated network, in words.
        evaluations: all placements evaluated; the name of the table names the figure's files.
    """
    if not evaluations.rows:
        return None
    figure, (field,) = new_figure(3.4)
    colors = colors_of(row["searcher"] for row in evaluations.rows)
    for (searcher, _), rows in grouped(evaluations.rows, "searcher", "seed").items():
        x = [row["evaluation"] for row in rows]
        y = percent(row["best_reward"] for row in rows)
        field.step(x, y, where="post", color=colors[searcher], marker="o" if len(x) == 1 else None)
    field.set_xlabel("placements evaluated")
    field.set_ylabel("best reward so far, %")
    whole_numbers(field)
    legend_below(figure, [(name, {"color": color}) for name, color in colors.items()])
    caption = (
        f"Searches for compensation of {what}: the highest reward (objective over chips - "
        "overhead) among the placements evaluated so far, also where the store had them; a line "
        "for each seed."
    )
    return Plot(evaluations.name, f"Search: best so far ({what})", caption, figure, evaluations)


def trade_off(
    what: str,
    evaluations: Table,
    measure: str,
    limit: float | None,
    metric: Metric = ACCURACY,
) -> Plot | None:
    """Draw the score of each placement against its overhead, and the Pareto front.

    Args:
        what: the compensated network, in words.
        evaluations: all placements evaluated.
        measure: the overhead that the searches counted, ``weights`` or ``macs``.
        limit: the largest overhead allowed; None where it is not known.
        metric: the score.
    """
    if not evaluations.rows:
        return None
    overhead = f"overhead_{measure}"
    figure, (field,) = new_figure(3.6)
    colors = colors_of(row["searcher"] for row in evaluations.rows)
    for searcher, rows in grouped(evaluations.rows, "searcher").items():
        x = percent(row[overhead] for row in rows)
        y = metric.shown(row["score"] for row in rows)
        field.scatter(x, y, s=22, color=colors[searcher], alpha=0.8, linewidths=0)
    front = pareto_front(evaluations.rows, overhead, metric)
    x = percent(row[overhead] for row in front)
    y = metric.shown(row["score"] for row in front)
    field.step(x, y, where="post", color=INK, linewidth=1.0, zorder=1)
    best = max(evaluations.rows, key=lambda row: row["reward"])
    ring: Look = {"marker": "o", "markersize": 9, "markerfacecolor": "none", "linestyle": "none"}
    field.plot(100.0 * best[overhead], metric.shown([best["score"]]), color=INK, **ring)
    if limit is not None:
        field.axvline(100.0 * limit, color=QUIET, linestyle=":")
    field.set_xlabel(_MEASURES[measure])
    field.set_ylabel(f"mean {metric.name} on chips{', %' if metric.unit else ''}")
    dot = {"marker": "o", "linestyle": "none"}
    searchers: list[tuple[str, Look]] = [
        (name, {**dot, "color": color}) for name, color in colors.items()
    ]
    others: list[tuple[str, Look]] = [
        ("highest reward", {**ring, "color": INK}),
        ("Pareto front", {"color": INK}),
    ]
    if limit is not None:
        others.append(("limit", {"linestyle": ":"}))
    legend_below(figure, searchers, others)
    caption = (
        f"Each point is a placement evaluated for {what}, on the chips and the data of the "
        "search. On the front no other one has a better score without costing more."
    )
    name = evaluations.name.replace("search", "pareto", 1)
    return Plot(name, f"Search: {metric.name} and overhead ({what})", caption, figure, evaluations)


def pareto_front(rows: Iterable[Row], cost: str, metric: Metric = ACCURACY) -> list[Row]:
    """Return the rows with a better score than every one that costs no more, cheapest first."""
    sign = 1.0 if metric.higher_is_better else -1.0
    front: list[Row] = []
    for row in sorted(rows, key=lambda row: (row[cost], -sign * row["score"])):
        if not front or sign * row["score"] > sign * front[-1]["score"] + _ROUNDING:
            front.append(row)
    return front
