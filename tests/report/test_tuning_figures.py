"""Figures of tuning: points that they draw."""

import pytest

from cnet_aihw.report.figures import tunings
from cnet_aihw.report.style import figure_style
from cnet_aihw.report.tables import ACCURACY, Metric, Table

NAMES = {"training": "plain", "compensation": None, "rewrite_sigma": 0.1, "chips": 3}


def row(tune: str, writes: float, score: float, calibrated: float | None) -> dict:
    return {
        **NAMES, "tune": tune, "backward": "model", "before": 0.5, "score": score, "std": 0.01,
        "writes_mean": writes, "per_chip": calibrated, "tuned_per_chip": calibrated,
        "overhead": 0.04,
    }  # fmt: skip


def test_the_front_has_writes_and_calibrated_chips() -> None:
    rows = [row("all", 60.0, 0.9, 0.8), row("progressive", 1.0, 0.7, 0.8)]
    with figure_style():
        plot = tunings.front(Table("tunings", [], rows), ACCURACY)
    (field,) = plot.figure.axes
    drawn = {
        (line.get_marker(), x, round(float(y), 6))
        for line in field.lines
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
        if line.get_marker() in "os"
    }
    assert drawn == {
        *(("o", 60.0, 90.0), ("o", 60.0, 80.0), ("o", 1.0, 70.0), ("o", 1.0, 80.0)),
        ("s", 1.0, 80.0),
    }
    assert field.get_xscale() == "log"
    assert tunings.front(Table("tunings", [], []), ACCURACY) is None


def test_the_course_is_over_samples() -> None:
    rows = [
        {**NAMES, "tune": "all", "backward": "model", "forwards": 100.0 * n, "score": 0.1 * n}
        for n in (1, 2, 3)
    ]
    with figure_style():
        plot = tunings.course(Table("tuning-course", [], rows), Metric("R2"))
    (line,) = plot.figure.axes[0].lines
    assert list(line.get_xdata()) == [100.0, 200.0, 300.0]
    assert list(line.get_ydata()) == pytest.approx([0.1, 0.2, 0.3])
    assert tunings.course(Table("tuning-course", [], []), ACCURACY) is None
