"""Output of a running search, read back from the event files and from a terminal."""

import io
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cnet_aihw.compensation import Placement
from cnet_aihw.runtime.records import read_records
from cnet_aihw.search import (
    Evaluation,
    Evaluations,
    ObjectiveSettings,
    PlacementProblem,
    SearchContext,
    run_search,
)
from cnet_aihw.search.observers import DIGITAL_RATIO, TensorBoardCurves

from .synthetic import SMALL, Synthetic, placement_problem


@dataclass
class Talking:
    """Asks for the encodings in order and tells a figure of its own after every second one."""

    name: ClassVar[str] = "talking"

    def search(
        self,
        problem: PlacementProblem,
        evaluations: Evaluations,
        rng: np.random.Generator,
        context: SearchContext,
    ) -> None:
        for number, encoding in enumerate(problem.encodings(), start=1):
            evaluations(encoding)
            if number % 2 == 0:
                evaluations.scalars({"entropy": 1.0 / number})


class Stopping(Synthetic):
    """Stands for a search that is stopped after five evaluations."""

    def evaluate(self, placement: Placement) -> tuple[float, ...]:
        if len(self.evaluated) == 5:
            raise KeyboardInterrupt
        return super().evaluate(placement)


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    return {
        tag: [(point.step, point.value) for point in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def search(folder: Path, synthetic: Synthetic, progress: bool = False) -> list[dict]:
    run_search(
        synthetic.problem, synthetic, Talking(), folder, budget=9, progress=progress, name="x"
    )
    return read_records(folder / "search.jsonl")


def expected(rows: list[dict], problem: PlacementProblem) -> dict[str, list[float]]:
    """The curves that the lines of a trace make."""
    best = [max(rows[: n + 1], key=lambda row: row["reward"]) for n in range(len(rows))]
    columns = {
        "reward": [row["reward"] for row in rows],
        "score/mean": [row["score"] for row in rows],
        "score/std": [row["std"] for row in rows],
        "score/q05": [row["q05"] for row in rows],
        "overhead/weights": [row["overhead_weights"] for row in rows],
        "overhead/macs": [row["overhead_macs"] for row in rows],
        "best/reward": [row["best_reward"] for row in rows],
        "best/score": [row["score"] for row in best],
        "best/overhead_weights": [row["overhead_weights"] for row in best],
    }
    for layer in problem.layers:
        columns[f"ratio/{layer.name}"] = [r["placement"].get(layer.name, 0.0) for r in rows]
        columns[f"best_ratio/{layer.name}"] = [r["placement"].get(layer.name, 0.0) for r in best]
    return columns


def assert_curves(folder: Path, rows: list[dict], problem: PlacementProblem) -> None:
    shown = curves(folder)
    entropy = shown.pop("searcher/entropy")
    assert entropy == [(n, pytest.approx(1.0 / n)) for n in (2, 4, 6, 8)]
    assert shown.keys() == expected(rows, problem).keys()
    for tag, values in expected(rows, problem).items():
        assert [step for step, _ in shown[tag]] == list(range(1, len(rows) + 1)), tag
        assert [value for _, value in shown[tag]] == pytest.approx(values), tag


def test_the_command_that_shows_the_curves_starts() -> None:
    command = [sys.executable, "-m", "tensorboard.main", "--version"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    assert shown.stdout.strip() == version("tensorboard"), shown.stderr


def test_every_evaluation_is_a_point_of_every_curve(tmp_path: Path) -> None:
    synthetic = Synthetic(SMALL, 0.15)
    rows = search(tmp_path, synthetic)
    assert len(rows) == 9
    assert_curves(tmp_path, rows, synthetic.problem)


def test_a_search_that_goes_on_writes_no_point_twice(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path, Stopping(SMALL, 0.15))
    synthetic = Synthetic(SMALL, 0.15)
    assert_curves(tmp_path, search(tmp_path, synthetic), synthetic.problem)


def test_a_point_whose_line_a_kill_prevented_is_taken_back(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path, Stopping(SMALL, 0.15))
    trace = tmp_path / "search.jsonl"
    trace.write_bytes(b"".join(trace.read_bytes().splitlines(keepends=True)[:3]))
    synthetic = Synthetic(SMALL, 0.15)
    assert_curves(tmp_path, search(tmp_path, synthetic), synthetic.problem)


def test_a_layer_kept_digital_stands_below_all_ratios(tmp_path: Path) -> None:
    problem = PlacementProblem(
        placement_problem(SMALL, 0.15).layers,
        (0.0, 1.0, "digital"),
        ((0.0, 0.01, 0.02),) * 3,
        ((0.0, 0.01, 0.02),) * 3,
        1.0,
        None,
        ObjectiveSettings(),
    )
    observer = TensorBoardCurves(tmp_path / "tensorboard", problem)
    evaluations = Evaluations(
        problem, lambda placements: [(Evaluation((0.5,), 0.0), False)], 5, None, [observer]
    )
    evaluations((0, 1, 2))
    evaluations.close()
    shown = curves(tmp_path)
    heights = [shown[f"ratio/layer{i}"][0][1] for i in range(3)]
    assert heights == [0.0, 1.0, DIGITAL_RATIO]
    assert DIGITAL_RATIO < 0.0


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_how_far_the_search_is_and_its_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "200")
    rows = search(tmp_path, Synthetic(SMALL, 0.15), progress=True)
    best = max(rows, key=lambda row: row["reward"])
    last = terminal.getvalue().split("\r")[-1]
    assert "9/9" in last
    assert f"best {best['reward']:.4f}: " in last
    assert all(f"{name} {ratio}" in last for name, ratio in best["placement"].items())


@pytest.mark.parametrize(("stderr", "progress"), [(io.StringIO, True), (Terminal, False)])
def test_nothing_is_shown_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stderr: type[io.StringIO], progress: bool
) -> None:
    shown = stderr()
    monkeypatch.setattr(sys, "stderr", shown)
    search(tmp_path, Synthetic(SMALL, 0.15), progress=progress)
    assert shown.getvalue() == ""
