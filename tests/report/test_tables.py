"""One list of rows as text, Markdown, HTML and CSV."""

import json
from pathlib import Path
from typing import Any

import pytest

from cnet_aihw.report.load import read_run
from cnet_aihw.report.rows import results_rows
from cnet_aihw.report.run_tables import results_columns, results_text, worse_with_correctors
from cnet_aihw.report.tables import Column, Metric, Row, Table, counted, counted_in
from cnet_aihw.report.tuning_tables import tuning_columns
from cnet_aihw.report.uncertainty_tables import uncertainties_table
from cnet_aihw.tasks import Classification, MultiLabel, Regression, Segmentation, Task

TABLE = Table(
    "some",
    [
        Column("name"),
        Column("share", "kept", "%"),
        Column("count"),
        Column("absent"),
        Column("own", text=lambda value: f"<{value}>"),
    ],
    [
        {"name": "a", "share": 0.12345, "count": 3, "own": 1},
        {"name": "longer", "share": None, "count": 12, "own": 2},
    ],
)


def test_text_is_aligned_by_kind() -> None:
    lines = TABLE.filled().as_text("title").splitlines()
    assert lines == [
        "title",
        "name    kept %  count  own",
        "--------------------------",
        "a        12.35      3  <1>",
        "longer       -     12  <2>",
    ]


def test_headings_wider_than_their_values_go_over_lines_above_the_rule() -> None:
    columns = [Column("kind"), Column("q", "worst 5 % quantile", "%"), Column("indivisible")]
    row = {"kind": "plain network", "q": 0.5, "indivisible": 1}
    assert Table("some", columns, [row]).as_text().splitlines() == [
        "                worst 5 %",
        "kind           quantile %  indivisible",
        "--------------------------------------",
        "plain network       50.00            1",
    ]
    assert Table("none", columns[:1], []).as_text() == "kind\n----\n"


def test_a_column_of_zeros_is_shown_and_one_without_values_is_not() -> None:
    table = Table("some", [Column("zero"), Column("none")], [{"zero": 0, "none": None}, {}])
    assert [column.name for column in table.filled().columns] == ["zero"]


@pytest.mark.parametrize(
    ("metric", "worst", "words"),
    [
        (Metric(), "min", "at least 50.00"),
        (Metric("RMSE", higher_is_better=False), "max", "at most 0.5"),
    ],
)
def test_worst_chips_and_thresholds_are_those_of_the_direction(
    metric: Metric, worst: str, words: str
) -> None:
    for columns in (results_columns(metric), tuning_columns(metric)):
        assert [c.name for c in columns if c.heading == "worst chip"] == [worst]
    assert words in results_text(Table("results", (), [{"threshold": 0.5}]), metric)


def test_a_recovery_is_relative_to_the_plain_network_without_compensation() -> None:
    def result(training: str, clean: float, mean: float, **more: Any) -> dict[str, Any]:
        costs = dict.fromkeys(("overhead_weights", "overhead_macs"))
        crossbar = dict.fromkeys(("levels", "adc_bits", "adc_cost"))
        measured = {"calibration": {"label": None}, "statistics": [{"clean": clean, "mean": mean}]}
        return {"training": training, "crossbar": crossbar, **costs, **measured, **more}

    compensated = result("plain", 0.7, 0.6, compensation={"label": "low rank"})
    results = [compensated, result("plain", 0.8, 0.4), result("noise", 0.7, 0.6)]
    rows = results_rows(results, lambda score, clean: score / clean)
    assert [row["recovery"] for row in rows] == pytest.approx([0.75, 0.5, 0.75])


@pytest.mark.parametrize(("metric", "sign"), [(Metric(), 1), (Metric("RMSE", False), -1)])
def test_correctors_that_lower_a_score_beyond_chance_are_said(metric: Metric, sign: int) -> None:
    def row(training: str, mean: float, compensation: str | None = None, **more: Any) -> Row:
        values = {"t_inference": None, "mean": 0.5 + sign * mean, "std": 0.05, "chips": 50}
        return {"training": training, "compensation": compensation, **values, **more}

    two_errors = 2 * (2 * 0.05**2 / 50) ** 0.5
    rows = [
        *(row("plain", 0.2), row("plain", 0.3, "low rank")),
        *(row("chance", 0.2), row("chance", 0.2 - 0.99 * two_errors, "low rank")),
        *(row("noise", 0.2), row("noise", 0.2 - 1.01 * two_errors, "low rank", images=1000)),
        *(row("one", 0.2, chips=1), row("one", 0.1, "low rank", chips=1)),
        *(row("late", 0.2, t_inference=60.0), row("late", 0.1, "shared", t_inference=60.0)),
    ]
    # of 50 chips 48 have failed, or all but one: the errors are those of the others
    failed = {"failed": 48}
    rows += [
        *(row("few", 0.2, **failed), row("few", 0.2 - 1.5 * two_errors, "low rank", **failed)),
        *(row("alone", 0.2, std=None, failed=49), row("alone", 0.1, "low rank")),
        *(row("left", 0.2), row("left", 0.1, "low rank", std=None, failed=49)),
    ]
    noise, late = worse_with_correctors(rows, metric)
    assert noise.startswith("noise is worse with its correctors: ")
    assert noise.endswith("give compensation=none, or another compensation.per_chip.target.")
    assert late.startswith("late is worse with its correctors at 60 s: ")
    assert late.endswith(" without; give compensation=none.")


def test_markdown_has_the_same_cells() -> None:
    assert TABLE.filled("own").as_markdown().splitlines() == [
        "| name | kept % | count |",
        "|---|---|---|",
        "| a | 12.35 | 3 |",
        "| longer | - | 12 |",
    ]


def test_markdown_keeps_bars_in_their_cell() -> None:
    table = Table("some", [Column("name"), Column("count")], [{"name": "a|b", "count": 1}])
    assert table.as_markdown().splitlines()[-1] == r"| a\|b | 1 |"


def test_html_is_escaped_and_says_the_kind() -> None:
    html = TABLE.filled("share").as_html()
    assert '<td class="number">&lt;1&gt;</td>' in html
    assert '<th scope="col" class="text">name</th>' in html
    assert '<th scope="col" class="number">kept <span>%</span></th>' in TABLE.as_html()


def test_csv_has_all_values_as_they_are() -> None:
    assert TABLE.as_csv().splitlines() == [
        "name,share,count,absent,own",
        "a,0.12345,3,,1",
        "longer,,12,,2",
    ]


def test_a_metric_has_unit_and_direction() -> None:
    rows = [{"mean": 1.0}, {"mean": 2.0}]
    accuracy, rmse = Metric(), Metric("RMSE", higher_is_better=False)
    assert (accuracy.best(rows, "mean"), rmse.best(rows, "mean")) == (rows[1], rows[0])
    assert (accuracy.text(0.5), rmse.text(0.5)) == ("50.00\N{NO-BREAK SPACE}%", "0.5")
    assert (accuracy.label, rmse.label) == ("accuracy, %", "RMSE")
    assert Metric.of(None, {}, {"metric": "RMSE", "higher_is_better": False}) == rmse


@pytest.mark.parametrize(
    "task",
    [
        *(Classification(), Segmentation("mIoU"), Segmentation("Dice"), MultiLabel("mAP")),
        *(MultiLabel("F1"), Regression(metric="R2"), Regression(metric="MAE")),
    ],
)
def test_a_score_has_the_unit_in_which_its_task_writes_it(task: Task) -> None:
    metric = Metric(task.metric, task.higher_is_better)
    assert metric.text(0.5).replace("\N{NO-BREAK SPACE}", " ") == task.format(0.5)
    (shown,) = metric.shown([0.5])
    assert f"{shown:g}" in task.format(0.5).replace(".00", "")


def test_the_accuracy_of_uncertain_predictions_is_in_the_table(tmp_path: Path) -> None:
    scores = {"nll": 0.5, "brier": 0.2, "ece": 0.1, "ece_mass": 0.1, "entropy": 1.0}
    row = {"samples": 4, "t_inference": None, "mean": {"accuracy": 0.75, **scores}}
    row["std"] = {"accuracy": 0.1, "nll": 0.2}
    found = {"training": "plain", "method": "chips", "correction": "none", "chips": 2}
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "run.json").write_text("{}")
    record = {**found, "rows": [row], "reliability": []}
    (tmp_path / "plain" / "uncertainty-chips.json").write_text(json.dumps(record))
    (shown,) = uncertainties_table(read_run(tmp_path)).rows
    assert (shown["accuracy"], shown["nll_std"]) == (0.75, 0.2)


def test_a_number_of_things_has_its_plural() -> None:
    assert [counted(count, "chip") for count in (0, 1, 2)] == ["0 chips", "1 chip", "2 chips"]
    for counts, text in (((1,), "1 chip"), ((5, 3, 5), "3 or 5 chips")):
        assert counted_in([{"n": count} for count in counts], "n", "chip") == text
