"""Figures and tables of kernel features: rows that they draw."""

from typing import Any

import pytest

from cnet_aihw.report.figures import kernels
from cnet_aihw.report.kernel_tables import kernel_rows
from cnet_aihw.report.style import figure_style
from cnet_aihw.report.tables import ACCURACY, Table


def measured(ratio: float, predicted: float | None = None) -> dict[str, Any]:
    numbers = {f"{name}_{of}": 0.1 * ratio for name in ("clean", "score") for of in STATISTICS}
    errors = {f"{n}_{of}": 0.5 for n in ("clean_error", "kernel_error") for of in STATISTICS}
    head = {"kernel": "rbf", "features": "rff", "log2_ratio": ratio, "s": 4, "scale": 0.9}
    return {**head, **numbers, **errors, "predicted_error": predicted, "failed": 0}


STATISTICS = ("mean", "std", "q05")
FOUND = {
    "rows": [measured(3.0, 0.4), measured(1.0)],
    "baselines": [
        {"method": "Nystroem", "kernel": "rbf", "features": 8, "s": 4, "clean_mean": 0.9}
    ],
    **{"readout": "chip", "match": False, "chips": 2, "seeds": 3},
}


def test_baselines_stand_below_what_was_measured_on_chips() -> None:
    first, second, last = kernel_rows(FOUND)
    assert (first["clean"], first["mean"], first["error"]) == pytest.approx((0.3, 0.3, 0.5))
    assert (first["scale"], first["failed"], second["chips"]) == (None, None, 2)
    assert (last["method"], last["clean"], last["features"]) == ("Nystroem", 0.9, "8")
    assert kernel_rows({**FOUND, "match": True})[0]["scale"] == 0.9


def test_score_and_error_are_drawn_over_the_size() -> None:
    with figure_style():
        plot = kernels.over_size(Table("kernels", [], kernel_rows(FOUND)), ACCURACY)
    assert plot is not None
    score, error = plot.figure.axes
    drawn = [(list(line.get_xdata()), list(line.get_ydata())) for line in score.lines]
    assert drawn[1][0] == [1.0, 3.0]
    assert drawn[1][1] == pytest.approx([10.0, 30.0])
    assert [list(line.get_xdata()) for line in error.lines] == [[1.0, 3.0], [1.0, 3.0], [3.0]]
    assert kernels.over_size(Table("kernels", [], []), ACCURACY) is None


def test_measured_kernels_are_drawn_over_expected_ones() -> None:
    names = {"kernel": "rbf", "features": "rff", "s": 4}
    pairs = [
        {**names, "exact": 0.5, "expected": 0.4, "measured": 0.41},
        {**names, "exact": 0.7, "expected": None, "measured": 0.6},
    ]
    with figure_style():
        plot = kernels.expected(Table("kernel-pairs", [], pairs))
    assert plot is not None
    exact, expected, _ = plot.figure.axes[0].lines
    assert (list(exact.get_xdata()), list(exact.get_ydata())) == ([0.5, 0.7], [0.41, 0.6])
    assert (list(expected.get_xdata()), list(expected.get_ydata())) == ([0.4], [0.41])
    assert kernels.expected(Table("kernel-pairs", [], [])) is None
