"""The same chips without and with compensation, and which row of a table is of a measurement."""

import json
from pathlib import Path
from typing import Any

import pytest

from cnet_aihw.report.chip_tables import recovered_chips_table, recovered_table
from cnet_aihw.report.load import read_run
from cnet_aihw.report.run_page import write_run_report
from cnet_aihw.report.run_tables import chips_table, results_table


def statistics(scores: list[float], clean: float, **more: Any) -> dict[str, Any]:
    mean = sum(scores) / len(scores)
    found = {"scores": scores, "clean": clean, "mean": mean, "std": 0.1, "q05": min(scores)}
    found |= {"min": min(scores), "max": max(scores), "chips": len(scores), "seed": 0}
    return {**found, "t_inference": None, "yield": None, "threshold": None, **more}


def write(folder: Path, name: str, *each: dict[str, Any], **more: Any) -> None:
    (folder / "plain").mkdir(exist_ok=True)
    (folder / "plain" / "run.json").write_text("{}")
    record = {"statistics": each, "calibration": {"label": None}, **more}
    (folder / "plain" / f"{name}.json").write_text(json.dumps(record))


COMPENSATED = {"compensation": {"label": "low rank"}}
RMSE = {"metric": "RMSE", "higher_is_better": False}


def shares(folder: Path) -> list[float | None]:
    return [row["recovered"] for row in recovered_chips_table(read_run(folder)).rows]


@pytest.mark.parametrize(
    ("metric", "without", "with_", "clean", "wanted"),
    [
        ({}, [0.6, 0.8, 0.95], [0.8, 0.7, 0.97], 0.9, [2 / 3, -1.0, None]),
        (RMSE, [4.0, 3.0, 1.5], [3.0, 3.5, 1.0], 2.0, [0.5, -0.5, None]),
    ],
)
def test_a_chip_that_lost_nothing_has_nothing_to_recover(
    metric: dict[str, Any],
    without: list[float],
    with_: list[float],
    clean: float,
    wanted: list[float | None],
    tmp_path: Path,
) -> None:
    write(tmp_path, "chips", statistics(without, clean, **metric))
    write(tmp_path, "chips-compensated", statistics(with_, clean, **metric), **COMPENSATED)
    for found, value in zip(shares(tmp_path), wanted, strict=True):
        assert found is None if value is None else found == pytest.approx(value)
    (row,) = recovered_table(read_run(tmp_path)).rows
    assert row["better"] == pytest.approx(2 / 3)
    worst = max if metric else min
    assert (row["worst_without"], row["worst_with"]) == (worst(without), worst(with_))


def test_a_chip_that_stays_as_it_was_gains_nothing_and_a_score_of_0_is_one(tmp_path: Path) -> None:
    write(tmp_path, "chips", statistics([0.0, 0.8], 0.9))
    write(tmp_path, "chips-compensated", statistics([0.0, 0.85], 0.9), **COMPENSATED)
    run = read_run(tmp_path)
    assert [row["score"] for row in chips_table(run).rows] == [0.0, 0.8, 0.0, 0.85]
    (row,) = recovered_table(run).rows
    assert (row["better"], row["chips"]) == (0.5, 2)


def test_chips_are_compared_at_the_same_time_on_the_same_device(tmp_path: Path) -> None:
    write(tmp_path, "chips", statistics([0.7], 0.9, t_inference=1.0))
    late, early = (statistics([s], 0.9, t_inference=t) for s, t in ((0.5, 99.0), (0.8, 1.0)))
    write(tmp_path, "chips-compensated", late, early, **COMPENSATED)
    assert shares(tmp_path) == [pytest.approx(0.5)]
    for others in (late, {**early, "seed": 1}):
        write(tmp_path, "chips-compensated", others, **COMPENSATED)
        assert shares(tmp_path) == []
    for name, device in (("chips", "one"), ("chips-compensated", "other")):
        provenance = {"provenance": {"noise_model": device}}
        more = COMPENSATED if name != "chips" else {}
        write(tmp_path, name, statistics([0.7], 0.9), **more, **provenance)
    assert shares(tmp_path) == []


def test_a_table_of_other_measurements_lends_no_recovery(tmp_path: Path) -> None:
    write(tmp_path, "chips", statistics([0.7], 0.9), calibration={"label": "affine"})
    row = {"training": "plain", "compensation": None, "t_inference": None, "recovery": 0.75}
    for calibration, mean, wanted in (
        *(("affine", 0.7, 0.75), ("BatchNorm", 0.7, None), ("affine", 0.6, None)),
    ):
        rows = [{**row, "calibration": calibration, "mean": mean}]
        (tmp_path / "table.json").write_text(json.dumps({"rows": rows}))
        (found,) = results_table(read_run(tmp_path)).rows
        assert found["recovery"] == wanted


def test_a_network_that_was_selected_is_counted_once(tmp_path: Path) -> None:
    for name in ("chips", "chips-selected"):
        write(tmp_path, name, statistics([0.7, 0.8], 0.9))
    assert len(chips_table(read_run(tmp_path)).rows) == 2
    write(tmp_path, "chips-selected", statistics([0.7, 0.9], 0.9))
    assert len(chips_table(read_run(tmp_path)).rows) == 4


@pytest.mark.parametrize(("metric", "wanted"), [({}, 1.6), (RMSE, 2.5)])
def test_the_threshold_is_drawn_where_layers_become_candidates(
    metric: dict[str, Any], wanted: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = {}

    def sensitivity(scan: Any, colors: Any, thresholds: dict[str, float], metric: Any) -> None:
        drawn.update(thresholds)

    monkeypatch.setattr("cnet_aihw.report.run_page.layers.sensitivity", sensitivity)
    write(tmp_path, "chips", statistics([3.0], 2.0, **metric))
    scan = {"threshold": 0.8, "clean": 2.0, "rows": [], "candidates": [], **metric}
    (tmp_path / "plain" / "scan.json").write_text(json.dumps(scan))
    write_run_report(tmp_path)
    assert drawn == {"plain": pytest.approx(wanted)}  # an RMSE of 2.5 keeps 0.8 of one of 2
