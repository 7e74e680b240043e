"""Figures of attacks: rows that they draw."""

from types import SimpleNamespace

import pytest

from cnet_aihw.report.attack_tables import matrix_table
from cnet_aihw.report.figures import attacks
from cnet_aihw.report.style import figure_style
from cnet_aihw.report.tables import Column, Table

NAMES = {"training": "plain", "compensation": None, "attack": "pgd", "norm": "inf"}


def test_success_is_drawn_over_budgets_by_threat() -> None:
    rows = [
        {**NAMES, "threat": threat, "eps": eps, "mean": eps * f, "min": 0.0, "max": 2 * eps * f,
         "noise": 0.1 * eps, "chips": 3}
        for threat, f in (("nominal", 1.0), ("this_chip", 2.0))
        for eps in (0.2, 0.0, 0.1)
    ]  # fmt: skip
    with figure_style():
        plot = attacks.success(Table("attacks", [Column("eps")], rows))
    (field,) = plot.figure.axes
    drawn = [(list(line.get_xdata()), list(line.get_ydata())) for line in field.lines]
    for (x, y), factor in zip(drawn, (100.0, 200.0, 10.0), strict=True):
        assert x == [0.0, 0.1, 0.2]
        assert y == pytest.approx([0.0, 0.1 * factor, 0.2 * factor])
    assert attacks.success(Table("attacks", [], [])) is None


def test_the_matrix_is_that_of_the_middle_budget_above_0() -> None:
    matrices = [{"eps": eps, "rates": [[eps, None], [0.0, eps]]} for eps in (0.3, 0.0, 0.1, 0.2)]
    result = {**NAMES, "calibration": None, "attack": {"name": "pgd"}, "matrices": matrices}
    run = SimpleNamespace(trainings=[SimpleNamespace(attacks=[result])])
    found = [(r["eps"], r["source"], r["target"], r["success"]) for r in matrix_table(run).rows]
    assert found == [(0.2, 0, 0, 0.2), (0.2, 1, 0, 0.0), (0.2, 1, 1, 0.2)]


def test_the_matrix_has_sources_in_rows() -> None:
    rows = [
        {**NAMES, "eps": 0.1, "source": source, "target": target, "success": 0.1 * source}
        for source in range(3)
        for target in range(2)
        if (source, target) != (2, 0)
    ]
    with figure_style():
        plot = attacks.matrix(Table("attack-matrix", [], rows))
    cells = plot.figure.axes[0].images[0].get_array()
    assert cells.shape == (3, 2)
    assert cells[:, 1].tolist() == pytest.approx([0.0, 10.0, 20.0])
    assert cells.mask[2, 0] if cells.mask.any() else cells[2, 0] != cells[2, 0]
    assert attacks.matrix(Table("attack-matrix", [], [])) is None
