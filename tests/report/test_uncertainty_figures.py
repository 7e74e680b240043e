"""Figures of uncertainty: points that they draw."""

import pytest

from cnet_aihw.report.figures import uncertainty
from cnet_aihw.report.style import figure_style
from cnet_aihw.report.tables import Table


def row(samples: int, time: float | None, nll: float, correction: str = "none") -> dict:
    return {
        **{"training": "bayes", "method": "cells", "correction": correction, "samples": samples},
        **{"t_inference": time, "nll": nll, "ece": nll / 10},
    }


def drawn(plot: object) -> list[list[tuple[float, float]]]:
    return [
        [tuple(map(float, point)) for point in zip(line.get_xdata(), line.get_ydata(), strict=True)]
        for axes in plot.figure.axes
        for line in axes.lines
    ]


def test_scores_are_drawn_over_samples_and_over_time() -> None:
    rows = [row(1, 1.0, 0.5), row(4, 1.0, 0.4), row(1, 9.0, 0.9), row(4, 9.0, 0.6)]
    with figure_style():
        over_samples = uncertainty.over_samples(Table("uncertainties", [], rows))
        over_time = uncertainty.over_time(Table("uncertainties", [], rows))
        still = uncertainty.over_time(Table("uncertainties", [], rows[:2]))
    assert drawn(over_samples) == [[(1, 0.5), (4, 0.4)], [(1, 0.05), (4, 0.04)]]
    assert drawn(over_time) == [[(1, 0.4), (9, 0.6)], [(1, 0.04), (9, pytest.approx(0.06))]]
    assert still is None
    assert uncertainty.over_samples(Table("uncertainties", [], [])) is None


def test_reliability_has_the_bins() -> None:
    named = {"training": "bayes", "method": "cells", "correction": "none"}
    rows = [
        {**named, "confidence": 0.6, "accuracy": 0.5},
        {**named, "confidence": 1, "accuracy": 1},
    ]
    with figure_style():
        plot = uncertainty.reliability(Table("reliability", [], rows))
    assert drawn(plot)[1] == [(0.6, 0.5), (1.0, 1.0)]
    assert uncertainty.reliability(Table("reliability", [], [])) is None
